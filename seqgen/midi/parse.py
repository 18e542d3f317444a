"""From the events of a MIDI file to its instruments: what sounds with which program.

General MIDI is a state of channels, not of tracks. Programs, controllers and pitch bends hold for
their channel from their tick on, in whatever track they are; so do bank selects, which are
controllers. A port is a further set of 16 channels, and channel 10 of each has the drums.
"""

from bisect import bisect
from collections import Counter, defaultdict, deque
from collections.abc import Sequence

from miditoolkit import (
    ControlChange,
    Instrument,
    KeySignature,
    Lyric,
    Marker,
    MidiFile,
    Note,
    PitchBend,
    TempoChange,
    TimeSignature,
)

from seqgen.midi.events import (
    BEND,
    CONTROL,
    KEY_SIGNATURE,
    LYRICS,
    MARKER,
    NOTE_OFF,
    NOTE_ON,
    PROGRAM,
    TEMPO,
    TEXT,
    TIME_SIGNATURE,
    TRACK_NAME,
    Track,
)
from seqgen.midi.repair import MAJOR_KEYS, MINOR_KEYS
from seqgen.midi.timing import negligible_ticks

DRUM_CHANNEL = 9
MICROSECONDS_PER_MINUTE = 60_000_000
# Where an event stands among those of its channel: tick, whether its track has notes there, track
# and place in the track. So at one tick, what a track without notes sets holds for the others.
Place = tuple[int, bool, int, int]


def parse(ticks_per_beat: int, tracks: Sequence[Track], repairs: Counter[str]) -> MidiFile:
    """Build a file from events, with one instrument for each track, channel and program.

    Instruments are in the order of their tracks, and within one of their first notes; each has the
    name of its track. Those of one channel share their lists of controllers and bends. A note that
    is never released ends with its track, counted in `repairs`. Where notes overlap on one key, the
    first release ends the first note.
    """
    midi = MidiFile(ticks_per_beat=ticks_per_beat)
    for track in tracks:
        _add_metas(midi, track)
    programs = _programs(tracks, negligible_ticks(ticks_per_beat))
    controls = _controls(tracks)
    for number, track in enumerate(tracks):
        midi.instruments += _instruments(number, track, programs, controls, repairs)
    return midi


def _add_metas(midi: MidiFile, track: Track) -> None:
    for tick, kind, content in track.metas:
        if kind == TEMPO:
            tempo = MICROSECONDS_PER_MINUTE / int.from_bytes(content[:3])
            midi.tempo_changes.append(TempoChange(tempo, tick))
        elif kind == TIME_SIGNATURE:
            numerator, denominator = content[0], 2 ** content[1]
            midi.time_signature_changes.append(TimeSignature(numerator, denominator, tick))
        elif kind == KEY_SIGNATURE:
            midi.key_signature_changes.append(KeySignature(_key_name(content), tick))
        elif kind == LYRICS or (kind == TEXT and tick > 0):  # karaoke files sing in texts
            midi.lyrics.append(Lyric(content.decode("latin-1"), tick))
        elif kind == MARKER:
            midi.markers.append(Marker(content.decode("latin-1"), tick))


def _key_name(content: bytes) -> str:
    n_sharps = (content[0] + 128) % 256 - 128
    return (MINOR_KEYS if content[1] else MAJOR_KEYS)[n_sharps + 7]


def _programs(
    tracks: Sequence[Track], tolerance: float
) -> dict[int, tuple[list[Place], list[int]]]:
    """Return for each channel where its program changes, and to what.

    The first program of a channel that comes at most `tolerance` ticks after its first note holds
    from the start.
    """
    found: dict[int, list[tuple[Place, int]]] = defaultdict(list)
    first_notes: dict[int, int] = {}
    for number, track in enumerate(tracks):
        for place, (tick, kind, channel, first, second) in enumerate(track.events):
            if kind == PROGRAM:
                found[channel].append(((tick, channel in track.channels, number, place), first))
            elif kind == NOTE_ON and second > 0 and tick < first_notes.get(channel, tick + 1):
                first_notes[channel] = tick
    programs = {}
    for channel, changes in found.items():
        changes.sort()
        places, numbers = zip(*changes, strict=True)
        starts = list(places)
        if starts[0][0] <= first_notes.get(channel, 0) + tolerance:
            starts[0] = (-1, False, 0, 0)
        programs[channel] = (starts, list(numbers))
    return programs


def _controls(
    tracks: Sequence[Track],
) -> dict[int, tuple[list[ControlChange], list[PitchBend]]]:
    """Return the controllers and bends of each channel; what two tracks repeat is there once."""
    found: dict[int, list[tuple[Place, int, int, int]]] = defaultdict(list)
    for number, track in enumerate(tracks):
        for place, (tick, kind, channel, first, second) in enumerate(track.events):
            if kind in (CONTROL, BEND):
                where = (tick, channel in track.channels, number, place)
                found[channel].append((where, kind, first, second))
    controls = {}
    for channel, events in found.items():
        events.sort()
        changes, bends = [], []
        senders: dict[tuple[int, int, int, int], int] = {}  # the first track to send an event
        for (tick, _, number, _), kind, first, second in events:
            if senders.setdefault((tick, kind, first, second), number) != number:
                continue
            if kind == CONTROL:
                changes.append(ControlChange(first, second, tick))
            else:
                bends.append(PitchBend((second << 7 | first) - 8192, tick))
        controls[channel] = (changes, bends)
    return controls


def _instruments(
    number: int,
    track: Track,
    programs: dict[int, tuple[list[Place], list[int]]],
    controls: dict[int, tuple[list[ControlChange], list[PitchBend]]],
    repairs: Counter[str],
) -> list[Instrument]:
    names = [meta.content for meta in track.metas if meta.kind == TRACK_NAME and meta.content]
    name = names[0].decode("latin-1") if names else ""
    found: dict[tuple[int, int], Instrument] = {}  # by channel and program
    held: dict[tuple[int, int], deque[Note]] = defaultdict(deque)  # by channel and key
    for place, (tick, kind, channel, pitch, velocity) in enumerate(track.events):
        if kind == NOTE_ON and velocity > 0:
            program = 0
            if channel in programs:
                starts, numbers = programs[channel]
                i = bisect(starts, (tick, True, number, place))
                program = numbers[i - 1] if i else 0
            instrument = found.get((channel, program))
            if instrument is None:
                is_drum = channel % 16 == DRUM_CHANNEL
                changes, bends = controls.get(channel, ([], []))
                instrument = found[channel, program] = Instrument(
                    program, is_drum, name, control_changes=changes, pitch_bends=bends
                )
            note = Note(velocity, pitch, tick, track.end)
            instrument.notes.append(note)
            held[channel, pitch].append(note)
        elif kind in (NOTE_ON, NOTE_OFF):
            notes = held.get((channel, pitch))
            if notes:
                notes.popleft().end = tick
    n_held = sum(len(notes) for notes in held.values())
    if n_held:
        repairs["notes never released, ended with their track"] += n_held
    return list(found.values())
