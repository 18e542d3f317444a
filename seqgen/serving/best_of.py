"""Several drafts of one request, of which the best are kept when all of them are drawn."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial

import numpy as np

from seqgen.api.picking import Drawn, Notes, Picking, nats_per_unit
from seqgen.errors import UserError
from seqgen.serving.drafts import Draft, Written
from seqgen.serving.engines import Player
from seqgen.serving.plans import PlannedVersion
from seqgen.serving.schemas import ShownPiece
from seqgen.tokenizers import Edit

LOG = logging.getLogger(__name__)
CANCELLED = "it was cancelled before all alternatives were drawn: ask for it again"


class Chosen:
    """A place for one of the drafts that are kept. It is waited for and cancelled as a draft is.

    Attributes:
        written: the result, when the choice is made.
        is_cancelled: whether nobody wants it any more.
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        self.written: Future[Written] = Future()
        self.is_cancelled = False
        self._leave = leave

    def cancel(self) -> None:
        """Do without it; when nobody wants any, nothing more is drawn."""
        self.is_cancelled = True
        self._leave()


class BestOf:
    """Draws several drafts and keeps the best.

    Attributes:
        drafts: all of them, which the caller begins.
        kept: a place for each that is kept.
    """

    def __init__(
        self,
        picking: Picking,
        player: Player,
        plans: Sequence[PlannedVersion],
        scribes: Executor,
        *,
        before: ShownPiece | None = None,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        """Prepare to draw.

        Args:
            picking: which are kept.
            player, plans, scribes: of the drafts.
            before: the piece that is changed, if one is.
            tell: called with a sentence that says how far it is.
        """
        self._picking, self._player, self._plans = picking, player, plans
        self._before, self._tell = before, tell
        self._found: dict[int, tuple[Written, Drawn]] = {}
        self._error: BaseException | None = None
        self._n_done = 0
        self._lock = threading.Lock()
        self.kept = [Chosen(self._leave) for _ in range(picking.n)]
        self.drafts = [Draft(player, plan, scribes) for plan in plans]
        for row, draft in enumerate(self.drafts):
            draft.written.add_done_callback(partial(self._take, row))

    def _leave(self) -> None:
        if all(one.is_cancelled for one in self.kept):
            for draft in self.drafts:
                draft.cancel()

    def _take(self, row: int, written: "Future[Written]") -> None:
        """Note a draft that has ended; after the last one the choice is made."""
        found = None
        try:
            result = written.result()
            if result.status == "done":
                found = result, self._measured(row, result)
        except UserError as error:
            self._error = error
        except Exception as error:
            LOG.exception("an alternative could not be measured")
            self._error = UserError(f"the alternatives could not be compared ({error})")
        with self._lock:
            if found is not None:
                self._found[row] = found
            self._n_done += 1
            is_last = self._n_done == len(self.drafts)
        if is_last:
            self._choose()
        else:
            self._tell(f"{self._n_done} of {len(self.drafts)} are drawn; the best are kept")

    def _measured(self, row: int, result: Written) -> Drawn:
        """Return what a draft is chosen by."""
        model, findings = self._player.model, result.findings
        return Drawn(
            met=float(np.mean([finding.met for finding in findings])) if findings else 0.0,
            nats=nats_per_unit(model.model, model.tokenizer, self._plans[row].start, result.drawn),
            notes=notes_of(result.piece),
        )

    def _choose(self) -> None:
        """Give the best to those who want them, or say why there are none."""
        rows = sorted(self._found)
        if isinstance(self._plans[0].prompt.original, Edit):  # whose bars have to be whole
            rows = [row for row in rows if self._found[row][0].message is None] or rows
        known = [] if self._before is None else [notes_of(self._before)]
        best = self._picking.choose_from([self._found[row][1] for row in rows], known)
        results = [self._found[rows[i]][0] for i in best]
        wanted = [one for one in self.kept if not one.is_cancelled]
        for one, result in zip(wanted, results, strict=False):
            one.written.set_result(result)
        for one in self.kept:
            if not one.written.done():
                one.written.set_exception(self._error or UserError(CANCELLED))


def notes_of(piece: ShownPiece) -> Notes:
    """Return the notes of a piece."""
    return frozenset((note.track, note.start, note.pitch) for note in piece.notes)
