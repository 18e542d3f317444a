"""Whatever the bytes are, the gate returns a sound piece or says in one sentence why not."""

import io
import os
import pickle
import random
import time

import miditoolkit
import pytest
from miditoolkit import Instrument, Note, TempoChange

from seqgen.config import LimitsConfig
from seqgen.errors import FileRejected
from seqgen.midi.gate import open_midi, read_midi
from seqgen.midi.inspect import MidiSummary, summarize, track_label
from seqgen.midi.repair import repair
from seqgen.midi.store import midi_bytes

END = b"\x00\xff\x2f\x00"
NOTE = b"\x00\x90\x3c\x40\x60\x80\x3c\x00"  # middle C, from tick 0 to tick 96


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4) + content


def midi_file(*tracks: bytes, file_format=1, n_tracks=None, division=96) -> bytes:
    n_tracks = len(tracks) if n_tracks is None else n_tracks
    numbers = (file_format, n_tracks, division)
    header = chunk(b"MThd", b"".join(number.to_bytes(2) for number in numbers))
    return header + b"".join(chunk(b"MTrk", track) for track in tracks)


def riff(content: bytes, kind=b"RMID") -> bytes:
    chunks = (
        kind + b"DISP\x03\x00\x00\x00abc\x00data" + len(content).to_bytes(4, "little") + content
    )
    return b"RIFF" + len(chunks).to_bytes(4, "little") + chunks


def song(n_notes=60) -> miditoolkit.MidiFile:
    midi = miditoolkit.MidiFile(ticks_per_beat=480)
    midi.tempo_changes = [TempoChange(120, 0), TempoChange(60, 480 * 4)]
    for program in (0, 40):
        notes = [Note(40 + i % 80, 30 + i * 7 % 60, i * 240, i * 240 + 200) for i in range(n_notes)]
        midi.instruments.append(Instrument(program, notes=notes))
    midi.instruments.append(Instrument(0, is_drum=True, notes=[Note(90, 36, 0, 60)]))
    return repair(midi)


def rejection(content, limits=None) -> FileRejected:
    with pytest.raises(FileRejected) as caught:
        open_midi(content, limits or LimitsConfig())
    return caught.value


def note_values(midi: miditoolkit.MidiFile) -> list[tuple[int, int, int, int]]:
    notes = [note for track in midi.instruments for note in track.notes]
    return sorted((note.start, note.end, note.pitch, note.velocity) for note in notes)


def test_path_text_and_bytes_open_the_same_piece(tmp_path):
    path = tmp_path / "song.mid"
    path.write_bytes(midi_bytes(song()))
    assert open_midi(path) == open_midi(str(path)) == open_midi(path.read_bytes()) == song()


def test_opened_notes_are_those_miditoolkit_reads():
    content = midi_bytes(song())
    assert note_values(open_midi(content)) == note_values(
        miditoolkit.MidiFile(file=io.BytesIO(content))
    )


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (b"", "empty", "holds no bytes"),
        (b"\x89PNG\r\n", "unreadable", "does not begin"),
        (b"MThd\x00\x00\x00\x06\x00", "unreadable", "header is cut off"),
        (b"MThd\x00\x00\x00\x02\x00\x01" + bytes(20), "unreadable", "header is cut off"),
        (riff(midi_file(NOTE + END))[:-1], "unreadable", "cut off in its RIFF container"),
        (b"RIFF\x04\x00\x00\x00RMID", "unreadable", "holds no MIDI data"),
        (riff(midi_file(NOTE + END), b"WAVE"), "unsupported", "not RMID"),
        (riff(b"data" + bytes(20)), "unreadable", "does not begin with MThd"),
        (midi_file(NOTE + END, file_format=2), "unsupported", "format 2"),
        (midi_file(NOTE + END, division=0xE728), "unsupported", "SMPTE"),
        (midi_file(NOTE + END, division=0), "unreadable", "0 ticks"),
        (midi_file(NOTE + END)[:-6], "unreadable", "cut off at track 1"),
        (midi_file(NOTE + END, n_tracks=2), "unreadable", "cut off at track 2"),
        (midi_file(NOTE + END, n_tracks=0xFFFF), "over-limit", "65535 tracks"),
        (midi_file(NOTE + b"\x00\x90\x3c"), "unreadable", "cut off in track 1"),
        (midi_file(NOTE + b"\x00\x90", NOTE + END), "unreadable", "past the end"),
        (midi_file(b"\x00\x90\xbc\x40" + END), "unreadable", "below 128"),
        (midi_file(b"\x00\x3c\x40" + END), "unreadable", "unknown type"),
        (midi_file(NOTE + b"\xff" * 1000), "unreadable", "longer than four bytes"),
        (midi_file(), "empty", "no notes"),
        (midi_file(b"", END), "empty", "no notes"),
        (midi_file(b"\x00\x90\x3c\x40" + END), "empty", "no note of any length"),
        (midi_file(b"\x00\x90\x3c\x40\x00\x80\x3c\x00" + END), "empty", "no note of any length"),
    ],
)
def test_faulty_bytes_are_rejected_with_their_reason(content, kind, reason):
    error = rejection(content)
    assert error.kind == kind
    assert reason in str(error)


def test_tracks_that_the_header_does_not_count_are_left_out_as_players_do_and_counted():
    read = read_midi(midi_file(NOTE + END, NOTE + END, n_tracks=1))
    assert note_values(read.midi) == [(0, 96, 60, 64)]
    assert read.repairs == {"tracks beyond the number in the header left out": 1}


@pytest.mark.parametrize(
    ("limits", "kind", "reason"),
    [
        (LimitsConfig(max_file_bytes=100), "over-limit", "larger than limits.max_file_bytes=100"),
        (LimitsConfig(max_tracks=2), "over-limit", "4 tracks, more than limits.max_tracks=2"),
        (LimitsConfig(max_events=50), "over-limit", "events, more than limits.max_events=50"),
        (LimitsConfig(max_notes=120), "over-limit", "121 notes, more than limits.max_notes=120"),
        (LimitsConfig(min_notes=122), "empty", "121 notes, fewer than limits.min_notes=122"),
        (LimitsConfig(max_minutes=0.25), "over-limit", "0.5 minutes, more than limits.max_minutes"),
        (
            LimitsConfig(max_beats=29),
            "over-limit",
            "30 quarter notes, more than limits.max_beats=29",
        ),
        (
            LimitsConfig(max_notes_on_one_key=1),
            "over-limit",
            "2 notes on one key at once, more than limits.max_notes_on_one_key=1",
        ),
    ],
)
def test_each_limit_rejects_what_exceeds_it_and_is_named(limits, kind, reason):
    error = rejection(midi_bytes(song()), limits)
    assert error.kind == kind
    assert reason in str(error)


def programs(n: int) -> bytes:
    """One note for each of `n` programs."""
    return b"".join(b"\x00\xc0" + bytes([program]) + NOTE for program in range(n))


def test_instruments_are_limited_even_within_one_track():
    limits = LimitsConfig(max_tracks=9)
    reason = str(rejection(midi_file(programs(10) + END), limits))
    assert "10 instruments, more than limits.max_tracks=9" in reason


def test_what_is_made_of_a_file_is_limited_as_the_file_is():
    controls = b"".join(b"\x00\xb0\x01" + bytes([i % 128]) for i in range(5000))
    content = midi_file(controls + programs(128) + END)
    assert "more than limits.max_events=500000" in str(rejection(content))
    assert len(content) < 25_000
    few = open_midi(midi_file(controls + programs(3) + END))
    assert [len(track.control_changes) for track in few.instruments] == [5000] * 3


def test_a_long_name_is_not_copied_to_every_program():
    name = b"\x00\xff\x03" + bytes([0x80 | 100, 0x7F & 0]) + b"n" * 12_800
    midi = open_midi(midi_file(name + programs(128) + END))
    assert {track.name for track in midi.instruments} == {"n" * 255}


def awkward() -> bytes:
    """A file near several limits: many programs, many equal notes, controls, a late end."""
    tracks = [programs(5) + b"\x00\xb0\x40\x7f\x60\xb0\x40\x00" + END] * 3
    return midi_file(*tracks, NOTE + b"\x8f\x00\xff\x06\x03end" + b"\x8f\x00\xff\x2f\x00")


LIMITS = ["max_tracks", "max_events", "max_notes", "max_beats", "max_notes_on_one_key"]


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("content", [awkward(), midi_bytes(song())], ids=["awkward", "song"])
def test_what_a_limit_just_lets_through_it_lets_through_again_when_written(content, name):
    low, high = 0, 10**9  # too low, and high enough
    while high - low > 1:
        middle = (low + high) // 2
        try:
            open_midi(content, LimitsConfig(**{name: middle}))
            high = middle
        except FileRejected:
            low = middle
    if low > 0:
        assert f"limits.{name}={low}" in str(rejection(content, LimitsConfig(**{name: low})))
    limits = LimitsConfig(**{name: high})
    midi = open_midi(content, limits)
    again = open_midi(midi_bytes(midi), limits)
    assert summarize(again) == summarize(midi)


def test_equal_notes_in_many_tracks_count_together():
    assert summarize(open_midi(midi_file(*[NOTE + END] * 256))).n_notes == 256
    reason = str(rejection(midi_file(*[NOTE + END] * 257)))
    assert "257 notes on one key at once, more than limits.max_notes_on_one_key=256" in reason


def test_paths_that_cannot_be_read_are_rejected(tmp_path):
    missing = tmp_path / "missing.mid"
    null = tmp_path / "a\0b"
    for path, reason in (
        (missing, "no such file"),
        (tmp_path, "not a file"),
        (null, "not a valid file name"),
        (tmp_path / ("a" * 5000), "too long"),
    ):
        error = rejection(path)
        assert error.kind == "unreadable"
        assert str(error).startswith(f"cannot use {path}: ")
        assert reason in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_files_without_permission_are_rejected(tmp_path):
    path = tmp_path / "private.mid"
    path.write_bytes(midi_file(NOTE + END))
    path.chmod(0)
    assert "permission denied" in str(rejection(path))


def test_rejection_is_for_the_user_names_the_file_and_survives_pickling():
    with pytest.raises(FileRejected) as caught:
        open_midi(b"no music", name="upload 7")
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == "cannot use upload 7: it is not a MIDI file (it does not begin with MThd)"
    assert copied.kind == "unreadable"


@pytest.mark.parametrize(
    "meta",
    [
        b"\xff\x59\x02\x0c\x00",  # twelve sharps
        b"\xff\x59\x00",  # a key signature without content
        b"\xff\x51\x03\x00\x00\x00",  # a beat that takes no time
        b"\xff\x51\x01\x07",  # a tempo cut short
        b"\xff\x58\x04\x00\x02\x18\x08",  # bars of no beats
        b"\xff\x54\x05\xff\xff\xff\xff\xff",  # an impossible SMPTE offset
        b"\xff\x20\x00",  # a channel prefix without a channel
        b"\xff\x08\x04harp",  # a type that mido does not know, whose delta time it would lose
    ],
)
def test_faulty_or_unknown_meta_events_cost_neither_notes_nor_time(meta):
    midi = open_midi(midi_file(b"\x30" + meta + NOTE + END))
    assert note_values(midi) == [(0x30, 0x30 + 96, 60, 64)]


def test_foreign_chunks_and_empty_tracks_are_passed_over():
    content = midi_file(b"", NOTE + END)
    midi = open_midi(content[:14] + chunk(b"XFIH", b"anything") + content[14:])
    assert note_values(midi) == [(0, 96, 60, 64)]


def test_traps_are_rejected_at_once():
    endless_number = b"\xff" * 4_000_000
    held = b"\x00\x90\x3c\x40" + b"\x00\x3c\x40" * 40_000 + b"\x01\x3c\x00" * 40_001
    far_away = b"\x00\x90\x3c\x40\xff\xff\xff\x7f\x3c\x00"
    start = time.process_time()
    assert "four bytes" in str(rejection(midi_file(endless_number)))
    assert "on one key" in str(rejection(midi_file(held + END)))
    assert "quarter notes" in str(rejection(midi_file(far_away + END)))
    assert time.process_time() - start < 5


def damaged(content: bytes, generator: random.Random) -> bytes:
    content = bytearray(content)
    position = generator.randrange(len(content))
    match generator.randrange(5):
        case 0:
            del content[position:]
        case 1:
            for _ in range(generator.choice((1, 2, 10))):
                content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        case 2:
            content[position:position] = generator.randbytes(generator.choice((1, 2, 30)))
        case 3:
            del content[position : position + generator.choice((1, 2, 30))]
        case 4:
            content[22:] = generator.randbytes(len(content) - 22)
    return bytes(content)


def test_damaged_files_are_rejected_or_come_out_sound():
    generator = random.Random(909)
    content = midi_bytes(song())
    outcomes = {"opened": 0, "rejected": 0}
    for _ in range(300):
        try:
            midi = open_midi(damaged(content, generator))
        except FileRejected:
            outcomes["rejected"] += 1
            continue
        outcomes["opened"] += 1
        assert repair(midi) == midi
        assert summarize(open_midi(midi_bytes(midi))).n_notes == summarize(midi).n_notes
    assert min(outcomes.values()) >= 20


def test_summary_counts_up_to_the_last_note():
    midi = song(n_notes=16)
    midi.markers.append(miditoolkit.Marker("long after", 100_000))
    # One bar at 120 beats per minute takes 2 s; 1,880 ticks at 60 follow.
    assert summarize(midi) == MidiSummary(
        n_notes=33,
        n_tracks=3,
        seconds=pytest.approx(2 + 1880 / 480),
        programs=(0, 40),
        n_ticks=3800,
        ticks_per_beat=480,
        n_bars=2,
        metres=("4/4",),
        tempo=120,
    )
    assert str(summarize(midi)) == "2 bars of 4/4 at 120 bpm, 33 notes, 3 tracks"


def test_track_label_is_the_name_or_what_plays():
    assert track_label(Instrument(0, name=" Flute ")) == "Flute"
    assert track_label(Instrument(0, is_drum=True)) == "Drums"
    assert track_label(Instrument(127)) == "Gunshot"
