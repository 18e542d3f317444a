"""Sessions for programs: streams that go on exactly, fork and rewind.

Each is on disk after each change, so that a server that was killed, or another one with the same
folder, goes on with it. Those in use are in memory too.

Legend: T positions, F fields.
"""

import asyncio
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor, Future
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np

from seqgen.api.prompts import Prompt, Until, ends_with_bar, read_prompts
from seqgen.decoding import Session, Stream
from seqgen.errors import UserError
from seqgen.files import read_record, write_record
from seqgen.serving.engines import OnToken, Player, Voice
from seqgen.serving.music import piece_of
from seqgen.serving.plans import TOKENS_PER_BAR
from seqgen.serving.problems import Limits, Refusal, missing
from seqgen.serving.runs import Runs
from seqgen.serving.schemas import SessionRequest, SessionState
from seqgen.serving.settings import sampling_of
from seqgen.serving.streams import StreamEvents

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
        key: of the latest request to go on that was carried out.
        begun: how many tokens there were before it.
        stored: which file its record was last read from or written to.
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
    key: str | None = None
    begun: int = 0
    stored: tuple[int, ...] | None = None
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

    def create(self, asked: SessionRequest, *, key: str | None = None) -> SessionState:
        """Begin a session, before its first token; the one of a key only once."""
        name = _name(key)
        if self._has(name):
            return self.state(name)
        player = self._runs.player(asked.run)
        tokenizer, decoder = player.model.tokenizer, player.model.decoder
        if tokenizer.clock() is None:
            raise UserError(f"run {asked.run} writes {tokenizer.kind}: choose one for music")
        seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
        [prompt] = read_prompts((), tokenizer, bars=None, tempo=asked.tempo)
        sampling = sampling_of(asked.sampling)
        state = decoder.initial_state(1).to("cpu")
        first = Session.first(decoder, state, prompt.ids, sampling=sampling, seed=(seed, 0))
        return self._add(Held(name, asked.run, seed, prompt, [], {0: (0, first)}))

    def state(self, name: str) -> SessionState:
        """Return a session with its piece."""
        held = self._get(name)
        return self._described(held, with_piece=True)

    def go_on(
        self, name: str, bars: int, *, key: str | None = None, on_token: OnToken | None = None
    ) -> tuple[Held, "Future[SessionState]"]:
        """Let a session go on; the result comes when its bars are written.

        Args:
            name: of the session.
            bars: how many.
            key: of the request; one that was carried out before is not carried out again.
            on_token: called with each token, in the engine's thread.
        """
        held = self._get(name)
        done: Future[SessionState] = Future()
        if key is not None and key == held.key:
            if on_token is not None:
                for token in held.tokens[held.begun :]:
                    on_token(token)
            self._scribes.submit(self._tell, held, done)
            return held, done
        with self._lock:
            if held.is_busy:
                raise Refusal(409, f"session {name} is going on already: wait until it has")
            if held.ended:
                raise Refusal(409, f"the model has ended session {name}: rewind it, or fork a mark")
            held.is_busy = True
        try:
            player = self._runs.player(held.run)
            beginning = self._so_far(held, player)
            drawn: list[np.ndarray] = []

            def take(token: np.ndarray) -> None:
                drawn.append(token)
                if on_token is not None:
                    on_token(token)

            held.voice = player.write(
                held.marks[held.latest][1],
                Until(beginning, bars),
                on_token=take,
                on_end=partial(self._stopped, held, player, drawn, key, done),
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

    async def stream(
        self, name: str, bars: int, *, key: str | None = None, after: int | None = None
    ) -> AsyncIterator[str]:
        """Let a session go on; return its events as it does.

        Args:
            name: of the session.
            bars: how many.
            key: of the request, as for `go_on`.
            after: how many tokens of the session the client knows.
        """
        held = await asyncio.to_thread(self._get, name)
        begin = held.begun if key is not None and key == held.key else len(held.tokens)
        player = await asyncio.to_thread(self._runs.player, held.run)
        told = StreamEvents(player, begin=begin, after=after or 0)
        held, done = await asyncio.to_thread(
            partial(self.go_on, name, bars, key=key, on_token=told.token)
        )
        cancel = partial(self.cancel, held)
        return told.events(done, lambda state: state, cancel=cancel, scribes=self._scribes)

    def fork(self, name: str, *, key: str | None = None) -> SessionState:
        """Return a new session that goes on from here with other random numbers."""
        child_name = _name(key and f"{name} {key}")
        if self._has(child_name):
            return self.state(child_name)
        held = self._get(name)
        with self._lock:
            held.n_forks += 1
            self._store(held)  # first: another fork must not draw the same
            n_tokens, session = held.marks[held.latest]
            child = session.child(held.n_forks - 1)
            copied = Held(
                child_name,
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
            self._store(held)
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
                    del self._held[held.id]

    def close(self) -> None:
        """End what goes on; all sessions are on disk."""
        for held in list(self._held.values()):
            self.cancel(held)

    def _add(self, held: Held) -> SessionState:
        with self._lock:
            n = sum(1 for _ in self._folder.glob(f"*/{RECORD}"))
            if n >= self._limits.max_sessions:
                raise Refusal(429, f"there are {n} sessions, the most possible: delete some")
            self._store(held)
            self._held[held.id] = held
        return self._described(held)

    def _get(self, name: str) -> Held:
        with self._lock:
            held = self._held.get(name)
            if held is None or (not held.is_busy and held.stored != self._stored(name)):
                self._held.pop(name, None)
                if not self._has(name):
                    raise missing("session", name)
                held = self._held[name] = self._load(name)
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
        drawn: list[np.ndarray],
        key: str | None,
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
            self._scribes.submit(self._keep, held, player, drawn, key, done, stream)
        except UserError as failure:
            held.is_busy = False
            done.set_exception(failure)

    def _keep(
        self,
        held: Held,
        player: Player,
        drawn: list[np.ndarray],
        key: str | None,
        done: "Future[SessionState]",
        stream: Stream,
    ) -> None:
        """Add what was written to a session, on disk first."""
        try:
            with self._lock:
                if held.stored != self._stored(held.id):
                    self._held.pop(held.id, None)
                    raise Refusal(
                        409, f"session {held.id} was changed by another request: read it again"
                    )
                held.key, held.begun = key, len(held.tokens)
                held.tokens = held.tokens + drawn
                held.ended = stream.finished == "eos"
                n_bars = self._so_far(held, player).bars
                held.marks.pop(n_bars, None)
                held.marks[n_bars] = (len(held.tokens), player.engine.session(stream))
                for mark in list(held.marks)[1:-MOST_MARKS]:
                    del held.marks[mark]
                self._store(held)
        except Exception as failure:
            self._held.pop(held.id, None)  # what is on disk counts
            done.set_exception(_told(failure, held.id))
            return
        finally:
            held.is_busy = False
        self._tell(held, done)

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

    def _has(self, name: str) -> bool:
        return bool(ID.fullmatch(name)) and (self._folder / name / RECORD).is_file()

    def _stored(self, name: str) -> tuple[int, ...] | None:
        """Return which file a record is now; None where there is none."""
        try:
            with (self._folder / name / RECORD).open("rb") as file:  # opened: a network file system
                facts = os.fstat(file.fileno())  # may answer for an older one otherwise
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def _store(self, held: Held) -> None:
        """Write what is new of a session to disk: marks, which never change, then the record."""
        folder = self._folder / held.id
        record = {
            "run": held.run,
            "seed": held.seed,
            "tempo": held.prompt.tempo,
            "tokens": [token.tolist() for token in held.tokens],
            "marks": [[mark, n_tokens] for mark, (n_tokens, _) in held.marks.items()],
            "ended": held.ended,
            "n_forks": held.n_forks,
            "key": held.key,
            "begun": held.begun,
        }
        files = {folder / f"{mark}-{n}.safetensors": x for mark, (n, x) in held.marks.items()}
        for path, session in files.items():
            if not path.exists():
                session.save(path)
        write_record(folder / RECORD, record, format=FORMAT)
        held.stored = self._stored(held.id)
        for path in set(folder.glob("*.safetensors")) - files.keys():
            path.unlink(missing_ok=True)

    def _load(self, name: str) -> Held:
        """Read what `_store` wrote."""
        folder, stored = self._folder / name, self._stored(name)
        record = read_record(folder / RECORD, format=FORMAT, way_out=AGAIN)
        model = self._runs.player(record["run"]).model
        [prompt] = read_prompts((), model.tokenizer, bars=None, tempo=record["tempo"])
        marks = {
            mark: (n_tokens, Session.load(folder / f"{mark}-{n_tokens}.safetensors", model.decoder))
            for mark, n_tokens in record["marks"]
        }
        same = {key: record[key] for key in ("run", "seed", "ended", "n_forks", "key", "begun")}
        tokens = [np.array(token, dtype=np.int64) for token in record["tokens"]]
        return Held(id=name, prompt=prompt, tokens=tokens, marks=marks, stored=stored, **same)


def _name(key: str | None) -> str:
    """Return what a session is called: by the key of the request, if it has one."""
    return secrets.token_hex(8) if key is None else blake2b(key.encode(), digest_size=8).hexdigest()


def _told(failure: Exception, name: str) -> UserError:
    if isinstance(failure, UserError):
        return failure
    return UserError(f"session {name} could not be kept ({failure}): it is where it was")
