"""Measures of one piece against numbers worked out by hand."""

import json

import pytest
from small_pieces import piece, repeated

from seqgen.evaluation.music.comparison import Measured
from seqgen.evaluation.music.definitions import ASPECTS, MEASURES, SOURCES, measure
from seqgen.midi import Instrument, MidiFile, TimeSignature

FOUR = [(0, 1, 60), (1, 1, 64), (2, 1, 67), (3, 1, 72)]
DRUMS = [(0, 0.25, 36), (2.5, 0.25, 38)]


def shares(measures: Measured, name: str) -> dict[str, float]:
    """The bins of a histogram that hold something, by name."""
    pairs = zip(MEASURES[name].bins, measures[name], strict=True)
    return {label: share for label, share in pairs if share}


def test_every_measure_has_a_definition_and_a_source():
    assert set(measure(piece(FOUR))) == set(MEASURES)
    assert {definition.aspect for definition in MEASURES.values()} == {*ASPECTS, None}
    for definition in MEASURES.values():
        assert definition.meaning
        assert definition.plain
        assert definition.source == "this project" or any(s in definition.source for s in SOURCES)
        assert definition.unit


def test_pitches_of_an_arpeggio():
    found = measure(piece(FOUR))
    assert shares(found, "pitch_histogram") == {"C4": 0.25, "E4": 0.25, "G4": 0.25, "C5": 0.25}
    assert shares(found, "pitch_class_histogram") == {"C": 0.5, "E": 0.25, "G": 0.25}
    assert (found["pitch_entropy"], found["pitch_class_entropy"]) == (2.0, 1.5)
    assert (found["n_pitches_used"], found["n_pitch_classes_used"]) == (4, 3)
    assert found["pitch_range"] == 12
    assert found["scale_consistency"] == 1.0
    assert measure(piece([*FOUR, (4, 1, 61)]))["scale_consistency"] == 0.8


def test_drums_have_rhythm_and_no_pitch():
    plain, drummed = measure(piece(FOUR)), measure(piece(FOUR, drums=DRUMS))
    for name in ("pitch_histogram", "duration_histogram", "polyphony", "scale_consistency"):
        assert drummed[name] == plain[name]
    assert drummed["notes_per_bar"] == 6
    assert shares(drummed, "onset_histogram")["2.5"] == pytest.approx(1 / 6)
    assert measure(piece([], drums=DRUMS))["empty_beat_rate"] == pytest.approx(1 / 3)


def test_polyphony_counts_pitches_and_not_notes():
    # Quarter by quarter: one pitch twice, two pitches, nothing, one pitch.
    found = measure(piece([(0, 2, 60), (3, 1, 60)], [(0, 1, 60), (1, 1, 64)]))
    assert found["polyphony"] == pytest.approx(4 / 3)
    assert found["polyphony_rate"] == pytest.approx(1 / 4)


def test_density_is_per_second_and_per_bar():
    found = measure(piece([(i / 2, 0.5, 60) for i in range(16)], tempo=90))
    assert found["seconds"] == pytest.approx(8 * 60 / 90)
    assert found["notes_per_second"] == pytest.approx(3)
    assert (found["n_bars"], found["notes_per_bar"]) == (2, 8)


@pytest.mark.parametrize(
    ("length", "label"),
    [
        (0.05, "0.125"),
        (0.24, "0.25"),
        (0.34, "0.333"),
        (1, "1"),
        (1.1, "1"),
        (1.5, "1.5"),
        (40, "8"),
    ],
)
def test_durations_are_counted_for_the_nearest_note_value(length, label):
    found = measure(piece([(0, length, 60)], quarter=480))
    assert shares(found, "duration_histogram") == {label: 1.0}


def test_onsets_are_counted_by_their_place_in_the_bar():
    notes = [(0, 1, 60), (1 / 3, 1, 60), (5, 1, 60), (7.99, 1, 60)]
    found = measure(piece(notes, quarter=480))
    assert shares(found, "onset_histogram") == {"0": 0.5, "0.333": 0.25, "1": 0.25}


def test_places_in_long_bars_share_the_last_bin():
    found = measure(piece([(0, 1, 60), (4, 1, 60), (5.5, 0.5, 60)], meter=(6, 4)))
    assert shares(found, "onset_histogram") == pytest.approx({"0": 1 / 3, "later": 2 / 3})


def test_groove_is_the_share_of_places_that_agree():
    same = [(i, 0.5, 60) for i in range(4)]
    other = [(4, 0.5, 60), (5, 0.5, 60), (6.5, 0.5, 60), (7.5, 0.5, 60)]  # four places differ
    assert measure(piece([*same, *other]))["groove_consistency"] == 1 - 4 / 64
    assert measure(piece(repeated(same, 2, every=4)))["groove_consistency"] == 1.0


def test_grooves_of_bars_of_different_length_are_not_compared():
    midi = piece(repeated([(0, 1, 60), (1, 1, 62)], 5, every=2))
    midi.time_signature_changes = [TimeSignature(4, 4, 0), TimeSignature(2, 4, 64)]
    found = measure(midi)
    assert found["n_bars"] == 4  # one of four quarters, three of two
    assert found["groove_consistency"] == 1.0


def test_a_note_that_ends_on_a_line_leaves_the_next_bar_empty():
    found = measure(piece([(0, 4, 60), (8, 4, 60)]))
    assert found["empty_bar_rate"] == pytest.approx(1 / 3)
    assert found["empty_beat_rate"] == pytest.approx(4 / 12)
    assert measure(piece([(0, 12, 60)]))["empty_bar_rate"] == 0


def test_how_a_piece_ended_is_what_the_record_says():
    assert measure(piece(FOUR))["ended_by_itself"] is None
    assert measure(piece(FOUR), ended_by_itself=False)["ended_by_itself"] is False


@pytest.mark.parametrize("midi", [MidiFile(), piece([])], ids=["nothing", "empty tracks"])
def test_pieces_without_notes_have_no_values(midi):
    found = measure(midi)
    zeros = {"n_notes", "n_bars", "seconds", "n_pitches_used", "n_pitch_classes_used"}
    assert {name for name, value in found.items() if value is not None} == zeros
    json.dumps(found, allow_nan=False)


def test_awkward_notes_are_left_out_or_measured():
    midi = piece([(0, 0, 60), (0.01, 0.05, 127)], quarter=480)
    midi.instruments.append(Instrument(0))
    found = measure(midi)
    assert found["n_notes"] == 1
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["pitch_histogram"][127] == 1.0
