"""Accompany: parts are added to those that are there, bar by bar."""

from collections.abc import Sequence

import numpy as np

from seqgen.tasks.bars import Passage
from seqgen.tasks.controls import Wish
from seqgen.tasks.request import Request
from seqgen.tasks.telling import ADD, Teller, Told


def arrange(
    teller: Teller, piece: Passage, begin: int, room: int, rng: np.random.Generator
) -> Told | None:
    """Tell bars with some parts given and the others to be written; None where one part plays."""
    stop = teller.fitting(piece, begin, room - len(teller.parts) - 4)
    playing = {part for bar in piece.bars[begin:stop] for part in bar.music}
    named = [part for part in teller.parts if part in playing]
    if len(named) < 2:
        return None
    chosen = rng.choice(len(named), size=int(rng.integers(1, len(named))), replace=False)
    parts = [named[k] for k in sorted(chosen)]
    controls = teller.drawn_marks(piece, begin, stop, rng)
    told = Told()
    told.give([teller.bos] if begin == 0 and piece.begins else [])
    told.give(teller.asked(parts, ADD))
    for k, (bar, marks) in enumerate(zip(piece.bars[begin:stop], controls, strict=True)):
        (told.write if k else told.give)([teller.bar])
        told.go_on(teller.answer(bar, marks, parts))
    if stop == len(piece.bars) and piece.ends:
        told.write([teller.eos])
    return told


def request(teller: Teller, piece: Passage, parts: Sequence[str], wish: Wish) -> Request:
    """Ask for parts beside those of a piece, in all of its bars."""

    def opening(number: int) -> list[int]:
        return teller.opening(piece.bars[number], teller.marks_of(wish, number), parts)

    ids = [teller.bos, *teller.asked(parts, ADD), teller.bar, *opening(0)]
    return Request(
        np.array(ids, dtype=np.int64)[:, None],
        opening,
        begun=1,
        n_bars=len(piece.bars),
        forbidden=(teller.eos, *teller.not_asked(parts)),
    )
