"""An exported page in Chromium, served by nothing but Python's own web server."""

import functools
import http.server
import importlib.util
import re
import shutil
import threading

import pytest
import torch

from seqgen.checkpoint import save_model
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.export import web
from seqgen.export.web import export_web
from seqgen.midi import read_midi
from seqgen.model.sequence_model import SequenceModel
from seqgen.tasks import with_marks
from seqgen.tokenizers import build_tokenizer, settled

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 60_000  # milliseconds for what the page does


def missing():
    if not (web.PAGE / "index.html").is_file():
        return "the page is not built: run `make studio`"
    if CHROMIUM is None:
        return "Chromium is not installed"
    return None if importlib.util.find_spec("playwright") else "playwright is not installed"


pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page of a band that has learned nothing: its grammar makes music of what it draws."""
    place = tmp_path_factory.mktemp("page")
    parts = {"parts": "tracks", "part_names": ["0", "33", "drums"], "use_velocities": True}
    parts |= {"use_time_signatures": True, "time_signatures": ["4/4", "3/4"]}
    config = with_marks(settled(TokenizerConfig(**parts)), DataConfig(controls=["all"]))
    tokenizer = build_tokenizer(config, LimitsConfig())
    torch.manual_seed(0)
    model = SequenceModel(ModelConfig(d_model=16, n_layers=1, n_heads=2), tokenizer.vocabulary)
    with torch.no_grad():  # short bars, and no end before the last one
        bias = model.lm_head.linears[0].bias
        bias[int(tokenizer.bar[0])] += 2
        bias[tokenizer.vocabulary.eos_id] -= 30
    save_model(place / "band" / "model", model, tokenizer, step=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "_small_soundfont", lambda: None)
        export_web(place / "band", place / "out", name="band")
    return place / "out"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(folder):
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--mute-audio"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The open page; after the test, it has not complained or asked another host for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints, strangers = [], []
    own = (address, "data:", f"blob:{address}")
    page.on(
        "console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(own) else strangers.append(r.url))
    page.goto(address)
    yield page
    context.close()
    assert strangers == []
    assert complaints == []


def test_the_page_writes_branches_continues_and_gives_a_midi_file(page, tmp_path):
    for label, value in (("Bars", "4"), ("Versions", "4"), ("Seed", "3")):
        page.get_by_label(label, exact=True).first.fill(value)
    page.get_by_label("Seed", exact=True).press("Tab")
    page.click("#write")
    page.locator(".dot.done").nth(3).wait_for()
    assert page.locator(".dot").count() == 4
    assert re.search(r"[\d,.]+ tokens per second · seed 3", page.inner_text("#speed"))

    _, before = told(page)
    page.get_by_label("Versions", exact=True).first.fill("1")
    page.get_by_label("Versions", exact=True).first.press("Tab")
    page.click("#write")  # goes on from the end of the first
    page.locator(".dot.done").nth(4).wait_for()
    shown, n_notes = told(page)
    assert n_notes > before > 0

    with page.expect_download() as download:
        page.click("#download")
    path = tmp_path / "piece.mid"
    download.value.save_as(path)
    midi = read_midi(path, LimitsConfig()).midi
    assert sum(len(track.notes) for track in midi.instruments) == n_notes
    names = [track.name for track in midi.instruments]
    assert ", ".join(names) in shown


def test_the_page_writes_what_is_asked_and_goes_on_from_it(page, tmp_path):
    page.get_by_text("What you ask for").click()
    page.get_by_label("Time signature").select_option("3/4")
    page.get_by_label("Tempo", exact=True).fill("72")
    page.get_by_role("textbox", name="Chords").fill("Am, Bb7 | -")
    page.get_by_label("Instruments").select_option("33")
    assert page.get_by_text("nothing measures").is_visible()
    assert page.get_by_text("Draw more and keep").count() == 0  # nothing here could choose
    for label, value in (("Bars", "4"), ("Versions", "2"), ("Seed", "3")):
        page.get_by_label(label, exact=True).first.fill(value)
    page.click("#write")
    page.locator(".dot.done").nth(1).wait_for()
    page.click("#write")
    page.locator(".dot.done").nth(3).wait_for()
    with page.expect_download() as download:
        page.click("#download")
    path = tmp_path / "piece.mid"
    download.value.save_as(path)
    midi = read_midi(path, LimitsConfig()).midi
    assert [(track.program, track.is_drum) for track in midi.instruments] == [(33, False)]
    assert [(m.numerator, m.denominator) for m in midi.time_signature_changes] == [(3, 4)]
    assert round(midi.tempo_changes[0].tempo, 2) == 72
    last = max(note.start for note in midi.instruments[0].notes)
    assert 6 <= last / midi.ticks_per_beat / 3 < 8  # four bars, and four behind them


def test_what_cannot_be_asked_is_refused_in_a_sentence_and_nothing_is_lost(page):
    page.get_by_text("What you ask for").click()
    page.get_by_role("textbox", name="Chords").fill("Am H7")
    page.click("#write")
    page.get_by_text("Chords: “H7” cannot be asked for. One chord for each bar").wait_for()
    assert page.locator(".dot").count() == 0
    assert page.get_by_role("textbox", name="Chords").input_value() == "Am H7"
    page.get_by_role("textbox", name="Chords").fill("Am B7")
    page.get_by_label("Bars", exact=True).first.fill("1")
    page.click("#write")
    page.locator(".dot.done").first.wait_for()


def told(page):
    """Return what the piano roll says of the piece, and how many notes it has."""
    label = page.locator("#roll").get_attribute("aria-label")
    return label, int(re.search(r"(\d+) notes", label)[1])


def test_a_browser_without_simd_is_told_so(browser, address):
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("WebAssembly.validate = () => false")
    page.goto(address)
    assert "WebAssembly with SIMD" in page.locator("[role=alert]").inner_text()
    context.close()
