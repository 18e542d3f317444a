import json

import pytest
from miditoolkit import MidiFile

from seqgen.data.chorales import CHORALES, VOICES
from seqgen.data.score_corpora import MANIFEST, build_scores

# A pickup and ties; instruments and changes of meter; a setting and its copy; not a chorale.
WORKS = ("bwv66.6", "bwv171.6", "bwv253", "bwv414", "bwv846")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("music21", reason="the chorales come out of music21's corpus")
    return build_scores(
        CHORALES, tmp_path_factory.mktemp("corpus") / "chorales", only=WORKS, workers=1
    )


def load(folder, work):
    return MidiFile(str(folder / f"{work}.mid"))


def score(work):
    """The work as music21 gives it, and the part of each voice."""
    from music21 import corpus

    parsed = corpus.parse(f"bach/{work}", forceSource=True)
    return {part.partName.split()[0]: part for part in parsed.parts}


def test_each_voice_is_a_named_track_with_one_note_at_a_time(built):
    files = sorted(built.glob("*.mid"))
    assert [file.stem for file in files] == ["bwv171.6", "bwv253", "bwv66.6"]
    for file in files:
        tracks = MidiFile(str(file)).instruments
        assert [track.name for track in tracks] == list(VOICES)
        assert {track.program for track in tracks} == {0}
        for track in tracks:
            pairs = zip(track.notes, track.notes[1:], strict=False)
            assert all(a.end <= b.start for a, b in pairs)
            assert {note.velocity for note in track.notes} == {80}


@pytest.mark.parametrize("work", ["bwv66.6", "bwv171.6", "bwv253"])
def test_notes_are_those_of_the_score_with_ties_merged(built, work):
    parts = score(work)
    for track in load(built, work).instruments:
        part = parts[track.name]
        rest = part.getElementsByClass("Measure").first().paddingLeft
        notes = part.stripTies().flatten().notes
        expected = [(rest + n.offset, rest + n.offset + n.quarterLength, n.pitch) for n in notes]
        assert [(n.start, n.end, n.pitch) for n in track.notes] == [
            (start * 480, end * 480, pitch.midi) for start, end, pitch in expected
        ]


def test_some_ties_were_there_to_merge(built):
    parts = score("bwv66.6")
    written = sum(len(part.flatten().notes) for part in parts.values())
    assert sum(len(track.notes) for track in load(built, "bwv66.6").instruments) < written


def test_a_pickup_stands_at_the_end_of_the_first_bar(built):
    for track in load(built, "bwv66.6").instruments:
        assert track.notes[0].start == 3 * 480


def test_meters_change_on_the_bar_lines_of_the_score(built):
    meters = load(built, "bwv171.6").time_signature_changes
    assert [(m.time // 480, m.numerator, m.denominator) for m in meters] == [
        (0, 4, 4),
        (100, 3, 4),
        (148, 4, 4),
    ]


def test_what_is_left_out_is_counted_with_its_reason(built):
    manifest = json.loads((built / MANIFEST).read_text())
    assert manifest["count"] == 3
    assert manifest["left_out"] == {
        "bwv414.mxl": "the same setting as bwv253.mxl",
        "bwv846.mxl": "not one part each for Soprano, Alto, Tenor, Bass",
    }
