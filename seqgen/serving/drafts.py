"""A piece while it is written: tokens come in from an engine's thread, music goes out from another.

Legend: T positions, F fields.
"""

import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Literal

import numpy as np

from seqgen.api.prompts import music_of
from seqgen.decoding import Stream
from seqgen.errors import UserError
from seqgen.midi import MidiFile, midi_bytes
from seqgen.serving.engines import Player, Voice
from seqgen.serving.music import piece_of
from seqgen.serving.plans import PlannedVersion
from seqgen.serving.schemas import Finding, ShownPiece
from seqgen.tokenizers import Edit

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        status: whether it was written to its end, or cancelled; a cancelled one is kept so far.
        ids: of the whole piece [T, F], without special tokens.
        drawn: what the model took after its prompt [T, F].
        piece, midi: the music, and its file.
        log_likelihood: of what was drawn, in bits; None where it is not known.
        message: why it ended early.
    """

    status: Literal["done", "cancelled"]
    ids: np.ndarray
    drawn: np.ndarray
    piece: ShownPiece
    midi: bytes
    log_likelihood: float | None
    findings: list[Finding]
    message: str | None


class Draft:
    """One piece while it is written.

    Attributes:
        written: the result, when it is there; an error where there is none.
    """

    def __init__(
        self,
        player: Player,
        plan: PlannedVersion,
        scribes: Executor,
        *,
        tell: Callable[[ShownPiece], None] | None = None,
        on_token: Callable[[np.ndarray], None] = lambda token: None,
    ) -> None:
        """Prepare to write.

        Args:
            player: what writes.
            plan: what is written.
            scribes: threads in which tokens are made music.
            tell: called in one of them with the piece so far: when a bar begins, and with each note
                before the first bar has ended; None: the piece is wanted at its end only.
            on_token: called in the engine's thread with each token [F].
        """
        self.written: Future[Written] = Future()
        self._player, self._plan, self._scribes = player, plan, scribes
        self._tell, self._on_token = tell, on_token
        self._voice: Voice | None = None
        self._tokens: list[np.ndarray] = []
        self._n_bars = 0
        self._lock = threading.Lock()
        self._is_telling = self._is_stale = self._is_cancelled = False
        vocabulary = player.model.tokenizer.vocabulary
        self._anchors = frozenset(vocabulary.anchors)
        grammar = vocabulary.grammar
        self._completes = None if grammar is None else grammar.completes_unit

    def begin(self) -> "Draft":
        """Let the engine write it; UserError or EngineFull where it does not."""
        plan = self._plan
        self._voice = self._player.write(
            plan.start,
            plan.rule,
            on_token=self.take,
            on_end=self._end,
            max_tokens=plan.max_tokens,
            sampling=plan.sampling,
            seed=plan.seed,
            number=plan.number,
            guidance=plan.guidance,
        )
        if self._is_cancelled:
            self._player.cancel(self._voice)
        return self

    def cancel(self) -> None:
        """End it where it is, within a step."""
        self._is_cancelled = True
        if self._voice is not None:
            self._player.cancel(self._voice)

    @property
    def is_cancelled(self) -> bool:
        """Whether it is to end."""
        return self._is_cancelled

    def so_far(self) -> ShownPiece:
        """Return the piece as far as it is written."""
        return self._piece(self._played(self._drawn()))

    def take(self, token: np.ndarray) -> None:
        """Take the next token [F]."""
        self._tokens.append(token)
        first = int(token[0])
        begins_bar = first in self._anchors
        self._n_bars += begins_bar
        self._on_token(token)
        early = self._n_bars < 2 and self._completes is not None and self._completes[first]
        if self._tell is not None and (begins_bar or early):
            self._tell_later(self._tell)

    def fail(self, error: UserError) -> None:
        """End it with an error."""
        with suppress(Exception):  # it has ended already
            self.written.set_exception(error)

    def _end(self, stream: Stream | None, error: UserError | None) -> None:
        if error is not None:
            self.fail(error)
            return
        reason = None if stream is None else stream.finished
        is_whole = reason in ("eos", "stop") or self._plan.rule.is_whole
        nats = None if stream is None else stream.log_likelihood
        self._scribes.submit(self._finish, is_whole, nats)

    def _tell_later(self, tell: Callable[[ShownPiece], None]) -> None:
        """Let a scribe tell the music; while one does, the next one waits and tells all at once."""
        with self._lock:
            self._is_stale = True
            if self._is_telling:
                return
            self._is_telling = True
        self._scribes.submit(self._tell_now, tell)

    def _tell_now(self, tell: Callable[[ShownPiece], None]) -> None:
        while True:
            with self._lock:
                if not self._is_stale or self.written.done():
                    self._is_telling = False
                    return
                self._is_stale = False
            try:
                tell(self.so_far())
            except Exception:  # the end tells what is wrong
                LOG.exception("a piece could not be shown while it was written")

    def _drawn(self) -> np.ndarray:
        tokens = list(self._tokens)
        return np.stack(tokens) if tokens else self._plan.start[:0]

    def _played(self, drawn: np.ndarray) -> MidiFile:
        prompt = self._plan.prompt
        ids = np.concatenate([prompt.ids, drawn])
        tokenizer = self._player.model.tokenizer
        return tokenizer.played(ids, tempo=prompt.tempo, original=prompt.original)

    def _piece(self, midi: MidiFile) -> ShownPiece:
        return piece_of(midi, self._player.model.tokenizer, kept=self._plan.kept)

    def _finish(self, is_whole: bool, log_likelihood: float | None) -> None:
        try:
            self.written.set_result(self._result(is_whole, log_likelihood))
        except UserError as error:
            self.fail(error)
        except Exception as error:
            LOG.exception("a piece could not be finished")
            self.fail(
                UserError(f"the piece could not be written ({type(error).__name__}: {error})")
            )

    def _result(self, is_whole: bool, log_likelihood: float | None) -> Written:
        tokenizer, prompt = self._player.model.tokenizer, self._plan.prompt
        drawn = self._drawn()
        if len(drawn) and tokenizer.bar is not None and int(drawn[-1, 0]) in self._anchors:
            drawn = np.concatenate([drawn[:-1], tokenizer.bar[None]])  # not with its first notes
        midi = self._played(drawn)
        if not midi.instruments:
            raise UserError("no note was written: try another seed, or more bars")
        content = midi_bytes(midi)
        ids = music_of(np.concatenate([prompt.ids, drawn]), tokenizer)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "piece.mid"
            path.write_bytes(content)
            if isinstance(prompt.original, Edit):
                ids = tokenizer.encode(path)
            findings = [
                Finding(what=f.name, asked=f.asked, came=f.found, met=f.met)
                for f in self._plan.check(path)
            ]
        message = None
        if not is_whole and not self._is_cancelled:
            message = f"it ends after {len(drawn):,} tokens, before all bars were written"
        return Written(
            status="cancelled" if self._is_cancelled else "done",
            ids=ids,
            drawn=drawn,
            piece=self._piece(midi),
            midi=content,
            log_likelihood=None if log_likelihood is None else log_likelihood / log(2),
            findings=findings,
            message=message,
        )


def begin_all(drafts: Sequence[Draft]) -> None:
    """Let the engine write drafts; UserError or EngineFull, and none of them, where it does not."""
    try:
        for draft in drafts:
            draft.begin()
    except Exception:
        for draft in drafts:
            draft.cancel()
        raise
