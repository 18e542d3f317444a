"""What programs ask for: a piece as JSON or as it is written, and answers to what is played."""

import asyncio
import base64
import hashlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from fastapi import Request
from starlette.types import Receive

from seqgen.api.model import Model
from seqgen.api.picking import Picking
from seqgen.api.prompts import Prompt, Until, prompt_of
from seqgen.errors import FileRejected, UserError
from seqgen.midi import midi_bytes
from seqgen.serving.best_of import BestOf, Chosen
from seqgen.serving.drafts import Draft, Written, begin_all
from seqgen.serving.engines import Player
from seqgen.serving.music import DEFAULT_TEMPO, EXACT, Kept, file_of, piece_of
from seqgen.serving.plans import PlannedVersion, most_tokens, plan_piece
from seqgen.serving.projects import Tools
from seqgen.serving.schemas import (
    Generated,
    GenerateRequest,
    LiveAnswer,
    LivePlayed,
    LiveRequest,
    ShownPiece,
)
from seqgen.serving.settings import sampling_of
from seqgen.serving.streams import StreamEvents

T = TypeVar("T")


class Programs:
    """Writes for programs."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def generate(self, asked: GenerateRequest, request: Request) -> Generated:
        """Return a piece when it is written, the best one where several are drawn."""
        player, plans, picking = await asyncio.to_thread(self._plan, asked)
        best: Draft | Chosen
        if len(plans) == 1:
            drafts = [best := Draft(player, plans[0], self._tools.scribes)]
        else:
            choice = BestOf(picking, player, plans, self._tools.scribes)
            drafts, [best] = choice.drafts, choice.kept
        await asyncio.to_thread(begin_all, drafts)
        written = await result_or_gone(request, best.written, best.cancel)
        return _generated(written, plans[0].seed)

    async def stream(
        self, asked: GenerateRequest, *, key: str | None = None, after: int | None = None
    ) -> AsyncIterator[str]:
        """Return the events of a piece that is being written.

        Args:
            asked: for what.
            key: of the request; where no seed is asked for, it follows from the key.
            after: how many tokens the client knows.
        """
        if asked.seed is None and key is not None:
            asked = asked.model_copy(update={"seed": seed_of(key)})
        if after is not None and asked.seed is None:
            raise UserError("Last-Event-ID goes on with a stream of a known seed: give seed")
        player, [plan], _ = await asyncio.to_thread(self._plan, asked)
        scribes = self._tools.scribes
        told = StreamEvents(player, after=after or 0)
        draft = Draft(player, plan, scribes, tell=told.music, on_token=told.token)
        await asyncio.to_thread(draft.begin)
        done = partial(_generated, seed=plan.seed)
        return told.events(draft.written, done, cancel=draft.cancel, scribes=scribes)

    async def live(self, asked: LiveRequest, request: Request) -> LiveAnswer:
        """Return the answer to what was played; its time is that of all computing."""
        player = await asyncio.to_thread(self._tools.runs.player, asked.run)
        answer = Answering(player)
        plan = await asyncio.to_thread(self._answer, player, asked, answer)
        draft = Draft(player, plan, self._tools.scribes, on_token=answer.token)
        await asyncio.to_thread(draft.begin)
        written = await result_or_gone(request, draft.written, draft.cancel)
        return answer.so_far(written.piece)

    async def live_stream(self, asked: LiveRequest) -> AsyncIterator[str]:
        """Return the events of an answer while it is written."""
        player = await asyncio.to_thread(self._tools.runs.player, asked.run)
        answer = Answering(player)
        plan = await asyncio.to_thread(self._answer, player, asked, answer)
        scribes = self._tools.scribes
        told = StreamEvents(player, told=lambda before, piece: answer.so_far(piece))
        draft = Draft(player, plan, scribes, tell=told.music, on_token=answer.token)
        await asyncio.to_thread(draft.begin)

        def done(written: Written) -> LiveAnswer:
            return answer.so_far(written.piece)

        return told.events(draft.written, done, cancel=draft.cancel, scribes=scribes)

    def look_ahead(self, asked: LivePlayed) -> None:
        """Take in what was played so far: an answer to this and more comes sooner."""
        player = self._tools.runs.player(asked.run)
        if asked.notes:
            prompt, _ = _played(player.model, asked)
            player.look_ahead(prompt.ids)

    def _plan(self, asked: GenerateRequest) -> tuple[Player, list[PlannedVersion], Picking]:
        player = self._tools.runs.player(asked.run)
        seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
        return player, *plan_piece(player.model, asked, seed, self._tools.limits)

    def _answer(self, player: Player, asked: LiveRequest, answer: "Answering") -> PlannedVersion:
        """Plan the bars after what was played."""
        if not asked.notes:
            raise UserError("nothing was played: play a note first")
        prompt, piece = _played(player.model, asked)
        answer.begin = piece.bars[-1]
        player.prepare(prompt.ids)
        return PlannedVersion(
            prompt.ids,
            prompt,
            Until(prompt, asked.bars),
            sampling_of(asked.sampling),
            secrets.randbelow(2**31) if asked.seed is None else asked.seed,
            0,
            most_tokens(asked.bars, self._tools.limits),
            kept=Kept.of(piece),
        )


class Answering:
    """An answer to what was played, while it is written.

    Attributes:
        begin: where it begins, in quarter notes.
    """

    def __init__(self, player: Player) -> None:
        """Begin to measure the time."""
        grammar = player.model.decoder.vocabulary.grammar
        self._completes = None if grammar is None else grammar.completes_unit
        self._started = time.perf_counter()
        self._first: float | None = None
        self.begin = 0.0

    def token(self, token: np.ndarray) -> None:
        """Take a token [F]."""
        is_note = self._completes is None or self._completes[int(token[0])]
        if self._first is None and is_note:
            self._first = self._milliseconds()

    def so_far(self, piece: ShownPiece) -> LiveAnswer:
        """Return what of a piece is answered."""
        now = self._milliseconds()
        notes = [note for note in piece.notes if note.start >= self.begin - EXACT]
        return LiveAnswer(
            piece=piece.model_copy(update={"notes": notes}),
            begin=self.begin,
            first_note_milliseconds=now if self._first is None else self._first,
            milliseconds=now,
        )

    def _milliseconds(self) -> float:
        return round(1000 * (time.perf_counter() - self._started), 2)


def _played(model: Model, asked: LivePlayed) -> tuple[Prompt, ShownPiece]:
    """Return what was played as a prompt, which ends where the next bar begins, and as a piece."""
    midi = file_of(
        asked.notes,
        asked.tracks,
        tempo=asked.tempo or DEFAULT_TEMPO,
        metre=asked.metre or "4/4",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "played.mid"
        path.write_bytes(midi_bytes(midi))
        try:
            ids = model.tokenizer.encode(path)
        except FileRejected as rejected:
            raise UserError(f"the model cannot read what was played: {rejected.reason}") from None
    piece = piece_of(midi, model.tokenizer, new="prompt")
    tempo, bars = midi.tempo_changes[0].tempo, len(piece.bars) - 1
    return prompt_of(ids, model.tokenizer, bars=bars, tempo=tempo), piece


async def result_or_gone(request: Request, result: "Future[T]", cancel: Callable[[], None]) -> T:
    """Wait for a result; if the client goes away before it is there, cancel the work."""
    wanted = asyncio.wrap_future(result)
    leaving = asyncio.create_task(leaves(request.receive))
    try:
        waiting: list[asyncio.Future[Any]] = [wanted, leaving]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not wanted.done():
            await asyncio.to_thread(cancel)
        return await wanted
    finally:
        leaving.cancel()


async def leaves(receive: Receive) -> None:
    """Wait until a client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def seed_of(key: str) -> int:
    """Return the seed of a request of which only a key is known."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest()) >> 1


def _generated(written: Written, seed: int) -> Generated:
    return Generated(
        seed=seed,
        piece=written.piece,
        tokens=written.drawn.tolist(),
        log_likelihood_bits=written.log_likelihood,
        midi_base64=base64.b64encode(written.midi).decode(),
        findings=written.findings,
    )
