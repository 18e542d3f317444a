"""What pieces sound like, small enough for a page to hold; or why nothing can be heard."""

import contextlib
from collections.abc import Sequence

from seqgen.data.corpora import Progress
from seqgen.errors import UserError
from seqgen.evaluation.generated import Generated
from seqgen.rendering.sound.soundfonts import find_soundfont
from seqgen.rendering.sound.synthesis import synthesise
from seqgen.rendering.sound.synthesizer import Synthesizer

OPENING_SECONDS = 60.0  # of a piece: some 400 kB
COMPRESSION = 1.0  # the smallest Ogg file, of some 50 kbit/s


def play_openings(
    pieces: Sequence[Generated], *, progress: Progress
) -> tuple[dict[str, bytes], str]:
    """Return Ogg files by the name of the piece, and what to say of them.

    Pieces that cannot be played are left out; where nothing can be played, the words say why.
    """
    if not pieces:
        return {}, ""
    try:
        soundfont = find_soundfont()
        synthesizer = Synthesizer(soundfont)
    except UserError as error:
        return {}, f"This page has no sound: {error}"
    sounds = {}
    for done, piece in enumerate(pieces, start=1):
        with contextlib.suppress(UserError):
            sound = synthesise(piece.midi, synthesizer, opening_seconds=OPENING_SECONDS)
            sounds[piece.name] = sound.encode(".ogg", compression_level=COMPRESSION)
        progress("playing pieces", done, len(pieces))
    if not sounds:
        return {}, "This page has no sound: none of the pieces shown can be played."
    return sounds, (
        f"Played by FluidSynth with the soundfont {soundfont.name}, at most the first "
        f"{OPENING_SECONDS:.0f} s of each piece."
    )
