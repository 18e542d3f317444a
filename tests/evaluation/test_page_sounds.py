"""A page plays its samples where the machine can, and says what is missing where it cannot."""

import base64
import io
import re
from pathlib import Path

import pytest
from soundfonts import needs_sound, write_soundfont

from seqgen.evaluation.generated import Generated
from seqgen.evaluation.page import Picture, sounds
from seqgen.evaluation.page.sounds import play_openings
from seqgen.midi import Instrument, MidiFile, Note
from seqgen.rendering.sound.soundfonts import VARIABLE


def generated(name: str, *, seconds: int) -> Generated:
    midi = MidiFile(ticks_per_beat=480)
    notes = [Note(100, 69, 0, 960 * seconds)] if seconds else []  # 120 quarters per minute
    midi.instruments = [Instrument(0, False, notes=notes)]
    return Generated(Path(name), midi=midi)


@pytest.fixture
def soundfont(tmp_path, monkeypatch) -> Path:
    path = write_soundfont(tmp_path / "sine.sf2")
    monkeypatch.setenv(VARIABLE, str(path))
    return path


@needs_sound
def test_openings_are_played_and_the_soundfont_is_named(soundfont, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    monkeypatch.setattr(sounds, "OPENING_SECONDS", 2.0)
    steps = []
    pieces = [generated("short.mid", seconds=1), generated("long.mid", seconds=9)]
    played, words = play_openings(pieces, progress=lambda *step: steps.append(step))
    lengths = {name: soundfile.info(io.BytesIO(ogg)).duration for name, ogg in played.items()}
    assert lengths["short.mid"] == pytest.approx(1, abs=0.3)
    assert lengths["long.mid"] == pytest.approx(2, abs=0.3)
    assert soundfont.name in words
    assert "2 s" in words
    assert steps[-1] == ("playing pieces", 2, 2)


@needs_sound
def test_a_piece_that_cannot_be_played_keeps_the_others_playing(soundfont):
    pieces = [generated("silent.mid", seconds=0), generated("a.mid", seconds=1)]
    played, _ = play_openings(pieces, progress=lambda *step: None)
    assert list(played) == ["a.mid"]
    played, words = play_openings(pieces[:1], progress=lambda *step: None)
    assert played == {}
    assert "none of the pieces shown can be played" in words


def test_without_a_soundfont_the_words_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    find = sounds.find_soundfont
    monkeypatch.setattr(sounds, "find_soundfont", lambda: find(folders=[tmp_path]))
    played, words = play_openings([generated("a.mid", seconds=1)], progress=lambda *step: None)
    assert played == {}
    assert "This page has no sound" in words
    assert "apt-get install" in words


def test_the_page_holds_the_sound_itself():
    address = Picture("", "", "", ogg=b"OggS").sound()
    kind, content = re.fullmatch(r"data:(audio/ogg);base64,(.*)", address).groups()
    assert (kind, base64.b64decode(content)) == ("audio/ogg", b"OggS")
