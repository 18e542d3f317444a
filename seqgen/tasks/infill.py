"""Infill: bars inside a piece are written anew, in all parts or some, when both sides are known.

A mark with the length of the hole comes first, then what stands behind the hole, then what stands
before it, so that the hole goes on from there. What is far may be forgotten: so marks that stay in
force say how many bars are left of the hole, and what it leads to.
"""

from collections.abc import Sequence

import numpy as np

from seqgen.tasks.bars import Bar, Passage
from seqgen.tasks.controls import Wish
from seqgen.tasks.request import Request
from seqgen.tasks.telling import AFTER, BEFORE, Teller, Told

MOST = 16  # bars of a hole in training
ALL_PARTS = 0.5  # share of holes in which every part is written anew


def arrange(
    teller: Teller, piece: Passage, begin: int, room: int, rng: np.random.Generator
) -> Told | None:
    """Tell bars around a hole, then the hole; None where there is no bar behind one."""
    stop = teller.fitting(piece, begin, room - len(teller.parts) - 4)
    if stop - begin < 2:
        return None
    n_bars = int(rng.integers(1, min(MOST, stop - begin - 1) + 1))
    first = int(rng.integers(begin, stop - n_bars))
    parts = _drawn_parts(teller, piece, first, first + n_bars, rng)
    controls = teller.drawn_marks(piece, first, first + n_bars, rng)
    told = _around(teller, piece, begin, first, first + n_bars, stop)
    told.give([*teller.asked(parts), *teller.leads_to(piece.bars[first + n_bars])])
    for k, (bar, marks) in enumerate(zip(piece.bars[first:], controls, strict=False)):
        (told.write if k else told.give)([teller.bar])
        left = teller.hole(n_bars - k) if k else []
        told.go_on(teller.answer(bar, [*left, *marks], parts))
    told.write([teller.bar])
    return told


def request(
    teller: Teller,
    piece: Passage,
    first: int,
    last: int,
    written: Sequence[Sequence[str]],
    wish: Wish,
    *,
    room: int,
) -> Request:
    """Ask for the bars first … last of a piece anew: in each of them for the parts `written`.

    A bar of which nothing is written anew is given whole.

    Around them stand as many bars as make `room` tokens together with them, which is what the model
    was trained with; both sides have the same share, and what one does not need the other has.
    """
    left = max((room - sum(map(teller.size, piece.bars[first:last]))) // 2, 0)
    begin = _back(teller, piece, first, left)
    used = sum(map(teller.size, piece.bars[begin:first]))
    stop = teller.fitting(piece, last, 2 * left - used) if last < len(piece.bars) else last
    used = sum(map(teller.size, piece.bars[last:stop]))
    begin = _back(teller, piece, first, 2 * left - used)
    told = _around(teller, piece, begin, first, last, stop)

    def opening(number: int) -> list[int]:
        bar, parts = piece.bars[first + number], written[number]
        marks = [*teller.hole(last - first - number)] if number else []
        marks += teller.marks_of(wish, number)
        if parts:
            return teller.opening(bar, marks, parts)
        after = opening(number + 1) if number + 1 < last - first else []
        return [*teller.answer(bar, marks, teller.parts).ids, teller.bar, *after]

    parts = [part for part in teller.parts if any(part in some for some in written)]
    told.give(teller.asked(parts))
    told.give(teller.leads_to(piece.bars[last]) if last < len(piece.bars) else [])
    told.give([teller.bar, *opening(0)])
    begun = 1 + next(number for number, some in enumerate(written) if some)
    return Request(
        np.array(told.ids, dtype=np.int64)[:, None],
        opening,
        begun=begun,
        n_bars=last - first,
        forbidden=(teller.eos, *teller.not_asked(parts)),
    )


def _back(teller: Teller, piece: Passage, first: int, room: int) -> int:
    """Return the earliest bar from which on those before `first` take `room` tokens at most."""
    begin = first
    while begin > 0 and (room := room - teller.size(piece.bars[begin - 1])) >= 0:
        begin -= 1
    return begin


def _around(teller: Teller, piece: Passage, begin: int, first: int, last: int, stop: int) -> Told:
    """Tell the bars last … stop, which come behind the hole, and then begin … first before it."""
    told = Told()
    told.give([*teller.hole(last - first), teller.id_of[AFTER]])
    _tell_all(teller, told, piece.bars[last:stop])
    told.give([teller.id_of[BEFORE], *([teller.bos] if begin == 0 and piece.begins else [])])
    _tell_all(teller, told, piece.bars[begin:first])
    return told


def _tell_all(teller: Teller, told: Told, bars: Sequence[Bar]) -> None:
    """Tell what is there already. It is learned like any other music."""
    for k, bar in enumerate(bars):
        bar_id, *ids = teller.plain(bar)
        (told.write if k else told.give)([bar_id])
        told.write(ids)


def _drawn_parts(
    teller: Teller, piece: Passage, first: int, last: int, rng: np.random.Generator
) -> list[str]:
    """Draw the parts that are written anew: all, or some of those that play in the hole."""
    playing = {part for bar in piece.bars[first:last] for part in bar.music}
    named = [part for part in teller.parts if part in playing]
    if len(named) < 2 or rng.random() < ALL_PARTS:
        return teller.parts
    chosen = rng.choice(len(named), size=int(rng.integers(1, len(named))), replace=False)
    return [named[k] for k in sorted(chosen)]
