"""One pass over the raw bytes of a MIDI file, before mido builds an object for every event.

A small damaged file can keep the reading libraries busy for hours (a number without an end, or
thousands of unreleased notes on one key), and one invalid key signature makes them reject a whole
piece. So the structure is checked first and events that carry no music are blanked.
"""

from dataclasses import dataclass

from seqgen.config import LimitsConfig
from seqgen.midi.rejection import Refusal

HEADER_BYTES = 14
CHUNK_HEADER_BYTES = 8

SYSEX, SYSEX_ESCAPE, META = 0xF0, 0xF7, 0xFF
NOTE_ON = 0x90  # and 0x80 to 0x8F are note-offs
# How many data bytes follow the status byte of a channel event; a file may hold no other kind
# besides meta and sysex.
N_DATA_BYTES = {status: 1 if status & 0xF0 in (0xC0, 0xD0) else 2 for status in range(0x80, 0xF0)}

TRACK_NAME, LYRICS, MARKER, END_OF_TRACK = 0x03, 0x05, 0x06, 0x2F
TEMPO, TIME_SIGNATURE, KEY_SIGNATURE = 0x51, 0x58, 0x59
# mido reads this type whatever it holds, and miditoolkit passes over it.
BLANK = 0x7F


@dataclass(frozen=True)
class _TrackCounts:
    events: int
    notes: int
    ticks: int


def scan(content: bytes, limits: LimitsConfig) -> bytes:
    """Return `content` as a plain file that mido can read, or raise `Refusal`.

    Only tracks that hold events are kept. Meta events that are faulty or that miditoolkit has no
    use for are blanked in place, so that no tick moves. Notes and controls are not touched.
    """
    n_tracks, division = _read_header(content)
    if n_tracks > limits.max_tracks + 1:  # one may hold tempo and meter alone
        limit = limits.named("max_tracks")
        raise Refusal("over-limit", f"it has {n_tracks} tracks, more than {limit}")
    cleaned = bytearray(content)
    position = CHUNK_HEADER_BYTES + int.from_bytes(cleaned[4:8])
    tracks = []
    for number in range(1, n_tracks + 1):
        start, end = _find_track(cleaned, position, number)
        try:
            counts = _scan_track(cleaned, start, end, limits)
        except IndexError:
            raise Refusal("unreadable", f"it is cut off in track {number}") from None
        except Refusal as refusal:
            raise Refusal(refusal.kind, f"track {number} {refusal.reason}") from None
        if end > start:  # miditoolkit fails on a track without any event
            tracks.append((counts, cleaned[start - CHUNK_HEADER_BYTES : end]))
        position = end
    _check_counts([counts for counts, _ in tracks], limits)
    header = b"MThd" + b"".join(n.to_bytes(2) for n in (0, 6, 1, len(tracks), division))
    return header + b"".join(track for _, track in tracks)


def _read_header(content: bytes) -> tuple[int, int]:
    """Return the number of tracks and the ticks per beat."""
    if not content:
        raise Refusal("empty", "it holds no bytes")
    if content[:4] == b"RIFF":
        raise Refusal("unsupported", "it is a MIDI file inside a RIFF container; save it as .mid")
    if content[:4] != b"MThd":
        raise Refusal("unreadable", "it is not a MIDI file (it does not begin with MThd)")
    if len(content) < HEADER_BYTES or int.from_bytes(content[4:8]) < 6:
        raise Refusal("unreadable", "its header is cut off")
    file_format, n_tracks, division = (int.from_bytes(content[i : i + 2]) for i in (8, 10, 12))
    if file_format > 1:
        raise Refusal("unsupported", f"it has MIDI format {file_format}; only 0 and 1 are read")
    if division & 0x8000:
        raise Refusal("unsupported", "it measures time in film frames (SMPTE), not in beats")
    if division == 0:
        raise Refusal("unreadable", "its header says that a beat has 0 ticks")
    return n_tracks, division


def _find_track(content: bytearray, position: int, number: int) -> tuple[int, int]:
    """Return where the events of the next track start and end, passing over foreign chunks."""
    while position + CHUNK_HEADER_BYTES <= len(content):
        start = position + CHUNK_HEADER_BYTES
        end = start + int.from_bytes(content[start - 4 : start])
        if end > len(content):
            break
        if content[position : position + 4] == b"MTrk":
            return start, end
        position = end
    raise Refusal("unreadable", f"it is cut off at track {number}")


def _scan_track(content: bytearray, position: int, end: int, limits: LimitsConfig) -> _TrackCounts:
    """Walk through one track; raises `IndexError` when an event reaches past the whole file."""
    n_events = n_notes = ticks = 0
    status = None  # the status byte that stays valid for events without one of their own
    held: dict[int, int] = {}  # sounding notes by channel and key
    while position < end:
        delta = content[position]
        position += 1
        if delta > 127:
            delta, position = _read_number(content, position - 1)
        ticks += delta
        n_events += 1
        byte = content[position]
        if byte == META:
            position = _scan_meta(content, position + 1)
            continue
        if byte in (SYSEX, SYSEX_ESCAPE):
            length, position = _read_number(content, position + 1)
            position += length
            status = None
            continue
        if byte > 127:
            status = byte
            position += 1
        if status not in N_DATA_BYTES:
            raise Refusal("unreadable", "holds an event of an unknown type")
        n_data_bytes = N_DATA_BYTES[status]
        for i in range(position, position + n_data_bytes):
            if content[i] > 127:
                raise Refusal("unreadable", "is damaged: a value that must be below 128 is larger")
        if status < 0xA0:
            n_notes += _count_note(held, status, content[position], content[position + 1], limits)
        position += n_data_bytes
    if position > end:
        raise Refusal("unreadable", "holds an event that runs past the end of the track")
    return _TrackCounts(n_events, n_notes, ticks)


def _count_note(
    held: dict[int, int], status: int, pitch: int, velocity: int, limits: LimitsConfig
) -> int:
    """Keep count of the sounding notes on this channel and key; return 1 where a note begins.

    miditoolkit copies the list of held notes at every release: unbounded, that is quadratic.
    """
    key = (status & 0x0F) << 7 | pitch
    n_held = held.get(key, 0)
    if status >= NOTE_ON and velocity > 0:
        held[key] = n_held + 1
        return 1
    if n_held > limits.max_notes_on_one_key:
        limit = limits.named("max_notes_on_one_key")
        raise Refusal("over-limit", f"holds {n_held} notes on one key at once, more than {limit}")
    if n_held > 0:
        held[key] = n_held - 1
    return 0


def _scan_meta(content: bytearray, position: int) -> int:
    """Blank the meta event whose type is at `position` unless it is sound; return its end."""
    length, start = _read_number(content, position + 1)
    if not _is_sound(content[position], content[start : start + length]):
        content[position] = BLANK
    return start + length


def _is_sound(kind: int, payload: bytearray) -> bool:
    """Whether a meta event means something to miditoolkit and holds what its type promises."""
    if kind in (TRACK_NAME, LYRICS, MARKER, END_OF_TRACK):
        return True
    if kind == TEMPO:
        return len(payload) >= 3 and any(payload[:3])
    if kind == TIME_SIGNATURE:
        return len(payload) >= 4 and payload[0] > 0
    if kind == KEY_SIGNATURE:
        n_sharps = (payload[0] + 128) % 256 - 128 if payload else 8
        return len(payload) >= 2 and abs(n_sharps) <= 7 and payload[1] in (0, 1)
    return False


def _read_number(content: bytearray, position: int) -> tuple[int, int]:
    """Read a number of seven bits per byte; return it and the position behind it."""
    number = 0
    for i in range(position, position + 4):
        byte = content[i]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, i + 1
    raise Refusal("unreadable", "holds a number longer than four bytes")


def _check_counts(counts: list[_TrackCounts], limits: LimitsConfig) -> None:
    for found, unit in (
        (sum(track.events for track in counts), "events"),
        (sum(track.notes for track in counts), "notes"),
        (max((track.ticks for track in counts), default=0), "ticks"),
    ):
        if found > getattr(limits, f"max_{unit}"):
            limit = limits.named(f"max_{unit}")
            raise Refusal("over-limit", f"it has {found} {unit}, more than {limit}")
    if sum(track.notes for track in counts) == 0:
        raise Refusal("empty", "it has no notes")
