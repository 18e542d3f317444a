"""From the bytes of a MIDI file to its events, in one pass that accepts any bytes.

A damaged file must not keep a reader busy for hours, and one invalid event that carries no music
must not cost the piece. So this is the only code that reads bytes from outside.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from seqgen.config import LimitsConfig
from seqgen.midi.rejection import Rejection
from seqgen.midi.sysex import drum_part, standard_of

HEADER_BYTES = 14
CHUNK_HEADER_BYTES = 8

NOTE_OFF, NOTE_ON, CONTROL, PROGRAM, BEND = 0x80, 0x90, 0xB0, 0xC0, 0xE0
AFTERTOUCH = (0xA0, 0xD0)
SYSEX, SYSEX_ESCAPE, META = 0xF0, 0xF7, 0xFF
STANDARD, DRUM_PART = 0x100, 0x101  # kinds of events that SysEx messages become
# How many data bytes follow each status byte but those of SysEx and meta events. Messages from
# 0xF1 on do not belong in a file, and some of them mean nothing; some writers leave them there.
N_DATA_BYTES = {status: 1 if status & 0xF0 in (0xC0, 0xD0) else 2 for status in range(0x80, 0xF0)}
N_DATA_BYTES |= {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF4: 0, 0xF5: 0, 0xF6: 0}
N_DATA_BYTES |= dict.fromkeys(range(0xF8, 0xFF), 0)
FIRST_SYSTEM = 0xF0

TEXT, TRACK_NAME, LYRICS, MARKER, LAST_TEXT, PORT = 0x01, 0x03, 0x05, 0x06, 0x0F, 0x21
TEMPO, SMPTE_OFFSET, TIME_SIGNATURE, KEY_SIGNATURE, SEQUENCER = 0x51, 0x54, 0x58, 0x59, 0x7F
# Content that is long enough for its type; types not listed here are left out.
MIN_META_BYTES = {TEXT: 0, TRACK_NAME: 0, LYRICS: 0, MARKER: 0, PORT: 1}
MIN_META_BYTES |= {TEMPO: 3, TIME_SIGNATURE: 4, KEY_SIGNATURE: 2}
MAX_SHARPS = 7
# What is sound and left out, as people are told.
TEXTS = "titles and other texts"
LEFT_OUT = dict.fromkeys(range(TEXT, LAST_TEXT + 1), TEXTS)
LEFT_OUT |= dict.fromkeys((SMPTE_OFFSET, SEQUENCER), "events for sequencers")
AFTERTOUCHES, SYSEX_MESSAGES = "aftertouch messages", "SysEx messages"


class Event(NamedTuple):
    """A message to a channel: `kind` is the status byte without its channel.

    `channel` is 16 × port + channel, with 9, 25, … for drums. A program has its number in `first`,
    a bend its lower seven bits, a `STANDARD` its number, a `DRUM_PART` whether there are drums.
    """

    tick: int
    kind: int
    channel: int
    first: int
    second: int


class Meta(NamedTuple):
    """A meta event whose content is what its type promises."""

    tick: int
    kind: int
    content: bytes


@dataclass
class TrackEvents:
    """The events of one track in their order, the channels it has notes on, and its last tick."""

    events: list[Event] = field(default_factory=list)
    metas: list[Meta] = field(default_factory=list)
    channels: set[int] = field(default_factory=set)
    end: int = 0


def read_events(
    content: bytes, limits: LimitsConfig, repairs: Counter[str], left_out: Counter[str]
) -> tuple[int, list[TrackEvents]]:
    """Return the ticks per quarter note and the tracks, or raise `Rejection`.

    What is faulty and no note is dropped and counted in `repairs`; what is sound and has no place
    in our files is counted in `left_out`.
    """
    content = _unwrap(content)
    n_tracks, division = _read_header(content)
    if n_tracks > limits.max_tracks + 1:  # one may hold tempo and metre alone
        limit = limits.named("max_tracks")
        raise Rejection("over-limit", f"it has {n_tracks} tracks, more than {limit}")
    position = CHUNK_HEADER_BYTES + int.from_bytes(content[4:8])
    reader = _TrackReader(content, limits, repairs, left_out)
    tracks = []
    for number in range(1, n_tracks + 1):
        start, end = _find_track(content, position, number)
        try:
            tracks.append(reader.read_track(start, end))
        except IndexError:
            raise Rejection("unreadable", f"it is cut off in track {number}") from None
        except Rejection as refusal:
            raise Rejection(refusal.kind, f"track {number} {refusal.reason}") from None
        position = end
    if content[position : position + 4] == b"MTrk":
        repairs["tracks beyond the number in the header left out"] += 1
    reader.check_counts()
    return division, tracks


def _unwrap(content: bytes) -> bytes:
    """Return the MIDI file inside a RIFF container (.rmi), or `content` if it is none."""
    if content[:4] != b"RIFF":
        return content
    if content[8:12] != b"RMID":
        raise Rejection("unsupported", "it is a RIFF container without MIDI (its type is not RMID)")
    position = 12
    while position + CHUNK_HEADER_BYTES <= len(content):
        start = position + CHUNK_HEADER_BYTES
        end = start + int.from_bytes(content[start - 4 : start], "little")
        if content[position : position + 4] == b"data":
            if end > len(content):
                raise Rejection("unreadable", "it is cut off in its RIFF container")
            return content[start:end]
        position = end + end % 2  # chunks begin at even positions
    raise Rejection("unreadable", "its RIFF container holds no MIDI data")


def _read_header(content: bytes) -> tuple[int, int]:
    """Return the number of tracks and the ticks per quarter note."""
    if not content:
        raise Rejection("empty", "it holds no bytes")
    if content[:4] != b"MThd":
        raise Rejection("unreadable", "it is not a MIDI file (it does not begin with MThd)")
    if len(content) < HEADER_BYTES or int.from_bytes(content[4:8]) < 6:
        raise Rejection("unreadable", "its header is cut off")
    file_format, n_tracks, division = (int.from_bytes(content[i : i + 2]) for i in (8, 10, 12))
    if file_format > 1:
        raise Rejection("unsupported", f"it has MIDI format {file_format}; only 0 and 1 are read")
    if division & 0x8000:
        raise Rejection("unsupported", "it measures time in film frames (SMPTE), not in beats")
    if division == 0:
        raise Rejection("unreadable", "its header says that a beat has 0 ticks")
    return n_tracks, division


def _find_track(content: bytes, position: int, number: int) -> tuple[int, int]:
    """Return where the events of the next track start and end, passing over foreign chunks."""
    while position + CHUNK_HEADER_BYTES <= len(content):
        start = position + CHUNK_HEADER_BYTES
        end = start + int.from_bytes(content[start - 4 : start])
        if end > len(content):
            break
        if content[position : position + 4] == b"MTrk":
            return start, end
        position = end
    raise Rejection("unreadable", f"it is cut off at track {number}")


class _TrackReader:
    """Reads the tracks of one file and counts over all of them."""

    def __init__(
        self,
        content: bytes,
        limits: LimitsConfig,
        repairs: Counter[str],
        left_out: Counter[str],
    ) -> None:
        self._content = content
        self._limits = limits
        self._repairs = repairs
        self._left_out = left_out
        self._n_events = 0
        self._n_notes = 0

    def read_track(self, position: int, end: int) -> TrackEvents:
        """Read one track; raises `IndexError` when an event reaches past the whole file."""
        content, track = self._content, TrackEvents()
        tick, port = 0, 0
        status = None  # the status byte that stays valid for events without one of their own
        room = self._limits.max_events - self._n_events  # beyond it, events are only counted
        n_events = n_notes = 0
        while position < end:
            delta = content[position]
            position += 1
            if delta > 127:
                delta, position = _read_number(content, position - 1)
            tick += delta
            n_events += 1
            byte = content[position]
            if byte == META:
                kind = content[position + 1]
                payload, position = _read_payload(content, position + 2)
                if not self._is_sound(kind, payload) or n_events > room:
                    continue
                if kind == PORT:
                    port = port if track.channels else payload[0] << 4
                else:
                    track.metas.append(Meta(tick, kind, payload))
                continue
            if byte in (SYSEX, SYSEX_ESCAPE):
                payload, position = _read_payload(content, position + 1)
                if n_events <= room:
                    self._read_sysex(byte, payload, tick, port, track)
                continue
            if byte > 127:
                position += 1
                if byte < FIRST_SYSTEM:
                    status = byte
            else:
                byte = status or 0
            if byte not in N_DATA_BYTES:
                raise Rejection("unreadable", "holds an event of an unknown type")
            n_data_bytes = N_DATA_BYTES[byte]
            first = content[position] if n_data_bytes else 0
            second = content[position + 1] if n_data_bytes == 2 else 0
            position += n_data_bytes
            kind, channel = byte & 0xF0, port | byte & 0x0F
            if byte >= FIRST_SYSTEM:
                self._repairs["messages that do not belong in a file dropped"] += 1
                continue
            if first > 127 or second > 127:
                if kind in (NOTE_OFF, NOTE_ON):
                    why = "is damaged: a value of a note that must be below 128 is larger"
                    raise Rejection("unreadable", why)
                self._repairs["messages with values above 127 dropped"] += 1
                continue
            if kind in AFTERTOUCH:
                self._left_out[AFTERTOUCHES] += 1
                continue
            if kind == NOTE_ON and second > 0:
                n_notes += 1
                track.channels.add(channel)
            if n_events <= room:
                track.events.append(Event(tick, kind, channel, first, second))
        if position > end:
            raise Rejection("unreadable", "holds an event that runs past the end of the track")
        self._n_events += n_events
        self._n_notes += n_notes
        track.end = tick
        return track

    def _read_sysex(
        self, status: int, payload: bytes, tick: int, port: int, track: TrackEvents
    ) -> None:
        """Keep what a message says about drums."""
        if status == SYSEX_ESCAPE:
            self._left_out[SYSEX_MESSAGES] += 1
            return
        if any(byte > 127 for byte in payload.removesuffix(b"\xf7")):
            self._repairs["invalid SysEx messages dropped"] += 1
            return
        standard, part = standard_of(payload), drum_part(payload)
        if standard is not None:
            track.events.append(Event(tick, STANDARD, port, standard, 0))
        elif part is not None:
            track.events.append(Event(tick, DRUM_PART, port | part[0], part[1], 0))
        else:
            self._left_out[SYSEX_MESSAGES] += 1

    def _is_sound(self, kind: int, payload: bytes) -> bool:
        """Whether a meta event is of use and holds what its type promises."""
        if kind not in MIN_META_BYTES:
            if kind in LEFT_OUT:
                self._left_out[LEFT_OUT[kind]] += 1
            return False
        is_sound = len(payload) >= MIN_META_BYTES[kind]
        if is_sound and kind == TEMPO:
            is_sound = any(payload[:3])
        elif is_sound and kind == TIME_SIGNATURE:
            is_sound = payload[0] > 0
        elif is_sound and kind == KEY_SIGNATURE:
            n_sharps = (payload[0] + 128) % 256 - 128
            is_sound = abs(n_sharps) <= MAX_SHARPS and payload[1] in (0, 1)
        if not is_sound:
            self._repairs["invalid meta events dropped"] += 1
        return is_sound

    def check_counts(self) -> None:
        """Raise `Rejection` for what is more than the limits, or nothing."""
        for found, unit in ((self._n_events, "events"), (self._n_notes, "notes")):
            if found > getattr(self._limits, f"max_{unit}"):
                limit = self._limits.named(f"max_{unit}")
                raise Rejection("over-limit", f"it has {found} {unit}, more than {limit}")
        if self._n_notes == 0:
            raise Rejection("empty", "it has no notes")


def _read_payload(content: bytes, position: int) -> tuple[bytes, int]:
    """Read a length and as many bytes; return these and the position behind them."""
    length, start = _read_number(content, position)
    return content[start : start + length], start + length


def _read_number(content: bytes, position: int) -> tuple[int, int]:
    """Read a number of seven bits per byte; return it and the position behind it."""
    number = 0
    for i in range(position, position + 4):
        byte = content[i]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, i + 1
    raise Rejection("unreadable", "holds a number longer than four bytes")
