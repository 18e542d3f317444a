"""Sessions for programs: streams that go on exactly, fork and rewind; idle ones are on disk.

Legend: T positions, F fields.
"""

import re
import secrets
import shutil
import tempfile
import threading
import time
from concurrent.futures import Executor, Future
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from seqgen.api.prompts import Prompt, ends_with_bar, read_prompts
from seqgen.decoding import Session, Stream
from seqgen.errors import UserError
from seqgen.files import atomic_folder, read_record, write_record
from seqgen.sampling import SamplerState
from seqgen.serving.engines import Player, Voice
from seqgen.serving.music import piece_of
from seqgen.serving.plans import TOKENS_PER_BAR, Until
from seqgen.serving.problems import Limits, Refusal, missing
from seqgen.serving.runs import Runs
from seqgen.serving.schemas import SessionRequest, SessionState
from seqgen.serving.settings import sampling_of

ID = re.compile(r"[0-9a-f]{16}")
MOST_MARKS = 16  # to which one session can be rewound; the oldest but the beginning go first
FORMAT, RECORD = 1, "session.json"
AGAIN = "begin a new session"


@dataclass
class Held:
    """A session in memory.

    Attributes:
        id, run, seed: what it is called, and how it began.
        prompt: BOS, and the tempo.
        tokens: what follows it [F] each.
        marks: by finished bars, how many tokens there were, and the session.
        n_forks: how many were made.
        voice: what goes on now.
        used: when it was used last, in seconds.
    """

    id: str
    run: str
    seed: int
    prompt: Prompt
    tokens: list[np.ndarray]
    marks: dict[int, tuple[int, Session]]
    ended: bool = False
    n_forks: int = 0
    voice: Voice | None = None
    is_busy: bool = False
    used: float = field(default_factory=time.monotonic)

    @property
    def latest(self) -> int:
        """Its finished bars."""
        return next(reversed(self.marks))


class Sessions:
    """The sessions of a server."""

    def __init__(self, folder: Path, runs: Runs, limits: Limits, scribes: Executor) -> None:
        self._folder, self._runs, self._limits, self._scribes = folder, runs, limits, scribes
        self._held: dict[str, Held] = {}
        self._lock = threading.RLock()

    def create(self, asked: SessionRequest) -> SessionState:
        """Begin a session, before its first token."""
        player = self._runs.player(asked.run)
        tokenizer, decoder = player.model.tokenizer, player.model.decoder
        if tokenizer.clock() is None:
            raise UserError(f"run {asked.run} writes {tokenizer.kind}: choose one for music")
        seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
        [prompt] = read_prompts((), tokenizer, bars=None, tempo=asked.tempo)
        sampling = sampling_of(asked.sampling)
        first = Session(
            state=decoder.initial_state(1).to("cpu"),
            pending=prompt.ids[0],
            sampler=SamplerState.first(
                decoder.vocabulary, sampling, seed=(seed, 0), prompt=prompt.ids
            ),
            fingerprint=decoder.fingerprint,
            decay_after=decoder.decay_after,
        )
        return self._add(Held(_name(), asked.run, seed, prompt, [], {0: (0, first)}))

    def state(self, name: str) -> SessionState:
        """Return a session with its piece."""
        held = self._get(name)
        return self._described(held, with_piece=True)

    def go_on(self, name: str, bars: int) -> tuple[Held, "Future[SessionState]"]:
        """Let a session go on; the result comes when its bars are written."""
        held = self._get(name)
        with self._lock:
            if held.is_busy:
                raise Refusal(409, f"session {name} is going on already: wait until it has")
            if held.ended:
                raise Refusal(409, f"the model has ended session {name}: rewind it, or fork a mark")
            held.is_busy = True
        done: Future[SessionState] = Future()
        try:
            player = self._runs.player(held.run)
            beginning = self._so_far(held, player)
            drawn: list[np.ndarray] = []
            held.voice = player.write(
                held.marks[held.latest][1],
                Until(beginning, bars),
                on_token=drawn.append,
                on_end=partial(self._stopped, held, player, beginning, drawn, done),
                max_tokens=min(bars * TOKENS_PER_BAR, self._limits.max_tokens),
                keep=True,
            )
        except BaseException:
            held.is_busy = False
            raise
        return held, done

    def cancel(self, held: Held) -> None:
        """End what goes on: the session stays where it was."""
        if held.voice is not None:
            self._runs.player(held.run).cancel(held.voice)

    def fork(self, name: str) -> SessionState:
        """Return a new session that goes on from here with other random numbers."""
        held = self._get(name)
        with self._lock:
            held.n_forks += 1
            n_tokens, session = held.marks[held.latest]
            child = session.fork(held.n_forks)[-1]
            copied = Held(
                _name(),
                held.run,
                held.seed,
                held.prompt,
                held.tokens[:n_tokens],
                {held.latest: (n_tokens, child)},
                held.ended,
            )
        return self._add(copied)

    def rewind(self, name: str, bars: int) -> SessionState:
        """Go back to a mark."""
        held = self._get(name)
        with self._lock:
            if held.is_busy:
                raise Refusal(409, f"session {name} is going on: wait until it has")
            if bars not in held.marks:
                raise UserError(
                    f"session {name} has no mark after {bars} bars: it has those after "
                    f"{', '.join(map(str, held.marks))}"
                )
            held.marks = {mark: value for mark, value in held.marks.items() if mark <= bars}
            held.tokens = held.tokens[: held.marks[bars][0]]
            held.ended = False
            return self._described(held)

    def save(self, name: str) -> bytes:
        """Return the latest mark of a session as a file."""
        held = self._get(name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "session.safetensors"
            held.marks[held.latest][1].save(path)
            return path.read_bytes()

    def delete(self, name: str) -> None:
        """Delete a session; what goes on ends."""
        held = self._get(name)
        self.cancel(held)
        with self._lock:
            self._held.pop(name, None)
            shutil.rmtree(self._folder / held.id, ignore_errors=True)

    def rest(self, *, idle_seconds: float) -> None:
        """Let sessions that nobody has used for so long leave memory; they come back from disk."""
        with self._lock:
            for held in list(self._held.values()):
                if not held.is_busy and time.monotonic() - held.used >= idle_seconds:
                    self._store(held)
                    del self._held[held.id]

    def close(self) -> None:
        """End what goes on, and keep all sessions on disk."""
        for held in list(self._held.values()):
            self.cancel(held)
        self.rest(idle_seconds=0)

    def _add(self, held: Held) -> SessionState:
        with self._lock:
            stored = {path.parent.name for path in self._folder.glob(f"*/{RECORD}")}
            if len(stored | self._held.keys()) >= self._limits.max_sessions:
                most = self._limits.max_sessions
                raise Refusal(429, f"there are {most} sessions, the most possible: delete some")
            self._held[held.id] = held
        return self._described(held)

    def _get(self, name: str) -> Held:
        with self._lock:
            if name not in self._held:
                if not ID.fullmatch(name) or not (self._folder / name / RECORD).is_file():
                    raise missing("session", name)
                self._held[name] = self._load(name)
            held = self._held[name]
            held.used = time.monotonic()
            return held

    def _so_far(self, held: Held, player: Player) -> Prompt:
        """Return all tokens of a session as a prompt, with the time after them."""
        clock = copy(held.prompt.clock)
        assert clock is not None
        for token in held.tokens:
            clock.feed(token)
        ids = np.concatenate([held.prompt.ids, *(token[None] for token in held.tokens)])
        n_bars = clock.bars - ends_with_bar(ids, player.model.tokenizer)
        return Prompt(None, ids, held.prompt.tempo, clock, n_bars)

    def _stopped(
        self,
        held: Held,
        player: Player,
        beginning: Prompt,
        drawn: list[np.ndarray],
        done: "Future[SessionState]",
        stream: Stream | None,
        error: UserError | None,
    ) -> None:
        """Note where a session is now; called in the engine's thread, or where it was cancelled."""
        try:
            if error is not None:
                raise error
            assert stream is not None
            if stream.finished == "cancelled":
                raise Refusal(409, f"session {held.id} was cancelled and is where it was")
            with self._lock:
                held.tokens += drawn
                held.ended = stream.finished == "eos"
                n_bars = self._so_far(held, player).bars
                held.marks.pop(n_bars, None)
                held.marks[n_bars] = (len(held.tokens), player.engine.session(stream))
                for mark in list(held.marks)[1:-MOST_MARKS]:
                    del held.marks[mark]
        except UserError as failure:
            held.is_busy = False
            done.set_exception(failure)
            return
        held.is_busy = False
        self._scribes.submit(self._tell, held, done)

    def _tell(self, held: Held, done: "Future[SessionState]") -> None:
        try:
            done.set_result(self._described(held, with_piece=True))
        except Exception as error:
            done.set_exception(UserError(f"session {held.id} cannot be played ({error})"))

    def _described(self, held: Held, *, with_piece: bool = False) -> SessionState:
        piece = None
        if with_piece:
            tokenizer = self._runs.player(held.run).model.tokenizer
            ids = np.concatenate([held.prompt.ids, *(token[None] for token in held.tokens)])
            piece = piece_of(tokenizer.played(ids, tempo=held.prompt.tempo), tokenizer)
        return SessionState(
            id=held.id,
            run=held.run,
            seed=held.seed,
            n_tokens=len(held.tokens),
            n_bars=held.latest,
            marks=list(held.marks),
            ended=held.ended,
            piece=piece,
        )

    def _store(self, held: Held) -> None:
        """Write a session to disk."""
        record = {
            "run": held.run,
            "seed": held.seed,
            "tempo": held.prompt.tempo,
            "tokens": [token.tolist() for token in held.tokens],
            "marks": [[mark, n_tokens] for mark, (n_tokens, _) in held.marks.items()],
            "ended": held.ended,
            "n_forks": held.n_forks,
        }
        with atomic_folder(self._folder / held.id) as folder:
            for mark, (_, session) in held.marks.items():
                session.save(folder / f"{mark}.safetensors")
            write_record(folder / RECORD, record, format=FORMAT)

    def _load(self, name: str) -> Held:
        """Read what `_store` wrote."""
        folder = self._folder / name
        record = read_record(folder / RECORD, format=FORMAT, way_out=AGAIN)
        model = self._runs.player(record["run"]).model
        [prompt] = read_prompts((), model.tokenizer, bars=None, tempo=record["tempo"])
        marks = {
            mark: (n_tokens, Session.load(folder / f"{mark}.safetensors", model.decoder))
            for mark, n_tokens in record["marks"]
        }
        tokens = [np.array(token, dtype=np.int64) for token in record["tokens"]]
        ended, n_forks = record["ended"], record["n_forks"]
        return Held(name, record["run"], record["seed"], prompt, tokens, marks, ended, n_forks)


def _name() -> str:
    return secrets.token_hex(8)
