"""Continue: a piece from left to right, with what is asked of it."""

from collections.abc import Sequence

import numpy as np

from seqgen.tasks.bars import Passage
from seqgen.tasks.controls import Values, Wish
from seqgen.tasks.request import Request
from seqgen.tasks.telling import Teller, Told


def arrange(
    teller: Teller, piece: Passage, begin: int, room: int, rng: np.random.Generator
) -> Told:
    """Tell bars from `begin` on, some of what they are before each; at most `room` tokens."""
    stop = teller.fitting(piece, begin, room)
    controls = teller.drawn_marks(piece, begin, stop, rng)
    told = Told()
    if begin == 0 and piece.begins:
        told.write([teller.bos])
    for bar, marks in zip(piece.bars[begin:stop], controls, strict=True):
        told.write([teller.bar])
        told.give(marks)
        told.write([*bar.head, *teller.music(bar, quoted=True)])
    if stop == len(piece.bars) and piece.ends:
        told.write([teller.eos])
    return told


def request(
    teller: Teller,
    piece: Passage,
    wish: Wish,
    *,
    names: Sequence[str] = (),
    head: Sequence[int] = (),
    n_bars: int | None = None,
    parts: Sequence[str] | None = None,
) -> Request:
    """Ask for bars after those of a piece, which may have none.

    Args:
        teller: of the run.
        piece: what is there already.
        wish: what is asked of each new bar.
        names: controls that are told of the bars that are there, as they are measured.
        head: what each new bar has after its controls: its time signature.
        n_bars: how many are asked for; None: as many as the model likes.
        parts: that play in them; None: any.
    """
    parts = parts or teller.parts
    # A model that always begins bars with a part that is not asked for would leave them empty.
    first = [] if teller.parts[0] in parts else [teller.id_of[f"Part_{parts[0]}"]]
    has_head = bool(head) or not teller.metres
    n_there = len(piece.bars)
    measured = teller.controls.measure(piece, 0, n_there, [n for n in names if n != "bars"])

    def values(number: int) -> Values:
        return measured[number] if number < n_there else wish(number - n_there)

    def opening(number: int) -> list[int]:
        return [*teller.marks_of(values, n_there + number), *head, *(first if has_head else [])]

    ids = [teller.bos]
    for number, bar in enumerate(piece.bars):
        ids += [teller.bar, *teller.marks_of(values, number), *bar.head]
        ids += teller.music(bar, quoted=True)
    ids += [teller.bar, *opening(0)]
    forbidden = teller.other_parts(parts)
    return Request(
        np.array(ids, dtype=np.int64)[:, None],
        opening,
        begun=1,
        after={} if has_head else dict.fromkeys(teller.metres.values(), first),
        n_bars=n_bars,
        forbidden=(*forbidden, *([teller.eos] if n_bars is not None else [])),
    )
