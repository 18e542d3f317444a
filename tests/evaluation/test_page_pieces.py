"""A page plays pieces of both sets where the machine can, and says what is missing where not."""

import base64
import io
import re

import numpy as np
import pytest
from soundfonts import needs_sound, write_soundfont

from seqgen.evaluation.evaluate import PageMaterial
from seqgen.evaluation.generated import GeneratedFile
from seqgen.evaluation.page import build
from seqgen.evaluation.page.build import build_page, choose_pieces, play_openings
from seqgen.evaluation.page.render import PagePicture
from seqgen.midi import Instrument, MidiFile, Note
from seqgen.midi.repair import repair
from seqgen.rendering.sound import soundfonts
from seqgen.rendering.sound.soundfonts import VARIABLE


def lasting(seconds: float) -> MidiFile:
    midi = MidiFile(ticks_per_beat=480)
    notes = [Note(100, 69, 0, round(960 * seconds))] if seconds else []  # 120 quarters per minute
    midi.instruments = [Instrument(0, False, notes=notes)]
    return repair(midi)


EMPTY = {
    "music": {},
    "copying": {},
    "learning_curve": {"training": [], "validation": []},
    "likelihood": {"sets": []},
}


def quiet(*_):
    return


@pytest.fixture
def soundfont(tmp_path, monkeypatch):
    path = write_soundfont(tmp_path / "sine.sf2")
    monkeypatch.setenv(VARIABLE, str(path))
    return path


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """A machine without a soundfont."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(soundfonts, "FOLDERS", [tmp_path])


@needs_sound
def test_openings_are_played_and_the_soundfont_is_named(soundfont, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    monkeypatch.setattr(build, "OPENING_SECONDS", 2.0)
    steps = []
    played, words = play_openings(
        [lasting(1), lasting(9)], progress=lambda *step: steps.append(step)
    )
    lengths = [soundfile.info(io.BytesIO(ogg)).duration for ogg in played]
    assert lengths == pytest.approx([1, 2], abs=0.3)
    assert soundfont.name in words
    assert "2 s" in words
    assert steps[-1] == ("playing pieces", 2, 2)


@needs_sound
def test_a_piece_that_cannot_be_played_keeps_the_others_playing(soundfont):
    played, _ = play_openings([lasting(0), lasting(1)], progress=quiet)
    assert [bool(ogg) for ogg in played] == [False, True]
    played, words = play_openings([lasting(0)], progress=quiet)
    assert played == [b""]
    assert "none of these pieces could be played" in words


def test_without_a_soundfont_the_words_say_what_to_install(silent):
    played, words = play_openings([lasting(1)], progress=quiet)
    assert played == [b""]
    assert "This page has no sound" in words
    assert "apt-get install" in words


def test_the_page_holds_the_sound_itself():
    address = PagePicture("", "", "", ogg=b"OggS").sound()
    kind, content = re.fullmatch(r"data:(audio/ogg);base64,(.*)", address).groups()
    assert (kind, base64.b64decode(content)) == ("audio/ogg", b"OggS")


def test_pieces_of_median_length_are_chosen_in_their_order():
    pieces = [lasting(seconds) for seconds in (9, 1, 5, 4, 60, 6, 3)]
    heard = [(str(i), midi, None, "") for i, midi in enumerate([*pieces, None, lasting(0)])]
    assert choose_pieces(heard) == [heard[i] for i in (2, 3, 5, 6)]
    assert choose_pieces([("text", "words", None, "")]) == []


def test_generated_pieces_stand_beside_held_out_ones_played_alike(tmp_path, silent, monkeypatch):
    asked, shown = [], {}

    def play(pieces, *, progress):
        asked.extend(pieces)
        return [bytes([i]) for i in range(len(pieces))], "played"

    monkeypatch.setattr(build, "play_openings", play)
    monkeypatch.setattr(build, "render", lambda record, pictures, **_: shown.update(pictures))
    ours, theirs = lasting(8), lasting(20)
    pieces = (GeneratedFile(tmp_path / "a.mid", record={"ended_by_itself": False}, midi=ours),)
    build_page(EMPTY, PageMaterial(pieces, (("real.mid", theirs),)), progress=quiet)
    assert asked == [ours, theirs]
    (generated,), (held_out,) = shown["samples"], shown["held_out"]
    assert (generated.caption, generated.ogg) == ("a.mid, cut", b"\0")
    assert (held_out.caption, held_out.ogg) == ("real.mid", b"\1")


def test_generated_images_stand_beside_as_many_real_ones(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(build, "svg_text", lambda figure: "")
    monkeypatch.setattr(build, "render", lambda record, pictures, **_: shown.update(pictures))
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    pieces = tuple(GeneratedFile(tmp_path / f"{i}.png", preview=image) for i in range(3))
    real = tuple((f"{i}.png", image) for i in range(9))
    build_page(EMPTY | {"music": None}, PageMaterial(pieces, real), progress=quiet)
    assert [picture.alt for picture in shown["grid"]] == ["3 generated images", "3 real images"]
    assert not shown["samples"] + shown["held_out"]


def test_a_histogram_is_drawn_where_it_has_something_and_a_constant_is_not():
    pitches = np.zeros(128)
    pitches[[60, 64]] = 0.5
    measured = [{"pitch_histogram": pitches, "repeated_cycles": 0.0}]
    material = PageMaterial(generated=measured, real=measured)
    panel = build._panel("pitch_histogram", material)
    assert panel.categories == ["C4", "", "", "", ""]
    assert panel.data == panel.generated == [0.5, 0, 0, 0, 0.5]
    assert build._panel("repeated_cycles", material) is None


def test_pieces_too_short_for_a_curve_over_positions_have_none():
    ranges = [{"start": 0, "stop": 64, "nats_per_token": 1.5}]
    part = {"forms": {"parallel": ranges * 2}}
    assert build._positions({"likelihood": {"context_length": 64}}, part) is None
