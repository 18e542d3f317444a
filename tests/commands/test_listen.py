"""Sound files of MIDI files: beside them, never over something else, and clear where one cannot."""

import sys
import wave

import pytest
from making import TICKS, write_model, write_song
from soundfonts import SineSynthesizer, write_soundfont

from seqgen.commands import generating, listening, main
from seqgen.commands.listening import MidiPlayer
from seqgen.midi import MidiFile, Note
from seqgen.rendering.sound import soundfonts

pytest.importorskip("pyloudnorm")
pytest.importorskip("soundfile")
SINE = ("--soundfont", "sine.sf2")


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder; return its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(soundfonts.VARIABLE, raising=False)
    monkeypatch.setattr(listening, "Synthesizer", SineSynthesizer)
    write_soundfont(tmp_path / "sine.sf2")
    write_song(tmp_path / "song.mid", bars=2)
    (tmp_path / "broken.mid").write_bytes(b"MThd broken")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["seqgen", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    return run


def seconds_of(path):
    with wave.open(str(path)) as file:
        return file.getnframes() / file.getframerate()


def test_sound_lies_beside_its_file_and_a_bad_file_is_named_at_the_end(command, tmp_path):
    code, said = command("listen", "broken.mid", "song.mid", *SINE)
    assert code == 1
    assert "cannot use broken.mid" in said
    assert "-18.0 LUFS" in said
    assert 4.8 <= seconds_of(tmp_path / "song.wav") < 8  # two bars at 100 beats a minute, and more


def test_nothing_is_overwritten_unless_it_is_named_or_forced(command, tmp_path):
    (tmp_path / "song.wav").write_text("holiday")
    code, said = command("listen", "song.mid", *SINE)
    assert code == 1
    assert "song.wav exists" in said
    assert (tmp_path / "song.wav").read_text() == "holiday"
    assert command("listen", "song.mid", "--force", *SINE)[0] == 0
    assert seconds_of(tmp_path / "song.wav") > 4


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(command, tmp_path, monkeypatch):
    play = MidiPlayer.play

    def play_slowly(*arguments, **options):
        (tmp_path / "song.wav").write_text("holiday")
        return play(*arguments, **options)

    monkeypatch.setattr(MidiPlayer, "play", play_slowly)
    code, said = command("listen", "song.mid", *SINE)
    assert code == 1
    assert "song.wav exists" in said
    assert (tmp_path / "song.wav").read_text() == "holiday"


def test_ogg_by_its_name_and_by_its_option(command, tmp_path):
    assert command("listen", "song.mid", "-o", "x.ogg", *SINE)[0] == 0
    assert command("listen", "song.mid", "-o", "sounds", "--ogg", *SINE)[0] == 0
    for name in ("x.ogg", "sounds/song.ogg"):
        assert (tmp_path / name).read_bytes()[:4] == b"OggS"


def test_no_soundfont_is_one_sentence_with_the_package(command, tmp_path, monkeypatch):
    monkeypatch.setattr(soundfonts, "FOLDERS", [tmp_path / "x"])
    code, said = command("listen", "song.mid")
    assert (code, said.count("\n")) == (1, 1)
    assert "apt-get install timgm6mb-soundfont" in said


def test_the_environment_names_a_soundfont(command, monkeypatch):
    monkeypatch.setenv(soundfonts.VARIABLE, "sine.sf2")
    code, said = command("listen", "song.mid")
    assert code == 0
    assert "the soundfont sine.sf2" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["song.mid", "--soundfont", "song.mid"], "song.mid is not a soundfont"),
        (["song.mid", "--soundfont", "none.sf2"], "--soundfont: cannot read none.sf2"),
        (["song.mid", "-o", "x.mp3", *SINE], "should end in .wav or .ogg"),
        (["long.mid", *SINE], "it lasts 600.0 minutes, more than 30"),
        (["song.mid", "--max-minutes", "0.05", *SINE], "more than 0.05: `listen --max-minutes 1`"),
    ],
)
def test_mistakes_write_nothing(command, tmp_path, arguments, said):
    write_song(tmp_path / "long.mid", bars=1, tempo=10)
    midi = MidiFile(str(tmp_path / "long.mid"))
    end = 10 * 60 * 10 * TICKS  # ten hours of ten beats a minute
    midi.instruments[0].notes.append(Note(64, 60, end - 10, end))
    midi.dump(str(tmp_path / "long.mid"))
    before = sorted(tmp_path.iterdir())
    code, text = command("listen", *arguments)
    assert code == 1
    assert said in text
    assert sorted(tmp_path.iterdir()) == before


def test_generated_files_are_played_beside_them(command, tmp_path, monkeypatch):
    write_model(tmp_path / "run")
    arguments = ["--samples", "2", "--max-tokens", "60", "--seed", "1", "--no-png", "-o", "out"]
    code, said = command("generate", "run", "--audio", *SINE, *arguments)
    assert code == 0, said
    assert {p.name for p in (tmp_path / "out").glob("*.wav")} == {"001.wav", "002.wav"}
    assert seconds_of(tmp_path / "out/001.wav") > 0.5


def test_generate_names_no_option_that_it_lacks(command, tmp_path, monkeypatch):
    write_model(tmp_path / "run")
    monkeypatch.setattr(
        generating,
        "open_player",
        lambda **_: MidiPlayer(soundfont="sine.sf2", max_minutes=1e-4),
    )
    arguments = ["--samples", "1", "--max-tokens", "60", "--seed", "1", "--no-png", "-o", "[x]"]
    code, said = command("generate", "run", "--audio", *arguments)
    assert code == 1
    assert "more than 0.0001: `listen --max-minutes 1` plays it" in said
    assert "  [x]/001.mid: " in said  # a path is no markup


def test_a_run_that_writes_text_has_no_sound(command, tmp_path):
    write_model(tmp_path / "run", type="bytes")
    code, said = command("generate", "run", "--audio", "-o", "out")
    assert (code, said.count("\n")) == (1, 1)
    assert "--audio and --ogg are for music: run generates text" in said
    assert not (tmp_path / "out").exists()


def test_without_a_soundfont_nothing_is_generated(command, tmp_path):
    write_model(tmp_path / "run")
    code, said = command("generate", "run", "--audio", "--soundfont", "none.sf2", "-o", "out")
    assert code == 1
    assert "--soundfont: cannot read none.sf2" in said
    assert not (tmp_path / "out").exists()
