"""Writes the chorales as the grid of voices that most papers on them learn from.

    python scripts/chorale_grid.py grid --transpose 5

writes a text file for each chorale into `grid/train`, `grid/validation` and `grid/test`, with the
splits of seqgen itself. A character is what one voice sounds during one sixteenth: soprano, alto,
tenor, bass of the first sixteenth, then of the second, and so on (Huang et al. 2019, "Music
Transformer", section 4.1). It does not say whether a note is struck or held, nor, since a piece
begins with its first note, where bars begin. Training pieces are written also up to n semitones
higher and lower.

Legend: S sixteenths, V voices.
"""

import argparse
from pathlib import Path

import numpy as np

from seqgen.config import DataConfig
from seqgen.data.corpora import open_corpus
from seqgen.data.splits import TRAIN, content_hash, split_of
from seqgen.errors import UserError
from seqgen.files import atomic_folder
from seqgen.midi import MidiFile

REST = ord("~")  # pitch 126, which nobody sings
VOICES = 4


def main() -> None:
    arguments = _arguments()
    if arguments.folder.exists():
        raise UserError(f"{arguments.folder} already exists; choose another folder")
    shares = DataConfig()
    corpus = open_corpus("chorales", frozenset({".mid"}), cache=arguments.prepared / "corpora")
    with atomic_folder(arguments.folder) as folder:
        for file in corpus.files:
            split = split_of(
                content_hash(file.read_bytes()), validation=shares.validation, test=shares.test
            )
            (folder / split).mkdir(exist_ok=True)
            grid = read_grid(MidiFile(str(file)))
            reach = arguments.transpose if split == TRAIN else 0
            for shift in range(-reach, reach + 1):
                name = f"{file.stem}{shift:+d}.txt" if shift else f"{file.stem}.txt"
                (folder / split / name).write_bytes(characters(grid, shift=shift))


def read_grid(midi: MidiFile) -> np.ndarray:
    """Return the pitch of each voice in each sixteenth [S, V], -1 where it rests.

    The first sixteenth is the one in which a note starts; starts and ends are rounded.
    """
    if len(midi.instruments) != VOICES:
        raise UserError(f"a chorale has {VOICES} voices, this file {len(midi.instruments)}")
    sixteenth = midi.ticks_per_beat / 4
    notes = [note for voice in midi.instruments for note in voice.notes]
    end = round(max(note.end for note in notes) / sixteenth)
    grid = np.full((end, VOICES), -1)
    for v, voice in enumerate(midi.instruments):
        for note in sorted(voice.notes, key=lambda note: note.start):
            grid[round(note.start / sixteenth) : round(note.end / sixteenth), v] = note.pitch
    return grid[round(min(note.start for note in notes) / sixteenth) :]


def characters(grid: np.ndarray, *, shift: int = 0) -> bytes:
    """Write a grid [S, V], transposed by `shift` semitones, as one character for each cell."""
    return np.where(grid < 0, REST, grid + shift).astype(np.uint8).tobytes()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="is written; must not be there")
    parser.add_argument(
        "--transpose", type=int, choices=range(13), default=0, metavar="N", help="semitones"
    )
    parser.add_argument("--prepared", type=Path, default=Path("prepared"), metavar="DIR")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except (UserError, OSError) as error:
        raise SystemExit(f"Error: {error}") from None
