"""Tokens are chosen so that they carry what the files hold, and what they do not is counted."""

import mido
import pytest
from making import TICKS, write_band, write_song, write_songs

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.midi import (
    ControlChange,
    Instrument,
    MidiFile,
    Note,
    TempoChange,
    TimeSignature,
    midi_bytes,
    open_midi,
)
from seqgen.tokenizers import (
    Shift,
    build_tokenizer,
    choose_settings,
    modality,
    survey_file,
    total_account,
)

LIMITS = LimitsConfig()


def write(path, tracks, *, metre=(4, 4), tempo=100.0, quarter=TICKS):
    midi = MidiFile(ticks_per_beat=quarter)
    midi.instruments = tracks
    midi.time_signature_changes = [TimeSignature(*metre, 0)]
    midi.tempo_changes = [TempoChange(tempo, 0)]
    path.write_bytes(midi_bytes(midi))
    return path


def track(program=0, *, name="", step=TICKS, length=TICKS, velocity=80, n=16, is_drum=False):
    notes = [Note(velocity, 60 + i % 5, i * step, i * step + length) for i in range(n)]
    return Instrument(program, is_drum=is_drum, name=name, notes=notes)


def chosen(*paths, **options):
    surveys = [survey_file(path, LIMITS) for path in paths]
    return choose_settings(TokenizerConfig(**options), surveys)[0]


def test_a_plain_corpus_gets_compact_tokens(tmp_path):
    paths = [write(tmp_path / f"{i}.mid", [track(), track()]) for i in range(3)]
    config = chosen(*paths)
    assert (config.parts, config.part_names) == ("one", ["0"])
    assert (config.positions_per_beat, config.tempo, config.velocity) == (4, 100, 80)
    assert not any(
        (
            config.use_velocities,
            config.use_tempos,
            config.use_time_signatures,
            config.use_sustain_pedals,
            config.use_pitch_bends,
        )
    )


def test_a_band_gets_parts_and_drums(tmp_path):
    config = chosen(write_band(tmp_path / "a.mid"), write_band(tmp_path / "b.mid", metre=(7, 8)))
    assert config.parts == "tracks"
    assert sorted(config.part_names) == ["0", "33", "40", "drums"]
    assert config.part_names[-1] == "drums"
    assert config.use_time_signatures
    assert set(config.time_signatures) == {"4/4", "7/8"}
    assert config.use_velocities


def test_tracks_of_one_instrument_with_shared_names_are_roles(tmp_path):
    for i in range(4):
        tracks = [track(name="MELODY"), track(name="Chords"), track(name=f"take {i}")]
        write(tmp_path / f"{i}.mid", tracks)
    config = chosen(*tmp_path.glob("*.mid"))
    assert config.parts == "tracks"
    assert config.part_names == ["0.melody", "0.chords", "0"]


@pytest.mark.parametrize(("step", "grid"), [(4, 4), (3, 6), (8, 8), (12, 12), (24, 24)])
def test_the_grid_catches_the_onsets(tmp_path, step, grid):
    path = write(tmp_path / "a.mid", [track(step=TICKS // step, n=200)])
    assert chosen(path).positions_per_beat == grid


def test_long_notes_and_tempos_are_within_reach(tmp_path):
    slow = write(tmp_path / "a.mid", [track(step=20 * TICKS, length=20 * TICKS)], tempo=30)
    fast = write(tmp_path / "b.mid", [track()], tempo=240)
    config = chosen(slow, fast)
    assert config.use_tempos
    assert config.max_note_beats == 20
    for path, tempo in ((slow, 30), (fast, 240)):
        t = build_tokenizer(config, LIMITS)
        t.decode(t.encode(path), tmp_path / "back.mid")
        back = open_midi(tmp_path / "back.mid")
        assert back.tempo_changes[0].tempo == pytest.approx(tempo, rel=0.005)
        notes = open_midi(path).instruments[0].notes
        assert [n.end for n in back.instruments[0].notes] == [n.end for n in notes]


def test_what_is_set_is_not_chosen(tmp_path):
    surveys = [survey_file(write_band(tmp_path / "a.mid"), LIMITS)]
    config, reasons = choose_settings(
        TokenizerConfig(parts="one", use_velocities=False, positions_per_beat=8), surveys
    )
    assert (config.parts, config.use_velocities, config.positions_per_beat) == ("one", False, 8)
    assert not {"parts", "use_velocities", "positions_per_beat"} & reasons.keys()
    assert not modality(config.type).is_open(config)


def test_a_cut_metre_on_halves_keeps_a_grid_that_fits(tmp_path):
    """Six positions of a half note would be no whole number for a quarter note."""
    path = write(tmp_path / "a.mid", [track(step=TICKS // 3, n=60)], metre=(3, 2))
    config = chosen(path)
    t = build_tokenizer(config, LIMITS)
    t.decode(t.encode(path), tmp_path / "back.mid")
    back = open_midi(tmp_path / "back.mid")
    assert [n.start for n in back.instruments[0].notes] == [i * TICKS // 3 for i in range(60)]


def test_the_account_says_what_tokens_do_not_hold(tmp_path):
    path = write_band(tmp_path / "a.mid")
    midi = open_midi(path)
    midi.instruments[0].control_changes = [
        ControlChange(64, 127, 0),
        ControlChange(64, 0, TICKS),
        ControlChange(7, 90, 0),
        ControlChange(80, 90, 0),
    ]
    path.write_bytes(midi_bytes(midi))
    written = mido.MidiFile(path)
    written.tracks[0].insert(0, mido.Message("sysex", data=(0x7D, 1)))
    written.save(path)
    n_notes = sum(len(track.notes) for track in midi.instruments)
    n_drums = len(midi.instruments[3].notes)
    t = build_tokenizer(TokenizerConfig(tempo=120), LIMITS)  # one part, four positions per beat
    account = total_account([t.examine(path, [Shift()]).account])
    assert account["notes"] == n_notes
    assert account["notes_kept"] == n_notes - n_drums
    lost = account["lost"]
    assert lost["drum notes"] == n_drums
    assert lost["presses of the sustain pedal"] == 1
    assert lost["changes of volume"] == 1
    assert lost["other controller changes"] == 1
    assert lost["SysEx messages"] == 1
    assert lost["notes at another tempo"] == n_notes - n_drums
    assert lost["notes with another velocity"] > 0
    assert account["onset_ms"]["p95"] == round(TICKS / 12 / TICKS * 60_000 / 87)  # of triplets


def test_a_note_that_is_cut_is_counted(tmp_path):
    path = write(tmp_path / "a.mid", [track(length=80 * TICKS, n=1), track(n=40)])
    config = chosen(path)
    assert config.max_note_beats == 64
    account = total_account([build_tokenizer(config, LIMITS).examine(path, [Shift()]).account])
    assert account["lost"]["notes shorter or longer by more than a beat"] == 1


def test_the_account_of_a_file_that_fits_is_clean(tmp_path):
    path = write_song(tmp_path / "a.mid")
    config = chosen(*write_songs(tmp_path / "more", 3).glob("*.mid"), path)
    account = total_account([build_tokenizer(config, LIMITS).examine(path, [Shift()]).account])
    assert account["notes_kept"] == account["notes"]
    assert account["lost"] == {"track names": 2}  # told by program, since each has its own
    assert account["repaired"] == {}
    assert account["onset_ms"] == account["duration_ms"] == {"median": 0, "p95": 0}


def test_the_commonest_tempo_comes_back_as_it_is(tmp_path):
    for i, tempo in enumerate((120.0, 51.3, 120.0, 120.0, 203.9)):
        write(tmp_path / f"{i}.mid", [track()], tempo=tempo)
    paths = sorted(tmp_path.glob("*.mid"))
    t = build_tokenizer(chosen(*paths), LIMITS)
    for path in paths:
        t.decode(t.encode(path), tmp_path / "back.mid")
        before, after = (open_midi(p).tempo_changes[0].tempo for p in (path, tmp_path / "back.mid"))
        assert after == pytest.approx(before, rel=1e-4 if before == 120 else 0.0045)
