"""Bach's four-part chorales, read out of music21's own corpus and written once as MIDI files.

music21 is an optional package: it is imported in the worker processes only, never by this module.
"""

import importlib.metadata
import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from seqgen.data.chorale_scores import (
    TICKS_PER_QUARTER,
    VOICES,
    Chorale,
    Pitch,
    Tick,
    read_chorale,
    start_worker,
)
from seqgen.errors import UserError
from seqgen.files import atomic_folder, locked, read_json, write_json
from seqgen.midi import (
    Instrument,
    MidiFile,
    Note,
    TempoChange,
    TimeSignature,
    midi_bytes,
)

MANIFEST = "manifest.json"
FORMAT = 1  # raise it when the same scores would give other files
TEMPO = 90.0  # quarters per minute; the scores leave it open
VELOCITY = 80
PIANO = 0
MAX_WORKERS = 8  # beyond, starting the workers takes longer than the reading they share
CHUNK = 4
COPY_SHARE = 0.9  # of the shorter setting's notes; other settings of one tune share up to 0.87

Outline = set[tuple[int, Tick, Pitch]]  # index of the voice, start, pitch from the last of voice 0


def build_chorales(
    folder: Path,
    *,
    only: Collection[str] | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make sure that `folder` holds the chorales, one MIDI file each and a manifest; return it.

    A finished folder of this format and music21 version is kept, any other is written again.
    `only` names works, such as "bwv66.6"; the default is all of them. `progress` is called
    with the scores read and their number. The manifest counts what was written and lists what was
    left out and why. Raises `UserError` where music21 is missing or `folder` holds other files.
    """
    folder = Path(folder)
    scores = _find_scores(only)
    wanted = {
        "format": FORMAT,
        "music21": importlib.metadata.version("music21"),
        "only": None if only is None else sorted(only),
    }
    if _is_finished(folder, wanted):
        return folder
    with locked(folder.with_name(f".{folder.name}.lock"), if_held=lambda holder: None):
        if _is_finished(folder, wanted):  # by the process that was waited for
            return folder
        return _build(folder, scores, wanted, workers, progress or _ignore)


def _build(
    folder: Path,
    scores: list[Path],
    wanted: dict[str, object],
    workers: int | None,
    progress: Callable[[int, int], None],
) -> Path:
    _check_replaceable(folder)
    n_workers = min(workers or os.cpu_count() or 1, MAX_WORKERS, len(scores))
    with (
        atomic_folder(folder) as temporary,
        ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), start_worker) as pool,
    ):
        results = pool.map(read_chorale, scores, chunksize=CHUNK)
        written, left_out = _write(temporary, scores, results, progress)
        if not written:
            raise UserError(f"none of music21's {len(scores)} scores could be used: {left_out}")
        write_json(temporary / MANIFEST, {**wanted, "count": len(written), "left_out": left_out})
    return folder


def _write(
    folder: Path,
    scores: list[Path],
    results: Iterable[Chorale | str],
    progress: Callable[[int, int], None],
) -> tuple[list[str], dict[str, str]]:
    """Write the chorales; return the scores written, and those left out with the reason."""
    written: dict[str, Outline] = {}
    left_out: dict[str, str] = {}
    for done, (score, result) in enumerate(zip(scores, results, strict=True), start=1):
        if isinstance(result, str):
            left_out[score.name] = result
        elif original := _find_copied(outline := _outline(result), written):
            left_out[score.name] = f"the same setting as {original}"
        else:
            written[score.name] = outline
            (folder / f"{score.stem}.mid").write_bytes(chorale_midi(result))
        progress(done, len(scores))
    return list(written), left_out


def _ignore(done: int, total: int) -> None:
    """Ignore a progress report."""


def chorale_midi(chorale: Chorale) -> bytes:
    """Return a chorale as the bytes of a MIDI file with one track for each voice."""
    midi = MidiFile(ticks_per_beat=TICKS_PER_QUARTER)
    midi.tempo_changes = [TempoChange(TEMPO, 0)]
    midi.time_signature_changes = [TimeSignature(n, d, tick) for tick, n, d in chorale.meters]
    for name, voice in zip(VOICES, chorale.voices, strict=True):
        track = Instrument(PIANO, name=name)
        track.notes = [Note(VELOCITY, pitch, start, end) for start, end, pitch in voice]
        midi.instruments.append(track)
    return midi_bytes(midi)


def _find_scores(only: Collection[str] | None) -> list[Path]:
    """Return music21's Bach scores in MusicXML, sorted by name.

    The few in Humdrum's format also exist as MusicXML, and have a more restrictive licence.
    """
    package = importlib.util.find_spec("music21")
    if package is None or package.origin is None:
        raise UserError("the chorales corpus needs music21: pip install 'seqgen[chorales]'")
    folder = Path(package.origin).parent / "corpus" / "bach"
    scores = sorted(path for path in folder.glob("*") if path.suffix in (".mxl", ".xml"))
    if not scores:
        raise UserError(f"this copy of music21 came without its corpus: {folder} holds no scores")
    if only is None:
        return scores
    if unknown := set(only) - {path.stem for path in scores}:
        raise UserError(f"music21's Bach corpus has no {', '.join(sorted(unknown))}")
    return [path for path in scores if path.stem in only]


def _is_finished(folder: Path, wanted: dict[str, object]) -> bool:
    try:
        manifest = read_json(folder / MANIFEST, way_out="it is built again")
    except UserError:
        return False
    if any(manifest.get(key) != wanted[key] for key in wanted):
        return False
    return manifest.get("count") == len(list(folder.glob("*.mid")))


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace a folder that holds anything but an earlier build."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the chorales")
    for path in folder.glob("*"):
        if path.name != MANIFEST and not path.match("bwv*.mid"):
            raise UserError(f"{folder} holds {path.name}; name a new folder for the chorales")


def _outline(chorale: Chorale) -> Outline:
    """Return the onsets of each voice, with pitches counted from the last note of the melody."""
    last = chorale.voices[0][-1][2]
    return {
        (index, start, pitch - last)
        for index, voice in enumerate(chorale.voices)
        for start, _, pitch in voice
    }


def _find_copied(outline: Outline, others: dict[str, Outline]) -> str | None:
    """Return which of `others` this setting copies, in the same key or another.

    Bach used a setting again with another text, and the corpus holds some in two editions. Apart
    in two files, such a pair could lie on both sides of the split into training and validation.
    """
    for name, other in others.items():
        if len(outline & other) >= COPY_SHARE * min(len(outline), len(other)):
            return name
    return None
