"""All measures of one piece."""

from dataclasses import asdict, dataclass

from seqgen.evaluation.music import features, structure
from seqgen.evaluation.music.notes import read_notes
from seqgen.midi import MidiFile

Shares = tuple[float, ...]


@dataclass(frozen=True)
class Measures:
    """The measures of a piece, named as in `DEFINITIONS`; None where one has no meaning for it.

    `ended_by_itself` is what the record of a generated piece says; None for others.
    """

    n_notes: int
    n_bars: int
    seconds: float
    ended_by_itself: bool | None
    pitch_histogram: Shares | None
    pitch_class_histogram: Shares | None
    duration_histogram: Shares | None
    onset_histogram: Shares | None
    pitch_entropy: float | None
    pitch_class_entropy: float | None
    scale_consistency: float | None
    pitch_range: int | None
    n_pitches_used: int
    n_pitch_classes_used: int
    polyphony: float | None
    polyphony_rate: float | None
    notes_per_second: float | None
    notes_per_bar: float | None
    groove_consistency: float | None
    empty_bar_rate: float | None
    empty_beat_rate: float | None
    bar_similarity_1: float | None
    bar_similarity_2: float | None
    bar_similarity_4: float | None
    bar_similarity_8: float | None
    recurring_bars: float | None
    repeated_cycles: float | None

    def to_json(self) -> dict:
        """The measures by name, as JSON has them: histograms are lists, no value is NaN."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def measure(midi: MidiFile, *, ended_by_itself: bool | None = None) -> Measures:
    """Measure a piece; any MIDI file will do, also one without notes."""
    notes = read_notes(midi)
    n_notes = len(notes.starts)
    pitches = features.histogram(notes.pitched, 128)
    pitch_classes = features.histogram(notes.pitched % 12, 12)
    polyphony, polyphony_rate = features.polyphony(notes)
    return Measures(
        n_notes=n_notes,
        n_bars=notes.n_bars,
        seconds=notes.seconds,
        ended_by_itself=ended_by_itself,
        pitch_histogram=pitches,
        pitch_class_histogram=pitch_classes,
        duration_histogram=features.duration_histogram(notes),
        onset_histogram=features.onset_histogram(notes),
        pitch_entropy=features.entropy(pitches),
        pitch_class_entropy=features.entropy(pitch_classes),
        scale_consistency=features.scale_consistency(notes),
        pitch_range=features.pitch_range(notes),
        n_pitches_used=len(set(notes.pitched.tolist())),
        n_pitch_classes_used=len(set((notes.pitched % 12).tolist())),
        polyphony=polyphony,
        polyphony_rate=polyphony_rate,
        notes_per_second=n_notes / notes.seconds if n_notes else None,
        notes_per_bar=n_notes / notes.n_bars if n_notes else None,
        groove_consistency=features.groove_consistency(notes),
        empty_bar_rate=features.empty_rate(notes, notes.bar_ticks),
        empty_beat_rate=features.empty_rate(notes, notes.beat_ticks),
        bar_similarity_1=structure.bar_similarity(notes, 1),
        bar_similarity_2=structure.bar_similarity(notes, 2),
        bar_similarity_4=structure.bar_similarity(notes, 4),
        bar_similarity_8=structure.bar_similarity(notes, 8),
        recurring_bars=structure.recurring_bars(notes),
        repeated_cycles=structure.repeated_cycles(notes),
    )
