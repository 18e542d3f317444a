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
from seqgen.api.prompts import prompt_of
from seqgen.errors import FileRejected, UserError
from seqgen.files import write_bytes
from seqgen.midi import midi_bytes
from seqgen.serving.best_of import BestOf, Chosen
from seqgen.serving.drafts import Draft, Written, begin_all
from seqgen.serving.engines import Player
from seqgen.serving.music import DEFAULT_TEMPO, EXACT, Kept, file_of, piece_of
from seqgen.serving.plans import PlannedVersion, Until, most_tokens, plan_piece
from seqgen.serving.projects import Tools
from seqgen.serving.schemas import (
    Generated,
    GenerateRequest,
    LiveAnswer,
    LiveRequest,
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
        begin = time.perf_counter()
        plan, until = await asyncio.to_thread(self._answer, player.model, asked)
        first: list[float] = []
        grammar = player.model.decoder.vocabulary.grammar

        def note(token: np.ndarray) -> None:
            if not first and (grammar is None or grammar.completes_unit[int(token[0])]):
                first.append(time.perf_counter() - begin)

        draft = Draft(player, plan, self._tools.scribes, on_token=note)
        await asyncio.to_thread(draft.begin)
        written = await result_or_gone(request, draft.written, draft.cancel)
        seconds = time.perf_counter() - begin
        new = [n for n in written.piece.notes if n.start >= until - EXACT]
        return LiveAnswer(
            piece=written.piece.model_copy(update={"notes": new}),
            begin=until,
            first_note_milliseconds=round(1000 * (first or [seconds])[0], 2),
            milliseconds=round(1000 * seconds, 2),
        )

    def _plan(self, asked: GenerateRequest) -> tuple[Player, list[PlannedVersion], Picking]:
        player = self._tools.runs.player(asked.run)
        seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
        return player, *plan_piece(player.model, asked, seed, self._tools.limits)

    def _answer(self, model: Model, asked: LiveRequest) -> tuple[PlannedVersion, float]:
        """Plan the bars after what was played, and say where they begin."""
        if not asked.notes:
            raise UserError("nothing was played: play a note first")
        midi = file_of(
            asked.notes,
            asked.tracks,
            tempo=asked.tempo or DEFAULT_TEMPO,
            metre=asked.metre or "4/4",
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "played.mid"
            write_bytes(path, midi_bytes(midi))
            try:
                ids = model.tokenizer.encode(path)
            except FileRejected as rejected:
                raise UserError(
                    f"the model cannot read what was played: {rejected.reason}"
                ) from None
        tempo = midi.tempo_changes[0].tempo
        piece = piece_of(midi, model.tokenizer, new="prompt")
        bars = len(piece.bars) - 1
        prompt = prompt_of(ids, model.tokenizer, bars=bars, tempo=tempo)
        plan = PlannedVersion(
            prompt.ids,
            prompt,
            Until(prompt, asked.bars),
            sampling_of(asked.sampling),
            secrets.randbelow(2**31) if asked.seed is None else asked.seed,
            0,
            most_tokens(asked.bars, self._tools.limits),
            Kept.of(piece),
        )
        return plan, piece.bars[-1]


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
