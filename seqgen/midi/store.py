"""Writing MIDI files that sound the same in every player, also with more than 15 instruments.

A file has 16 channels, one of them for drums, and each plays one program at a time. Beyond 15
pitched instruments, some share a channel: those with the same controllers and bends if there are
any, and of these the ones that press the same keys least, then that sound together least. Before
its notes begin, an instrument on a shared channel sends its program, in its own track and at the
same tick. So whether a player reads tracks one by one or merges them in any order, each note sounds
with the program of its track. Drum kits share channel 10 in the same way.

Controllers and bends hold for all instruments of a channel. Those on a shared one that differ in
them are on different ports too, for players that have ports; most ignore them.
"""

import io
from collections import defaultdict
from collections.abc import Iterable, Sequence

import mido
import numpy as np
from miditoolkit import Instrument, MidiFile

from seqgen.midi.programs import DRUM_CHANNEL, program_name

PITCHED_CHANNELS = [channel for channel in range(16) if channel != DRUM_CHANNEL]
MAX_PORT = 127
BANK_SELECT = (0, 32)
# At one tick, messages are in this order: what ends before what begins.
OFF, CONTROL, PROGRAM, BEND, ON = range(5)


def midi_bytes(midi: MidiFile) -> bytes:
    """Return a repaired file as the bytes of a .mid file of format 1.

    The first track has tempi, time and key signatures, markers and lyrics. Each instrument has a
    track, in the order given, with its name or else that of its program. Pedals are written as
    controller 64, as `repair` leaves them.

    MIDI cannot tell which of two overlapping notes of one track and pitch is released: where one
    encloses the other, a reader will give the earlier start the earlier end.
    """
    places = _places(midi.instruments)
    programs: dict[int, set[int]] = defaultdict(set)
    for instrument, (_, channel) in zip(midi.instruments, places, strict=True):
        programs[channel].add(instrument.program)
    tracks = [_conductor(midi)]
    for instrument, (port, channel) in zip(midi.instruments, places, strict=True):
        tracks.append(_track(instrument, port, channel, is_shared=len(programs[channel]) > 1))
    file = io.BytesIO()
    mido.MidiFile(type=1, ticks_per_beat=midi.ticks_per_beat, tracks=tracks).save(file=file)
    return file.getvalue()


def max_events(midi: MidiFile) -> int:
    """Return the most events that `midi_bytes` writes for a file."""
    shares = sum(not track.is_drum for track in midi.instruments) > len(PITCHED_CHANNELS)
    shares_drums = len({track.program for track in midi.instruments if track.is_drum}) > 1
    n_banks = {}  # by list of controllers: before a file is repaired, instruments share them
    n_events = 1  # the end of the first track; name, port, program and end of the others
    for track in midi.instruments:
        changes = track.control_changes
        if id(changes) not in n_banks:
            n_banks[id(changes)] = sum(change.number in BANK_SELECT for change in changes)
        per_note = 3 if (shares_drums if track.is_drum else shares) else 2
        n_events += 4 + per_note * len(track.notes) + len(track.pitch_bends)
        n_events += len(changes) + n_banks[id(changes)]
    n_events += len(midi.tempo_changes) + len(midi.time_signature_changes)
    return n_events + len(midi.key_signature_changes) + len(midi.lyrics) + len(midi.markers)


def _places(instruments: Sequence[Instrument]) -> list[tuple[int, int]]:
    """Return the port and channel of each instrument."""
    channels = _channels(instruments)
    settings: dict[int, list[tuple]] = {}  # by channel: what is set on it, by port
    places = []
    for instrument, channel in zip(instruments, channels, strict=True):
        found, own = settings.setdefault(channel, []), _settings(instrument)
        if own not in found:
            found.append(own)
        places.append((min(found.index(own), MAX_PORT), channel))
    return places


def _settings(instrument: Instrument) -> tuple:
    return (
        tuple((change.time, change.number, change.value) for change in instrument.control_changes),
        tuple((bend.time, bend.pitch) for bend in instrument.pitch_bends),
    )


def _channels(instruments: Sequence[Instrument]) -> list[int]:
    """Return the channel of each instrument; pitched ones share only if there are more than 15."""
    channels = [DRUM_CHANNEL] * len(instruments)
    pitched = [i for i, instrument in enumerate(instruments) if not instrument.is_drum]
    if len(pitched) > len(PITCHED_CHANNELS):
        # One of each choice of controllers and bends comes first, so that the others find it on a
        # channel that they can share; then those that others could disturb.
        settings_of = {i: _settings(instruments[i]) for i in pitched}
        firsts = {own: i for i, own in reversed(settings_of.items())}
        pitched.sort(key=lambda i: (firsts[settings_of[i]] != i, not any(settings_of[i])))
    alone, others = pitched[: len(PITCHED_CHANNELS)], pitched[len(PITCHED_CHANNELS) :]
    for i, channel in zip(alone, PITCHED_CHANNELS, strict=False):
        channels[i] = channel
    if not others:
        return channels
    height = 1 + max((n.end for i in pitched for n in instruments[i].notes), default=0)
    settings = {channels[i]: [_settings(instruments[i])] for i in alone}
    times = {channels[i]: _sounding(instruments[i]) for i in alone}
    keys = {channels[i]: _keys(instruments[i], height) for i in alone}
    for i in others:
        own, own_times = _settings(instruments[i]), _sounding(instruments[i])
        own_keys = _keys(instruments[i], height)
        best = min(
            PITCHED_CHANNELS,
            key=lambda channel: (
                any(theirs != own for theirs in settings[channel]),
                _overlap(keys[channel], own_keys),  # a release would end the other's note too
                _overlap(times[channel], own_times),
                len(settings[channel]),
            ),
        )
        channels[i] = best
        settings[best].append(own)
        times[best] = np.concatenate([times[best], own_times])
        keys[best] = np.concatenate([keys[best], own_keys])
    return channels


def _sounding(instrument: Instrument) -> np.ndarray:
    """Return when an instrument sounds, as ticks [n, 2] from start to end without overlap."""
    spans: list[list[int]] = []
    for note in instrument.notes:  # by start
        if spans and note.start <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], note.end)
        else:
            spans.append([note.start, note.end])
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _keys(instrument: Instrument, height: int) -> np.ndarray:
    """Return when each key is down, as ticks [n, 2]; those of a key are `height` above the last."""
    notes = [(note.start, note.end, note.pitch) for note in instrument.notes]
    starts, ends, pitches = np.array(notes, dtype=np.int64).reshape(-1, 3).T
    return np.stack([starts, ends], axis=1) + height * pitches[:, None]


def _overlap(a: np.ndarray, b: np.ndarray) -> int:
    """Return for how many ticks spans [n, 2] and [m, 2] go on together, summed over all pairs."""
    together = np.zeros(b.shape, dtype=np.int64)  # [m, 2]: how much of `a` lies before each tick
    for ticks, sign in ((a[:, 0], 1), (a[:, 1], -1)):
        ticks = np.sort(ticks)
        n_before = np.searchsorted(ticks, b)
        sums = np.concatenate([[0], ticks.cumsum()])
        together += sign * (n_before * b - sums[n_before])
    return int((together[:, 1] - together[:, 0]).sum())


def _conductor(midi: MidiFile) -> mido.MidiTrack:
    meta = mido.MetaMessage
    messages = [
        *(
            meta("set_tempo", tempo=mido.bpm2tempo(change.tempo), time=change.time)
            for change in midi.tempo_changes
        ),
        *(
            meta(
                "time_signature",
                numerator=change.numerator,
                denominator=change.denominator,
                time=change.time,
            )
            for change in midi.time_signature_changes
        ),
        *(
            meta("key_signature", key=key.key_name, time=key.time)
            for key in midi.key_signature_changes
        ),
        *(meta("marker", text=marker.text, time=marker.time) for marker in midi.markers),
        *(meta("lyrics", text=lyric.text, time=lyric.time) for lyric in midi.lyrics),
    ]
    return _with_deltas(sorted(messages, key=lambda message: message.time))


def _track(instrument: Instrument, port: int, channel: int, *, is_shared: bool) -> mido.MidiTrack:
    """Return one instrument; on a shared channel, its program comes before all its notes."""
    messages: list[tuple[int, int, mido.Message]] = []  # tick, order within it, message

    def add(kind: str, time: int, order: int, **content: int) -> None:
        message = mido.Message(kind, channel=channel, time=time, **content)
        messages.append((time, order, message))

    changes = instrument.control_changes
    programmed = {0} | {change.time for change in changes if change.number in BANK_SELECT}
    if is_shared:
        programmed |= {note.start for note in instrument.notes}
    for note in instrument.notes:
        add("note_off", note.end, OFF, note=note.pitch)
        add("note_on", note.start, ON, note=note.pitch, velocity=note.velocity)
    for change in changes:
        add("control_change", change.time, CONTROL, control=change.number, value=change.value)
    for time in programmed:
        add("program_change", time, PROGRAM, program=instrument.program)
    for bend in instrument.pitch_bends:
        add("pitchwheel", bend.time, BEND, pitch=bend.pitch)
    messages.sort(key=lambda entry: entry[:2])
    name = instrument.name.strip() or program_name(instrument.program, is_drum=instrument.is_drum)
    metas = [mido.MetaMessage("track_name", name=name)]
    if port:
        metas.append(mido.MetaMessage("midi_port", port=port))
    return _with_deltas([*metas, *(message for _, _, message in messages)])


def _with_deltas(messages: Iterable) -> mido.MidiTrack:
    """Make a track of messages whose times are ticks from the beginning."""
    track, now = mido.MidiTrack(), 0
    for message in messages:
        message.time, now = message.time - now, message.time
        track.append(message)
    track.append(mido.MetaMessage("end_of_track", time=0))
    return track
