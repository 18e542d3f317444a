"""From the events of a MIDI file to its instruments: what sounds with which program.

General MIDI is a state of channels, not of tracks. Programs, controllers and pitch bends hold for
their channel from their tick on, in whatever track they are; so do bank selects, which are
controllers. A port is a further set of 16 channels. Channel 10 of each has the drums, and others
may have some by SysEx or bank select (`seqgen.midi.sysex`).
"""

from bisect import bisect
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from operator import attrgetter

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
    DRUM_PART,
    KEY_SIGNATURE,
    LYRICS,
    MARKER,
    NOTE_OFF,
    NOTE_ON,
    PROGRAM,
    STANDARD,
    TEMPO,
    TEXT,
    TEXTS,
    TIME_SIGNATURE,
    TRACK_NAME,
    TrackEvents,
)
from seqgen.midi.programs import DRUM_CHANNEL
from seqgen.midi.repair import MAJOR_KEYS, MINOR_KEYS
from seqgen.midi.sysex import DRUM_BANKS
from seqgen.midi.timing import negligible_ticks

BANK_SELECT, FINE_BANK_SELECT = 0, 32
ALL_OFF = (120, *range(123, 128))  # controllers that release all notes of their channel
MICROSECONDS_PER_MINUTE = 60_000_000
# Where an event stands among those of its channel: tick, track, place in the track, and whether its
# track has notes there. Of several at one tick the last holds, as in players.
Place = tuple[int, int, int, bool]
Sound = tuple[int, bool]  # program, and whether it is a drum kit
# Where the sound of a channel changes, to what, and by tick how many of these changes notes there
# hear at least: all up to the last one of a track without notes.
Sounds = tuple[list[Place], list[Sound], dict[int, int]]


def parse(
    ticks_per_beat: int,
    tracks: Sequence[TrackEvents],
    repairs: Counter[str],
    left_out: Counter[str],
) -> MidiFile:
    """Build a file from events, with one instrument for each track, channel and program.

    Instruments are in the order of their tracks, and within one of their first notes; each has the
    name of its track, unless that is the only one and has several channels. Those of one channel
    share their lists of controllers and bends. Where notes overlap on one key, the first release
    ends the first note. A note without a release ends where its key is struck again, as players do
    it, or else with its track, counted in `repairs`. Texts that sing nothing, and names that no
    instrument has, are counted in `left_out`.
    """
    midi = MidiFile(ticks_per_beat=ticks_per_beat)
    for track in tracks:
        _add_metas(midi, track, left_out)
    sounds = _sounds(tracks, negligible_ticks(ticks_per_beat))
    controls = _controls(tracks)
    for number, track in enumerate(tracks):
        midi.instruments += _instruments(number, track, sounds, controls, repairs)
    if len(tracks) == 1 and len(tracks[0].channels) > 1 and midi.instruments[0].name:
        left_out[TEXTS] += 1  # the only track of several instruments is called as the piece is
        for instrument in midi.instruments:
            instrument.name = ""
    return midi


def _add_metas(midi: MidiFile, track: TrackEvents, left_out: Counter[str]) -> None:
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
        elif kind == TEXT:
            left_out[TEXTS] += 1
    n_names = sum(meta.kind == TRACK_NAME and bool(meta.content) for meta in track.metas)
    if n_names > bool(track.channels):
        left_out[TEXTS] += n_names - bool(track.channels)


def _key_name(content: bytes) -> str:
    n_sharps = (content[0] + 128) % 256 - 128
    return (MINOR_KEYS if content[1] else MAJOR_KEYS)[n_sharps + 7]


def _sounds(tracks: Sequence[TrackEvents], tolerance: float) -> dict[int, Sounds]:
    """Return for each channel where its sound changes, and to what.

    The first program of a channel that comes at most `tolerance` ticks after its first note holds
    from the start. Of several standards in a file, the last holds throughout.
    """
    found: dict[int, list[tuple[Place, int, int, int]]] = defaultdict(list)
    first_notes: dict[int, int] = {}
    standards: list[tuple[int, int, int, int]] = []
    for number, track in enumerate(tracks):
        for place, (tick, kind, channel, first, second) in enumerate(track.events):
            if kind in (PROGRAM, DRUM_PART) or (kind == CONTROL and first == BANK_SELECT):
                where = (tick, number, place, channel in track.channels)
                found[channel].append((where, kind, first, second))
            elif kind == NOTE_ON and second > 0 and tick < first_notes.get(channel, tick + 1):
                first_notes[channel] = tick
            elif kind == STANDARD:
                standards.append((tick, number, place, first))
    drum_banks = DRUM_BANKS.get(max(standards)[-1], {}) if standards else {}
    sounds = {}
    for channel, events in found.items():
        places: list[Place] = []
        values: list[Sound] = []
        program, bank, has_drums = None, -1, channel % 16 == DRUM_CHANNEL
        for where, kind, first, second in sorted(events):
            if kind == CONTROL:
                bank = second
                continue
            if kind == DRUM_PART:
                has_drums = bool(first)
            elif program is None and where[0] <= first_notes.get(channel, 0) + tolerance:
                places, values, where = [], [], (-1, 0, 0, False)
            program = first if kind == PROGRAM else program
            places.append(where)
            values.append((program or 0, drum_banks.get(bank, has_drums)))
        from_silent = {where[0]: n for n, where in enumerate(places, 1) if not where[-1]}
        sounds[channel] = (places, values, from_silent)
    return sounds


def _controls(
    tracks: Sequence[TrackEvents],
) -> dict[int, tuple[list[ControlChange], list[PitchBend]]]:
    """Return the controllers and bends of each channel; what two tracks repeat is there once.

    A bank select takes effect with the next program of its channel: it is moved there, and left out
    where none follows.
    """
    found: dict[int, list[tuple[Place, int, int, int]]] = defaultdict(list)
    for number, track in enumerate(tracks):
        for place, (tick, kind, channel, first, second) in enumerate(track.events):
            if kind in (CONTROL, BEND, PROGRAM):
                where = (tick, number, place, channel in track.channels)
                found[channel].append((where, kind, first, second))
    controls = {}
    for channel, events in found.items():
        events.sort()
        programs = [where for where, kind, *_ in events if kind == PROGRAM]
        changes, bends = [], []
        senders: dict[tuple[int, int, int, int], int] = {}  # the first track to send an event
        for where, kind, first, second in events:
            tick, number, *_ = where
            if senders.setdefault((tick, kind, first, second), number) != number:
                continue
            if kind == BEND:
                bends.append(PitchBend((second << 7 | first) - 8192, tick))
            elif kind == CONTROL and first in (BANK_SELECT, FINE_BANK_SELECT):
                following = bisect(programs, where)
                if following < len(programs):
                    changes.append(ControlChange(first, second, programs[following][0]))
            elif kind == CONTROL:
                changes.append(ControlChange(first, second, tick))
        changes.sort(key=attrgetter("time"))
        controls[channel] = (changes, bends)
    return controls


def _instruments(
    number: int,
    track: TrackEvents,
    sounds: dict[int, Sounds],
    controls: dict[int, tuple[list[ControlChange], list[PitchBend]]],
    repairs: Counter[str],
) -> list[Instrument]:
    names = [meta.content for meta in track.metas if meta.kind == TRACK_NAME and meta.content]
    name = names[0].decode("latin-1") if names else ""
    found: dict[tuple[int, Sound], Instrument] = {}  # by channel and sound
    held: dict[int, dict[int, deque[Note]]] = defaultdict(lambda: defaultdict(deque))
    unbalanced = _unbalanced(track)
    n_unreleased = 0
    for place, (tick, kind, channel, pitch, velocity) in enumerate(track.events):
        if kind == NOTE_ON and velocity > 0:
            sound = (0, channel % 16 == DRUM_CHANNEL)
            if channel in sounds:
                starts, values, from_silent = sounds[channel]
                i = bisect(starts, (tick, number, place, True))
                i = max(i, from_silent.get(tick, 0))
                sound = values[i - 1] if i else sound
            instrument = found.get((channel, sound))
            if instrument is None:
                changes, bends = controls.get(channel, ([], []))
                instrument = found[channel, sound] = Instrument(
                    *sound, name, control_changes=changes, pitch_bends=bends
                )
            sounding = held[channel][pitch]
            if sounding and place > unbalanced.get((channel, pitch), place):
                sounding.pop().end = tick
                n_unreleased += 1
            note = Note(velocity, pitch, tick, track.end)
            instrument.notes.append(note)
            sounding.append(note)
        elif kind in (NOTE_ON, NOTE_OFF):
            notes = held[channel].get(pitch)
            if notes:
                notes.popleft().end = tick
        elif kind == CONTROL and pitch in ALL_OFF:
            for notes in held.pop(channel, {}).values():
                for note in notes:
                    note.end = tick
    n_unreleased += sum(len(notes) for keys in held.values() for notes in keys.values())
    if n_unreleased:
        repairs["notes never released, ended with the next on their key or their track"] += (
            n_unreleased
        )
    return list(found.values())


def _unbalanced(track: TrackEvents) -> dict[tuple[int, int], int]:
    """Return for each channel and key with too few releases since which event these are missing.

    Before that event the key was up.
    """
    down: dict[int, Counter[int]] = defaultdict(Counter)  # by channel: notes on each key
    first: dict[tuple[int, int], int] = {}
    for place, (_, kind, channel, pitch, velocity) in enumerate(track.events):
        if kind == NOTE_ON and velocity > 0:
            if not down[channel][pitch]:
                first[channel, pitch] = place
            down[channel][pitch] += 1
        elif kind in (NOTE_ON, NOTE_OFF) and down[channel][pitch]:
            down[channel][pitch] -= 1
        elif kind == CONTROL and pitch in ALL_OFF:
            down.pop(channel, None)
    return {
        (channel, pitch): first[channel, pitch]
        for channel, keys in down.items()
        for pitch, n in keys.items()
        if n
    }
