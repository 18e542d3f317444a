"""Continue: a piece from left to right, with what is asked of it."""

from collections.abc import Sequence

import numpy as np

from seqgen.tasks.asking import Wish
from seqgen.tasks.bars import Piece
from seqgen.tasks.request import Request
from seqgen.tasks.telling import Teller, Told


def arrange(teller: Teller, piece: Piece, begin: int, room: int, rng: np.random.Generator) -> Told:
    """Tell bars from `begin` on, some of what they are before each; at most `room` tokens."""
    stop = teller.fitting(piece, begin, room)
    controls = teller.drawn_controls(piece, begin, stop, rng)
    told = Told()
    if begin == 0 and piece.begins:
        told.write([teller.bos])
    for bar, values in zip(piece.bars[begin:stop], controls, strict=True):
        told.write([teller.bar])
        told.give(teller.controls.marks(values))
        told.write(bar.head)
        told.go_on(teller.music(bar, values=values, quoted=True))
    if stop == len(piece.bars) and piece.ends:
        told.write([teller.eos])
    return told


def request(
    teller: Teller,
    piece: Piece,
    wish: Wish,
    *,
    names: Sequence[str] = (),
    head: Sequence[int] = (),
    n_bars: int | None = None,
) -> Request:
    """Ask for bars after those of a piece, which may have none.

    Args:
        teller: of the run.
        piece: what is there already.
        wish: what is asked of each new bar.
        names: controls that are told of the bars that are there, as they are measured.
        head: what each new bar has after its controls: its time signature.
        n_bars: how many are asked for; None: as many as the model likes.
    """
    n_there = len(piece.bars)
    told = Told()
    told.give([teller.bos])
    measured = teller.controls.measure(piece, 0, n_there, [n for n in names if n != "bars"])
    for bar, values in zip(piece.bars, measured, strict=True):
        told.give([teller.bar, *teller.controls.marks(values)])
        told.give([*bar.head, *teller.music(bar, values=values, quoted=True).ids])

    def opening(number: int) -> list[int]:
        return [*teller.controls.marks(wish(number)), *head]

    told.give([teller.bar, *opening(0)])
    prompt = np.array(told.ids, dtype=np.int64)[:, None]
    forbidden = (teller.eos,) if n_bars is not None else ()
    return Request(
        prompt,
        opening,
        hints=lambda number: teller.controls.hints(wish(number)),
        begun=1,
        n_bars=n_bars,
        forbidden=forbidden,
    )
