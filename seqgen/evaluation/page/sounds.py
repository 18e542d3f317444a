"""What pieces sound like, small enough for a page to hold; or why nothing can be heard."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from seqgen.data.corpora import Progress
from seqgen.errors import UserError
from seqgen.evaluation.generated import Generated
from seqgen.rendering.sound.audio_files import check_format, small_ogg
from seqgen.rendering.sound.soundfonts import find_soundfont
from seqgen.rendering.sound.synthesis import open_synthesizer, synthesise

OPENING_SECONDS = 60.0  # of a piece: some 400 kB


def play_openings(
    pieces: Sequence[Generated], *, progress: Progress
) -> tuple[dict[str, bytes], str]:
    """Return Ogg files by the name of the piece, and what to say of them.

    Pieces that cannot be played are left out; where nothing can be played, the words say why.
    """
    if not pieces:
        return {}, ""
    try:
        check_format(Path("x.ogg"))
        soundfont = find_soundfont()
        synthesizer = open_synthesizer(soundfont)
    except UserError as error:
        return {}, f"No sound is on this page, since `python cli.py listen` would not work: {error}"
    sounds = {}
    with synthesizer:
        for done, piece in enumerate(pieces, start=1):
            with contextlib.suppress(UserError):
                sound = synthesise(piece.midi, synthesizer, opening_seconds=OPENING_SECONDS)
                sounds[piece.name] = small_ogg(sound.samples, sound.sample_rate)
            progress("playing pieces", done, len(pieces))
    if not sounds:
        return {}, "No sound is on this page: none of the pictured pieces can be played."
    return sounds, (
        f"Played by {synthesizer.name} with {soundfont.name}, the first {OPENING_SECONDS:.0f} s of "
        f"each at most."
    )
