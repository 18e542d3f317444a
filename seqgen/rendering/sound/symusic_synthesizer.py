"""symusic's synthesizer, for where FluidSynth is not installed.

It hears notes and programs only (no pedals, bends or volumes) and ignores the root keys by which
most SF2 soundfonts tune their samples, so that these sound out of tune (symusic issue 55).
Legend: n frames of two channels.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from symusic import Synthesizer
from symusic.core import NoteSecond, ScoreSecond, TrackSecond

from seqgen.errors import UserError
from seqgen.rendering.sound.performance import SUSTAIN, Event, Performance

PIECE_SECONDS = 20.0  # of notes that are played together; what they sound like beyond is added up


class SymusicSynthesizer:
    """A synthesizer with one soundfont."""

    name = "symusic"

    def __init__(self, soundfont: Path, *, sample_rate: int) -> None:
        try:
            self._synthesizer = Synthesizer(str(soundfont), sample_rate, 0)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"symusic cannot read the soundfont {soundfont}: {reason}") from None
        self._sample_rate = sample_rate

    def __enter__(self) -> "SymusicSynthesizer":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def play(self, performance: Performance, *, tail_seconds: float) -> Iterator[np.ndarray]:
        """Yield float32 samples [2, n], to `tail_seconds` after the last note's end.

        Voices are independent of each other, so pieces of notes are rendered one by one and added.
        """
        notes = _by_piece(performance)
        left = round((performance.seconds + tail_seconds) * self._sample_rate)
        size = round(PIECE_SECONDS * self._sample_rate)
        sounding = np.zeros((2, 0), np.float32)  # what earlier pieces left over
        for piece in range(-(-left // size)):
            played = self._render(performance, notes.get(piece, {}), piece * PIECE_SECONDS)
            total = np.zeros((2, max(size, played.shape[1], sounding.shape[1])), np.float32)
            total[:, : played.shape[1]] += played
            total[:, : sounding.shape[1]] += sounding
            n = min(size, left)
            yield total[:, :n]
            left -= n
            sounding = total[:, n:]

    def _render(self, performance: Performance, notes: dict, start: float) -> np.ndarray:
        score = ScoreSecond(480)
        for part, own in notes.items():
            instrument = performance.parts[part]
            track = TrackSecond("", instrument.program, instrument.is_drum)
            for seconds, duration, pitch, velocity in own:
                track.notes.append(NoteSecond(seconds - start, duration, pitch, velocity))
            score.tracks.append(track)
        if not notes:
            return np.zeros((2, 0), np.float32)
        return np.asarray(self._synthesizer.render(score, True), np.float32)


def _by_piece(performance: Performance) -> dict[int, dict[int, list[tuple]]]:
    """Return notes as (seconds, duration, pitch, velocity) by piece and part, pedals applied."""
    pieces: dict[int, dict[int, list[tuple]]] = defaultdict(lambda: defaultdict(list))
    begun: dict[tuple[int, int], Event] = {}
    waiting: dict[int, list[Event]] = defaultdict(list)  # released while the pedal is down
    is_down: dict[int, bool] = defaultdict(bool)

    def end(note: Event, seconds: float) -> None:
        piece = int(note.seconds / PIECE_SECONDS)
        duration = max(seconds - note.seconds, 1e-3)
        pieces[piece][note.part].append((note.seconds, duration, note.first, note.second))

    for event in performance.events:
        key = (event.part, event.first)
        if event.kind == "on":
            begun[key] = event
        elif event.kind == "off" and key in begun:
            note = begun.pop(key)
            if is_down[event.part]:
                waiting[event.part].append(note)
            else:
                end(note, event.seconds)
        elif event.kind == "control" and event.first == SUSTAIN:
            is_down[event.part] = event.second >= 64
            for note in [] if is_down[event.part] else waiting.pop(event.part, []):
                end(note, event.seconds)
    for note in [*begun.values(), *(note for notes in waiting.values() for note in notes)]:
        end(note, performance.seconds)
    return pieces
