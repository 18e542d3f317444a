"""How much of a piece is one training piece, moved in time and pitch, whatever was changed in it.

Legend: n notes, R runs.
"""

from dataclasses import dataclass

import numpy as np

from seqgen.evaluation.copying.corpus import Corpus, Runs
from seqgen.evaluation.copying.material import Material

N_CANDIDATES = 5  # training pieces, each at one place and in one key, that are looked at
PITCHES = 1 << 10  # more than pitches and their differences


@dataclass(frozen=True)
class Likeness:
    """The training piece that a piece is most like when it is moved by `semitones`, and in time.

    `share` of the notes are in both, of those that the one has that has more: all notes of the
    piece, or those of the training piece in the same time.
    """

    name: str
    share: float
    semitones: int


def find_likeness(corpus: Corpus, piece: Material, runs: Runs) -> Likeness | None:
    """Lay the likeliest training pieces under a piece and count the notes that both have.

    A shared run says where a training piece has to lie. The places that most fresh notes of the
    runs agree on are tried. None where pieces have no notes or no run in common.
    """
    if piece.notes is None or not len(runs.fresh):
        return None
    moves = np.empty((len(runs.fresh), 3), dtype=np.int64)  # training piece, time, pitch
    for i, number in enumerate(runs.pieces):
        origin = corpus.piece(number).notes[runs.corpus_starts[i]]
        moves[i] = number, *(piece.notes[runs.starts[i]] - origin)
    distinct, which = np.unique(moves, axis=0, return_inverse=True)
    votes = np.bincount(which.reshape(-1), weights=runs.fresh)
    found = []
    for number, *move in distinct[np.argsort(-votes, kind="stable")[:N_CANDIDATES]]:
        source = corpus.piece(number)
        found.append(Likeness(source.name, _share(piece.notes, source.notes + move), int(move[1])))
    return max(found, key=lambda likeness: likeness.share)


def _share(notes: np.ndarray, others: np.ndarray) -> float:
    """Notes [n, 2] and [·, 2] that both have, of the more there are while the first ones sound."""
    in_time = (others[:, 0] >= notes[0, 0]) & (others[:, 0] <= notes[-1, 0])
    others = others[in_time]
    common = np.isin(notes @ [PITCHES, 1], others @ [PITCHES, 1]).sum()
    return float(common / max(len(notes), len(others)))
