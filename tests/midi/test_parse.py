"""What is read is what a file means: programs of channels, ends of notes, the opening, metres."""

import pytest
from miditoolkit import Instrument, MidiFile, Note, TempoChange, TimeSignature
from test_gate import END, NOTE, midi_file, note_values, riff

from seqgen.midi.gate import open_midi, read_midi
from seqgen.midi.inspect import summarize
from seqgen.midi.repair import repair
from seqgen.midi.store import midi_bytes
from seqgen.midi.timing import metre_at

TEMPO_60 = b"\xff\x51\x03\x0f\x42\x40"
NAME = b"\x00\xff\x03\x04Lead"
UNRELEASED = "notes never released, ended with the next on their key or their track"


def parts(content: bytes) -> list[tuple[int, bool, list[int]]]:
    """Program, whether drums, and pitches, of each instrument."""
    midi = open_midi(content)
    return [(t.program, t.is_drum, [n.pitch for n in t.notes]) for t in midi.instruments]


def note(channel: int = 0, pitch: int = 60, start: int = 0) -> bytes:
    """One note of 96 ticks that begins `start` ticks after the event before."""
    on, off = bytes([0x90 | channel, pitch, 0x40]), bytes([0x80 | channel, pitch, 0x40])
    return bytes([start]) + on + b"\x60" + off


def program(number: int, channel: int = 0, start: int = 0) -> bytes:
    return bytes([start, 0xC0 | channel, number])


@pytest.mark.parametrize("setup_comes_first", [True, False])
def test_programs_and_controllers_set_in_another_track_hold(setup_comes_first):
    setup = bank(8) + program(40) + b"\x00\xb0\x07\x50\x00\xe0\x00\x50" + END
    tracks = [setup, note() + END] if setup_comes_first else [note() + END, setup]
    (track,) = open_midi(midi_file(*tracks)).instruments
    assert track.program == 40
    assert [(c.number, c.value) for c in track.control_changes] == [(0, 8), (7, 80)]
    assert [bend.pitch for bend in track.pitch_bends] == [(80 << 7) - 8192]


def test_a_bank_takes_effect_with_the_next_program_and_never_without():
    late = note() + bank(9) + note() + program(5) + note() + bank(3) + note() + END
    written = midi_bytes(open_midi(midi_file(program(5) + bank(8) + late)))
    for content in (midi_file(program(5) + bank(8) + late), written):
        (track,) = open_midi(content).instruments
        changes = [(c.time, c.number, c.value) for c in track.control_changes]
        assert [change for change in changes if change[0] > 0] == [(192, 0, 8), (192, 0, 9)]
        assert len(changes) == 2


def test_pedal_of_one_track_holds_for_others_on_its_channel_and_is_there_once():
    pedal = b"\x00\xb0\x40\x7f\x60\xb0\x40\x00"
    midi = open_midi(midi_file(note() + END, pedal + note() + END, note(1) + END))
    pedals = [[(p.start, p.end) for p in track.pedals] for track in midi.instruments]
    assert pedals == [[(0, 96)], [(0, 96)], []]
    same = open_midi(midi_file(pedal + note() + END, pedal + note() + END))
    assert [len(track.control_changes) for track in same.instruments] == [2, 2]


def test_of_what_several_tracks_set_at_one_tick_the_last_holds():
    content = midi_file(
        program(5) + b"\x00\xb0\x07\x50" + note() + END, program(6) + b"\x00\xb0\x07\x60" + END
    )
    (track,) = open_midi(content).instruments
    assert track.program == 6
    assert [change.value for change in track.control_changes] == [0x50, 0x60]


def test_program_set_in_another_track_holds_from_its_tick_on():
    content = midi_file(note() + note(start=0) + END, program(40, start=96) + END)
    assert parts(content) == [(0, False, [60]), (40, False, [60])]


def test_instruments_of_one_track_are_split_and_named_unless_that_names_the_piece():
    mixed = NAME + program(5) + program(6, 1) + note(0, 60) + note(1, 61) + note(9, 36) + END
    for content, names in (
        (midi_file(mixed, END), ["Lead"] * 3),
        (midi_file(mixed), [""] * 3),
        (midi_file(NAME + program(5) + note() + program(6) + note() + END), ["Lead"] * 2),
    ):
        read = read_midi(content)
        assert [track.name for track in read.midi.instruments] == names
        assert read.left_out == ({} if all(names) else {"titles and other texts": 1})
    assert parts(midi_file(mixed)) == [(5, False, [60]), (6, False, [61]), (0, True, [36])]


def test_a_program_change_begins_a_part_and_held_notes_stay_in_theirs():
    change = b"\x00\x90\x3c\x40\x10\xc0\x07\x10\x80\x3c\x00"
    assert parts(midi_file(program(5) + change + note(0, 62) + END)) == [
        *((5, False, [60]), (7, False, [62]))
    ]


def test_a_program_that_comes_a_hair_after_the_first_note_is_meant_for_it():
    late = b"\x00\x90\x3c\x40\x01\xc0\x28\x5f\x80\x3c\x00"
    assert parts(midi_file(late + note(0, 62) + END)) == [(40, False, [60, 62])]
    too_late = b"\x00\x90\x3c\x40\x0c\xc0\x28\x5f\x80\x3c\x00"
    assert [program for program, *_ in parts(midi_file(too_late + note() + END))] == [0, 40]


def test_the_channels_of_each_port_are_different_ones():
    port = b"\x00\xff\x21\x01\x01"
    content = midi_file(program(5) + note() + END, port + program(6) + note() + note(9) + END)
    assert parts(content) == [(5, False, [60]), (6, False, [60]), (0, True, [60])]


XG_ON, GS_ON = b"\x43\x10\x4c\x00\x00\x7e\x00", b"\x41\x10\x42\x12\x40\x00\x7f\x00\x41"
GM_ON, GM2_ON = b"\x7e\x7f\x09\x01", b"\x7e\x7f\x09\x03"


def sysex(message: bytes) -> bytes:
    return b"\x00\xf0" + bytes([len(message) + 1]) + message + b"\xf7"


def gs_part(part: int, value: int) -> bytes:
    return sysex(bytes([0x41, 0x10, 0x42, 0x12, 0x40, 0x10 | part, 0x15, value, 0]))


def bank(number: int, channel: int = 0) -> bytes:
    return bytes([0, 0xB0 | channel, 0, number])


@pytest.mark.parametrize(
    ("declared", "channel", "is_drum"),
    [
        (sysex(XG_ON) + bank(127) + program(8), 0, True),
        (sysex(XG_ON) + bank(126) + program(8), 0, True),
        (sysex(XG_ON) + bank(64) + program(8), 0, False),
        (sysex(XG_ON) + bank(127) + bank(0) + program(8), 0, False),
        (sysex(XG_ON) + sysex(b"\x43\x10\x4c\x08\x00\x07\x02") + program(8), 0, True),
        (sysex(XG_ON) + program(8, 9), 9, True),
        (sysex(GM2_ON) + bank(120) + program(8), 0, True),
        (sysex(GM2_ON) + bank(121, 9) + program(8, 9), 9, False),
        (sysex(GS_ON) + bank(127) + program(8), 0, False),
        (sysex(GM_ON) + bank(120) + program(8), 0, False),
        (bank(127) + program(8), 0, False),
        (sysex(GS_ON) + gs_part(1, 1) + program(8), 0, True),
        (sysex(GS_ON) + gs_part(11, 1) + program(8, 11), 11, True),
        (sysex(GS_ON) + gs_part(0, 0) + program(8, 9), 9, False),
        (sysex(GS_ON) + gs_part(1, 1) + gs_part(1, 0) + program(8), 0, False),
    ],
)
def test_drums_are_on_the_channels_that_sysex_and_banks_give_them(declared, channel, is_drum):
    for content in (
        midi_file(declared + note(channel) + END),
        midi_file(declared + END, note(channel) + END),
        midi_file(note(channel) + END, declared + END),
    ):
        assert parts(content) == [(8, is_drum, [60])]
        assert read_midi(content).repairs == {}


def test_a_channel_may_change_from_drums_to_a_program_and_back():
    content = midi_file(
        sysex(XG_ON)
        + (bank(127) + program(8) + note())
        + (bank(0) + program(8) + note(0, 62))
        + (bank(127) + program(8) + note(0, 64) + END)
    )
    assert parts(content) == [(8, True, [60, 64]), (8, False, [62])]
    assert parts(midi_bytes(open_midi(content))) == [(8, True, [60, 64]), (8, False, [62])]


def test_drums_without_a_program_have_the_standard_kit():
    assert parts(midi_file(gs_part(2, 1) + note(1) + END)) == [(0, True, [60])]


def test_drums_that_end_as_they_begin_are_kept_and_counted():
    strokes = b"\x00\x99\x26\x40\x00\x89\x26\x40" + b"\x30\x99\x24\x40"
    read = read_midi(midi_file(strokes + END))
    assert note_values(read.midi) == [(0, 1, 38, 64), (48, 49, 36, 64)]
    assert read.repairs == {"drum notes of no length given one tick": 2, UNRELEASED: 1}


def test_tracks_keep_the_order_of_the_file():
    content = midi_file(*[program(9 - i, i) + note(i) + END for i in range(5)])
    assert [program for program, *_ in parts(content)] == [9, 8, 7, 6, 5]


def test_notes_never_released_end_with_their_track_and_are_counted():
    content = midi_file(
        note() + b"\x00\x90\x3e\x40\x00\x90\x41\x40\x60\xff\x2f\x00", note(1, 70) * 4 + END
    )
    read = read_midi(content)
    assert note_values(read.midi)[:4] == [
        *((0, 96, 60, 64), (0, 96, 70, 64), (96, 192, 62, 64), (96, 192, 65, 64))
    ]
    assert read.repairs == {UNRELEASED: 2}


def test_a_note_never_released_ends_where_its_key_is_struck_again():
    # Some writers put the release of a grace note before its onset.
    grace = b"\x00\x80\x3c\x40\x00\x90\x3c\x40"
    balanced = b"\x00\x90\x3c\x40\x10\x90\x3c\x50\x10\x90\x3c\x00\x10\x80\x3c\x00"
    read = read_midi(midi_file(balanced + grace + b"\x30" + note(0)[1:] + note(0, start=48) + END))
    notes = [(start, end) for start, end, *_ in note_values(read.midi)]
    assert notes == [(0, 32), (16, 48), (48, 96), (96, 192), (240, 336)]
    assert read.repairs == {UNRELEASED: 1}


@pytest.mark.parametrize("number", [120, 123, 126])
def test_controllers_that_release_all_notes_end_those_of_their_channel(number):
    chord = b"\x00\x90\x3c\x40\x00\x90\x40\x40\x00\x91\x43\x40"
    all_off = bytes([0x30, 0xB0, number, 0])
    read = read_midi(midi_file(chord + all_off + note(0, 60) + b"\x00\x81\x43\x40" + END))
    assert note_values(read.midi) == [
        *((0, 48, 60, 64), (0, 48, 64, 64), (0, 144, 67, 64), (48, 144, 60, 64))
    ]
    assert read.repairs == {}


def test_a_note_on_of_velocity_0_is_a_release_and_the_first_note_ends_first():
    content = midi_file(b"\x00\x90\x3c\x40\x10\x90\x3c\x50\x10\x90\x3c\x00\x10\x80\x3c\x00" + END)
    assert note_values(open_midi(content)) == [(0, 32, 60, 64), (16, 48, 60, 80)]


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (b"\xf0\x04\x50\x53\xff\xf7", "invalid SysEx messages dropped"),
        (b"\xf0\x81\x80\x00" + b"\xff" * 16384, "invalid SysEx messages dropped"),
        (b"\xff\x51\x03\x00\x00\x00", "invalid meta events dropped"),
        (b"\xff\x59\x02\x0c\x00", "invalid meta events dropped"),
        (b"\xff\x58\x04\x04\x07\x18\x08", "impossible time signatures dropped"),
        (b"\xff\x58\x04\x21\x02\x18\x08", "impossible time signatures dropped"),
        (b"\xff\x51\x03\x00\x00\x01", "tempi outside 10 to 500 bpm set to these"),
        (b"\xf8", "messages that do not belong in a file dropped"),
        (b"\xf9", "messages that do not belong in a file dropped"),
        (b"\xf4", "messages that do not belong in a file dropped"),
        (b"\xf2\x01\x02", "messages that do not belong in a file dropped"),
        (b"\xb0\x07\xa8", "messages with values above 127 dropped"),
        (b"\xc0\xa8", "messages with values above 127 dropped"),
        (b"\x90\x3c\x40\x00\x80\x3c\x40", "notes of no length dropped"),
    ],
)
def test_faulty_events_cost_themselves_and_are_counted(event, what):
    read = read_midi(midi_file(b"\x00" + event + NOTE + END))
    assert note_values(read.midi) == [(0, 96, 60, 64)]
    assert read.repairs == {what: 1}


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (b"\xf0\x03\x7e\x09\xf7", "SysEx messages"),
        (b"\xf7\x02\xf3\xff", "SysEx messages"),
        (b"\xd0\x40", "aftertouch messages"),
        (b"\xa0\x3c\x40", "aftertouch messages"),
        (b"\xff\x01\x02hi", "titles and other texts"),
        (b"\xff\x02\x02me", "titles and other texts"),
        (b"\xff\x7f\x02\x00\x00", "events for sequencers"),
    ],
)
def test_what_is_sound_and_left_out_is_counted_and_no_repair(event, what):
    read = read_midi(midi_file(b"\x00" + event + NOTE + END))
    assert (read.repairs, read.left_out) == ({}, {what: 1})


def test_names_that_no_track_with_notes_has_are_counted():
    read = read_midi(midi_file(NAME + END, NAME + NAME + NOTE + END, NAME + NOTE + END))
    assert [track.name for track in read.midi.instruments] == ["Lead", "Lead"]
    assert read.left_out == {"titles and other texts": 2}


@pytest.mark.parametrize("between", [b"\xf8", b"\xf2\x01\x02", b"\xf0\x02\x50\xf7"])
def test_running_status_goes_on_over_messages_without_a_channel(between):
    content = midi_file(
        b"\x00\x90\x3c\x40\x60\x3c\x00\x00" + between + b"\x00\x3e\x40\x60\x3e\x00" + END
    )
    assert [n[2] for n in note_values(open_midi(content))] == [60, 62]


def test_riff_containers_are_read():
    assert open_midi(riff(midi_file(NOTE + END))) == open_midi(midi_file(NOTE + END))


@pytest.mark.parametrize("division", [24, 480, 32767])
def test_an_hour_of_music_passes_at_any_resolution(division):
    end = 120 * 60 * division
    delta = bytes([0x80 | end >> 21, 0x80 | end >> 14 & 127, 0x80 | end >> 7 & 127, end & 127])
    content = midi_file(b"\x00\x90\x3c\x40" + delta + b"\x80\x3c\x00" + END, division=division)
    assert summarize(open_midi(content)).seconds == pytest.approx(3600)


def piece(*notes: Note, tempos=(), metres=()) -> MidiFile:
    midi = MidiFile(ticks_per_beat=480)
    midi.instruments = [Instrument(0, notes=list(notes))]
    midi.tempo_changes = [TempoChange(*tempo) for tempo in tempos]
    midi.time_signature_changes = [TimeSignature(*metre) for metre in metres]
    return midi


def tempos(midi: MidiFile) -> list[tuple[float, int]]:
    return [(change.tempo, change.time) for change in midi.tempo_changes]


def metres(midi: MidiFile) -> list[tuple[int, int, int]]:
    return [(m.numerator, m.denominator, m.time) for m in midi.time_signature_changes]


LATER = Note(64, 60, 2880, 4800)


@pytest.mark.parametrize(
    ("note", "written", "wanted"),
    [
        (Note(64, 60, 0, 480), [(60, 1)], [(60, 0)]),
        (Note(64, 60, 0, 480), [(60, 15)], [(60, 0)]),
        (Note(64, 60, 0, 480), [(60, 16)], [(120, 0), (60, 16)]),
        (LATER, [(60, 0), (70, 960), (80, 2881), (90, 3000)], [(80, 0), (90, 3000)]),
        (LATER, [(60, 0), (60, 3000), (70, 3000), (70, 4000)], [(60, 0), (70, 3000)]),
    ],
)
def test_the_opening_tempo_is_that_at_the_first_note(note, written, wanted):
    midi = repair(piece(note, tempos=written))
    assert tempos(midi) == wanted
    assert tempos(repair(midi)) == wanted


@pytest.mark.parametrize(
    ("note", "written", "wanted"),
    [
        (Note(64, 60, 0, 480), [(3, 4, 1)], [(3, 4, 0)]),
        (Note(64, 60, 0, 480), [(3, 4, 480)], [(4, 4, 0), (3, 4, 480)]),
        (LATER, [(2, 4, 0), (3, 4, 2880)], [(3, 4, 0)]),
        (LATER, [(4, 4, 0), (3, 4, 960)], [(4, 4, 0), (3, 4, 960)]),  # its bars are not those of 0
        (LATER, [(4, 4, 0), (6, 8, 1440), (4, 4, 4320)], [(6, 8, 0), (4, 4, 4320)]),
    ],
)
def test_the_opening_metre_is_that_at_the_first_note_and_no_bar_line_moves(note, written, wanted):
    midi = repair(piece(note, metres=written))
    assert metres(midi) == wanted
    assert metres(repair(midi)) == wanted


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ([], [(4, 4, 0)]),
        ([(1, 4, 0)], [(4, 4, 0)]),
        ([(1, 4, 0), (1, 4, 3360)], [(4, 4, 0)]),
        ([(1, 4, 0), (2, 4, 3360)], [(1, 4, 0), (2, 4, 3360)]),
        ([(1, 8, 0)], [(1, 8, 0)]),
        ([(32, 32, 0), (9, 8, 3840), (1, 1, 5000)], [(32, 32, 0), (9, 8, 3840), (1, 1, 5000)]),
    ],
)
def test_metres_are_kept_and_a_quarter_throughout_is_four_quarters(written, wanted):
    assert metres(repair(piece(LATER, metres=written))) == wanted


def test_metre_at_is_the_last_one_up_to_a_tick():
    midi = piece(LATER, metres=[(9, 8, 0), (4, 4, 2160)])
    assert [metre_at(midi, tick).numerator for tick in (0, 2159, 2160, 9999)] == [9, 9, 4, 4]
    assert (metre_at(piece(), 5).numerator, metre_at(piece(), 5).denominator) == (4, 4)


def test_summary_says_what_a_person_counts():
    midi = piece(Note(64, 60, 0, 480), LATER, tempos=[(67.8, 0)], metres=[(3, 4, 0), (4, 4, 2880)])
    assert str(summarize(repair(midi))) == "3 bars of 3/4, 4/4 at 68 bpm, 2 notes, 1 track"
