"""A browser, and a server in a process of its own that can be killed and started again."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from making import write_band

from seqgen.checkpoint import save_model
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.model.sequence_model import SequenceModel
from seqgen.tasks import with_marks
from seqgen.tokenizers import build_tokenizer, settled

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PARTS = {"parts": "tracks", "part_names": ["0", "33", "40", "drums"], "use_time_signatures": True}
PARTS |= {"use_tempos": True, "use_velocities": True, "positions_per_beat": 4}
TASKS = {"continue": 1.0, "infill": 1.0, "accompany": 1.0}
SOUNDFONT = "/api/soundfont"
PATIENCE = 120_000  # milliseconds for what the server or the page does


def missing() -> str | None:
    """Say what the tests of the page lack here."""
    if not (ROOT / "seqgen/serving/page/index.html").is_file():
        return "the page is not built: run `make studio`"
    if CHROMIUM is None:
        return "Chromium is not installed"
    lacking = [name for name in ("playwright", "fastapi", "uvicorn") if not found(name)]
    return f"{', '.join(lacking)} not installed" if lacking else None


def found(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def pytest_collection_modifyitems(items):
    reason = missing()
    if reason:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


class Server:
    """The studio in a process of its own."""

    def __init__(self, folder: Path, run: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}/"
        self._command = [sys.executable, str(ROOT / "cli.py"), "studio", str(run), "--no-browser"]
        self._command += ["--port", str(self.port), "--projects", str(folder / "projects")]
        self._folder = folder
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=environment, stdout=log, stderr=log
            )
        while True:
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            with suppress(OSError):
                urllib.request.urlopen(f"{self.address}api/health").close()
                return
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    return write_band(tmp_path_factory.mktemp("song") / "four bars.mid", bars=4)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of a band that has learned nothing: its grammar makes music of what it draws."""
    folder = tmp_path_factory.mktemp("studio")
    data = DataConfig(tasks=TASKS, controls=["all"])
    config = with_marks(settled(TokenizerConfig(**PARTS)), data)
    levels = {"levels": {"density": [1.0, 2.0, 4.0, 8.0], "register": [40.0, 50.0, 60.0, 70.0]}}
    tokenizer = build_tokenizer(config.model_copy(update=levels), LimitsConfig())
    torch.manual_seed(0)
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1, n_heads=2), tokenizer.vocabulary)
    with torch.no_grad():  # short bars, and no end before the last one
        bias = model.lm_head.linears[0].bias
        bias[int(tokenizer.bar[0])] += 2
        bias[tokenizer.vocabulary.eos_id] -= 30
    save_model(folder / "band" / "model", model, tokenizer, step=7, context_length=256, loss=2.0)
    server = Server(folder, folder / "band")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser():
    # Imported here: the package is optional. Its event loop ends with the module.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--autoplay-policy=no-user-gesture-required", "--mute-audio"],
        )
        yield browser
        browser.close()


class Watch:
    """What pages said on their consoles, and whom they asked for something."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self.server_may_be_lost = False

    def over(self, page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._request)

    def _console(self, message) -> None:
        if message.location["url"].endswith(SOUNDFONT):
            return
        refused = re.search("Failed to load resource|ERR_", message.text)
        if message.type in ("error", "warning") and not (refused and self.server_may_be_lost):
            self.complaints.append(message.text)

    def _request(self, request) -> None:
        if not request.url.startswith((self.address, "data:", f"blob:{self.address}")):
            self.strangers.append(request.url)


@pytest.fixture
def open_page(browser, server):
    """Open a page; after the test, none has complained or asked another host for anything.

    Plain sounds play unless a test wants the soundfont, which takes the browser seconds to read.
    """
    watch = Watch(server.address)
    contexts = []

    def build(fragment: str = "", *, soundfont: bool = False, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        if not soundfont:
            context.route(f"**{SOUNDFONT}", lambda route: route.abort())
        page = context.new_page()
        watch.over(page)
        page.goto(server.address + fragment)
        return page

    build.watch = watch
    yield build
    for context in contexts:
        context.close()
    assert watch.strangers == []
    assert watch.complaints == []
