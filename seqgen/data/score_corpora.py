"""Corpora read out of music21's own corpus and written once as MIDI files.

music21 is an optional package: it is imported in the worker processes only, never by this module.
"""

import contextlib
import gc
import importlib.metadata
import importlib.util
import io
import multiprocessing
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

from seqgen.data.scores import TICKS_PER_QUARTER, Piece, Pitch, Tick, Unfit
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
VELOCITY = 80
MAX_WORKERS = 8  # beyond, starting the workers takes longer than the reading they share
CHUNK = 4
GRID = 4 * TICKS_PER_QUARTER  # the notes that start here say which pieces to compare
NEAREST = 16  # how many a piece is compared with: those that share most of these notes
COPY_SHARE = 0.9  # of the shorter piece's notes; other settings of one chorale share up to 0.87

Source = TypeVar("Source")
Onset = tuple[int, Tick, Pitch]  # index of the voice, start, pitch from the last of voice 0
Outline = set[Onset]


@dataclass(frozen=True)
class ScoreCorpus(Generic[Source]):
    """A corpus that comes with music21.

    Attributes:
        pieces: what messages call its pieces, in the plural.
        files: patterns that the names of all its files match.
        format: raise it when the same scores would give other files.
        find: name and source of each score, in order, given the folder of music21's corpus.
        read: the piece of a source; raises `Unfit` where it has none. It runs in other processes.
        program: General MIDI program of all voices.
        tempo: quarters per minute; the scores leave it open.
    """

    name: str
    pieces: str
    files: tuple[str, ...]
    format: int
    find: Callable[[Path], list[tuple[str, Source]]]
    read: Callable[[Source], Piece]
    program: int
    tempo: float


def build_scores(
    corpus: ScoreCorpus[Source],
    folder: Path,
    *,
    only: Collection[str] | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make sure that `folder` holds a corpus, one MIDI file a piece and a manifest; return it.

    A finished folder of this format and music21 version is kept, any other is written again.
    `only` names pieces, such as "bwv66.6"; the default is all of them. `progress` is called
    with the scores read and their number. The manifest counts what was written and lists what was
    left out and why. Raises `UserError` where music21 is missing or `folder` holds other files.
    """
    folder = Path(folder)
    scores = _find_scores(corpus, only)
    wanted = {
        "format": corpus.format,
        "music21": importlib.metadata.version("music21"),
        "only": None if only is None else sorted(only),
    }
    if _is_finished(folder, wanted):
        return folder
    with locked(folder.with_name(f".{folder.name}.lock"), if_held=lambda holder: None):
        if _is_finished(folder, wanted):  # by the process that was waited for
            return folder
        return _build(corpus, folder, scores, wanted, workers, progress or _ignore)


def _build(
    corpus: ScoreCorpus[Source],
    folder: Path,
    scores: list[tuple[str, Source]],
    wanted: dict[str, object],
    workers: int | None,
    progress: Callable[[int, int], None],
) -> Path:
    _check_replaceable(folder, corpus)
    n_workers = min(workers or os.cpu_count() or 1, MAX_WORKERS, len(scores))
    names, sources = zip(*scores, strict=True)
    with (
        atomic_folder(folder) as temporary,
        ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), _start_worker) as pool,
    ):
        results = pool.map(partial(_read, corpus.read), sources, chunksize=CHUNK)
        written, left_out = _write(corpus, temporary, names, results, progress)
        if not written:
            raise UserError(f"none of music21's {len(scores)} scores could be used: {left_out}")
        write_json(temporary / MANIFEST, {**wanted, "count": len(written), "left_out": left_out})
    return folder


def _start_worker() -> None:
    """Import music21 silently, and exclude its objects from garbage collection."""
    warnings.simplefilter("ignore")
    with contextlib.redirect_stderr(io.StringIO()):  # it names the optional packages it misses
        import music21  # noqa: F401
    gc.disable()  # a score is cyclic: one collection after each, instead of hundreds during it
    gc.freeze()


def _read(read: Callable[[Source], Piece], source: Source) -> Piece | str:
    """Return the piece of a score, or why there is none."""
    try:
        return read(source)
    except Unfit as error:
        return str(error)
    except Exception as error:  # music21 raises whatever its parsers trip over: one score is lost
        return f"music21 could not read it ({type(error).__name__}: {error})"
    finally:
        gc.collect()


def _write(
    corpus: ScoreCorpus[Source],
    folder: Path,
    names: Collection[str],
    results: Iterable[Piece | str],
    progress: Callable[[int, int], None],
) -> tuple[list[str], dict[str, str]]:
    """Write the pieces; return the scores written, and those left out with the reason."""
    outlines = _Outlines()
    left_out: dict[str, str] = {}
    for done, (name, result) in enumerate(zip(names, results, strict=True), start=1):
        if isinstance(result, str):
            left_out[name] = result
        elif original := outlines.add(name, _outline(result)):
            left_out[name] = f"the same setting as {original}"
        else:
            (folder / f"{_stem(name)}.mid").write_bytes(_piece_midi(result, corpus))
        progress(done, len(names))
    return outlines.names, left_out


def _ignore(done: int, total: int) -> None:
    """Ignore a progress report."""


def _piece_midi(piece: Piece, corpus: ScoreCorpus[Source]) -> bytes:
    """Return a piece as the bytes of a MIDI file with one track for each voice."""
    midi = MidiFile(ticks_per_beat=TICKS_PER_QUARTER)
    midi.tempo_changes = [TempoChange(corpus.tempo, 0)]
    midi.time_signature_changes = [TimeSignature(n, d, tick) for tick, n, d in piece.meters]
    for name, voice in piece.voices.items():
        track = Instrument(corpus.program, name=name)
        track.notes = [Note(VELOCITY, pitch, start, end) for start, end, pitch in voice]
        midi.instruments.append(track)
    return midi_bytes(midi)


def _stem(name: str) -> str:
    """Return what a piece is called: the name of its score without a suffix."""
    return Path(name).stem


def _find_scores(
    corpus: ScoreCorpus[Source], only: Collection[str] | None
) -> list[tuple[str, Source]]:
    package = importlib.util.find_spec("music21")
    if package is None or package.origin is None:
        raise UserError(f"the {corpus.name} corpus needs music21: pip install 'seqgen[chorales]'")
    folder = Path(package.origin).parent / "corpus"
    scores = corpus.find(folder)
    if not scores:
        raise UserError(
            f"this copy of music21 came without its corpus: {folder} holds no {corpus.pieces}"
        )
    if only is None:
        return scores
    if unknown := set(only) - {_stem(name) for name, _ in scores}:
        raise UserError(f"music21's corpus has no {', '.join(sorted(unknown))}")
    return [(name, source) for name, source in scores if _stem(name) in only]


def _is_finished(folder: Path, wanted: dict[str, object]) -> bool:
    try:
        manifest = read_json(folder / MANIFEST, way_out="it is built again")
    except UserError:
        return False
    if any(manifest.get(key) != wanted[key] for key in wanted):
        return False
    return manifest.get("count") == len(list(folder.glob("*.mid")))


def _check_replaceable(folder: Path, corpus: ScoreCorpus[Source]) -> None:
    """Refuse to replace a folder that holds anything but an earlier build."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the {corpus.pieces}")
    for path in folder.glob("*"):
        if path.name != MANIFEST and not any(path.match(files) for files in corpus.files):
            raise UserError(
                f"{folder} holds {path.name}; name a new folder for the {corpus.pieces}"
            )


def _outline(piece: Piece) -> Outline:
    """Return the onsets of each voice, with pitches counted from the last note of the melody."""
    voices = list(piece.voices.values())
    last = voices[0][-1][2]
    return {
        (index, start, pitch - last)
        for index, voice in enumerate(voices)
        for start, _, pitch in voice
    }


class _Outlines:
    """The outlines of pieces, none a copy of another one in the same key or another.

    Bach used a setting again with another text, and collections hold some tunes twice. Apart in
    two files, such a pair could lie on both sides of the split into training and validation.
    """

    def __init__(self) -> None:
        self._outlines: dict[str, Outline] = {}
        self._on_grid: defaultdict[Onset, list[str]] = defaultdict(list)

    @property
    def names(self) -> list[str]:
        return list(self._outlines)

    def add(self, name: str, outline: Outline) -> str | None:
        """Add an outline, unless it copies an earlier one: then return the name of that."""
        on_grid = [onset for onset in outline if onset[1] % GRID == 0]
        shared = Counter(chain.from_iterable(self._on_grid[onset] for onset in on_grid))
        for nearest, _ in shared.most_common(NEAREST):
            other = self._outlines[nearest]
            if len(outline & other) >= COPY_SHARE * min(len(outline), len(other)):
                return nearest
        self._outlines[name] = outline
        for onset in on_grid:
            self._on_grid[onset].append(name)
        return None
