"""The studio: runs, projects and sessions of one server, and what programs ask for."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from seqgen.errors import UserError
from seqgen.midi import ANY_SIZE, open_midi
from seqgen.rendering.sound.soundfonts import find_soundfont
from seqgen.rendering.sound.synthesis import synthesise
from seqgen.rendering.sound.synthesizer import Synthesizer
from seqgen.serving.library import Library
from seqgen.serving.problems import Limits, Refusal
from seqgen.serving.programs import Programs
from seqgen.serving.projects import Tools
from seqgen.serving.runs import Runs
from seqgen.serving.schemas import Health
from seqgen.serving.sessions import Sessions
from seqgen.serving.uploads import Gate

PAGE = Path(__file__).parent / "page" / "index.html"
VERSION = version("seqgen")
N_SCRIBES = 2  # threads that make music of tokens
MAX_WAV_MINUTES = 15.0
REST_SECONDS = 30.0  # between looks for idle sessions


class Studio:
    """All that a server has.

    Attributes:
        runs, projects, programs, sessions: as their classes say.
        tools: what projects and programs work with.
    """

    def __init__(
        self,
        folder: Path,
        *,
        runs: Sequence[str | Path] = (),
        limits: Limits | None = None,
        runs_folder: Path = Path("runs"),
    ) -> None:
        """Find what is there; nothing is loaded.

        Args:
            folder: of projects.
            runs: named ones, which come first.
            limits: what the server does at most.
            runs_folder: where others are found.
        """
        self.limits = limits or Limits()
        self.runs = Runs(runs, self.limits, folder=runs_folder)
        self._scribes = ThreadPoolExecutor(N_SCRIBES, "scribe")
        self.tools = Tools(self.runs, self.limits, Gate(), self._scribes)
        self.projects = Library(folder, self.tools)
        self.programs = Programs(self.tools)
        self.sessions = Sessions(folder / "sessions", self.runs, self.limits, self._scribes)
        self._sound = threading.Lock()  # FluidSynth takes much memory
        self._n_listeners = 0
        self._resting: asyncio.Task | None = None

    def open(self) -> None:
        """Begin to serve, in the running loop."""
        self._resting = asyncio.create_task(self._rest())

    async def close(self) -> None:
        """End everything that is written, and keep what is there."""
        if self._resting is not None:
            self._resting.cancel()
            with suppress(asyncio.CancelledError):
                await self._resting
        await asyncio.to_thread(self.end)

    def end(self) -> None:
        """End everything that is written, and keep what is there."""
        self.projects.close()
        self.sessions.close()
        self.runs.close()
        self._scribes.shutdown()
        self.tools.gate.close()

    def health(self) -> Health:
        """Say what it is doing."""
        return Health(
            status="ok",
            version=VERSION,
            page=PAGE.is_file(),
            streams=self.runs.n_streams,
            waiting=self.runs.n_waiting,
            loaded=list(self.runs.loaded),
        )

    def sound(self, content: bytes) -> bytes:
        """Return a MIDI file as WAV; a Refusal where this machine cannot play it."""
        try:
            synthesizer = Synthesizer(find_soundfont())
        except UserError as error:
            raise Refusal(503, str(error)) from None
        with self._sound:
            midi = open_midi(content, ANY_SIZE, name="the piece")
            sound = synthesise(midi, synthesizer, max_minutes=MAX_WAV_MINUTES)
            return sound.encode(".wav")

    async def listen(self, name: str) -> AsyncIterator[str]:
        """Return the events of a project."""
        project = await asyncio.to_thread(self.projects.get, name)
        if self._n_listeners >= self.limits.max_listeners:
            raise Refusal(
                429, f"{self._n_listeners} pages listen, the most possible: close some of them"
            )
        queue, first = await asyncio.to_thread(project.join, asyncio.get_running_loop())
        return self._counted(project.hub.events(queue, first))

    async def _counted(self, events: AsyncIterator[str]) -> AsyncIterator[str]:
        self._n_listeners += 1
        try:
            async for text in events:
                yield text
        finally:
            self._n_listeners -= 1

    async def _rest(self) -> None:
        """Let idle sessions leave memory now and then."""
        while True:
            await asyncio.sleep(REST_SECONDS)
            await asyncio.to_thread(self.sessions.rest, idle_seconds=self.limits.idle_seconds)
