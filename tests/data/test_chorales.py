import json
import subprocess
import sys
from fractions import Fraction

import pytest
from miditoolkit import MidiFile

from seqgen.data.chorale_scores import VOICES, lay_out_bars
from seqgen.data.chorales import MANIFEST, build_chorales
from seqgen.errors import UserError

COMMON, TRIPLE = (4, 4), (3, 4)
# A pickup and ties; instruments and changes of meter; a setting and its copy; not a chorale.
WORKS = ("bwv66.6", "bwv171.6", "bwv253", "bwv414", "bwv846")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("music21", reason="the chorales come out of music21's corpus")
    return build_chorales(tmp_path_factory.mktemp("corpus") / "chorales", only=WORKS, workers=1)


@pytest.fixture
def folder(built, tmp_path):
    """One chorale in a folder that the test may spoil."""
    return build_chorales(tmp_path / "one", only=["bwv253"], workers=1)


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


def test_a_finished_folder_is_reused(built):
    before = {path: path.stat().st_mtime_ns for path in built.iterdir()}
    assert build_chorales(built, only=WORKS, progress=pytest.fail) == built
    assert {path: path.stat().st_mtime_ns for path in built.iterdir()} == before


@pytest.mark.parametrize("spoil", ["no manifest", "torn manifest", "missing file", "old format"])
def test_an_unfinished_or_older_folder_is_built_anew(folder, spoil):
    finished = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = folder / MANIFEST
    if spoil == "no manifest":
        manifest.unlink()
    elif spoil == "torn manifest":
        manifest.write_bytes(manifest.read_bytes()[:20])
    elif spoil == "missing file":
        (folder / "bwv253.mid").unlink()
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "format": 0}))
    reports = []
    build_chorales(
        folder, only=["bwv253"], workers=1, progress=lambda *report: reports.append(report)
    )
    assert reports == [(1, 1)]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == finished
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_score_that_cannot_be_read_is_counted_and_skipped(tmp_path):
    pytest.importorskip("music21", reason="the chorales come out of music21's corpus")
    from seqgen.data.chorale_scores import read_chorale

    broken = tmp_path / "bwv0.xml"
    broken.write_text("<score-partwise><part>")
    assert "could not read it (ParseError" in read_chorale(broken)


def test_a_folder_with_other_files_is_never_replaced(built, tmp_path):
    mine = tmp_path / "mine.mid"
    mine.write_bytes(b"")
    with pytest.raises(UserError, match=r"holds mine\.mid"):
        build_chorales(tmp_path)
    assert mine.exists()


def test_an_unknown_work_is_named(built, tmp_path):
    with pytest.raises(UserError, match="has no bwv9999"):
        build_chorales(tmp_path / "x", only=["bwv253", "bwv9999"])


def test_without_music21_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "music21", None)
    with pytest.raises(UserError) as caught:
        build_chorales(tmp_path / "chorales")
    assert str(caught.value) == (
        "the chorales corpus needs music21: pip install 'seqgen[chorales]'"
    )
    assert not list(tmp_path.iterdir())


def test_importing_brings_neither_music21_nor_torch():
    code = "import sys, seqgen.data.chorales; print({'music21', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("set()\n", "")


def lay_out(*measures):
    rest, meters = lay_out_bars([(Fraction(length), meter) for length, meter in measures])
    return float(rest), [(float(offset), *meter) for offset, *meter in meters]


def test_a_pickup_gets_the_rest_that_fills_its_bar():
    assert lay_out((1, COMMON), (4, COMMON), (3, COMMON)) == (3, [(0, 4, 4)])


def test_a_bar_divided_by_a_repeat_sign_is_one_bar():
    assert lay_out((4, COMMON), (3, COMMON), (1, COMMON), (4, COMMON)) == (0, [(0, 4, 4)])


def test_a_bar_that_ends_in_the_pickup_of_a_new_meter_is_one_bar():
    assert lay_out((4, COMMON), (3, COMMON), (1, TRIPLE), (3, TRIPLE)) == (
        0,
        [(0, 4, 4), (8, 3, 4)],
    )


def test_after_a_short_bar_the_next_one_starts_on_a_bar_line():
    assert lay_out((4, COMMON), (3, COMMON), (4, COMMON)) == (
        0,
        [(0, 4, 4), (4, 3, 4), (7, 4, 4)],
    )


def test_an_overlong_measure_becomes_several_bars():
    assert lay_out((10, COMMON), (4, COMMON)) == (0, [(0, 4, 4), (8, 2, 4), (10, 4, 4)])
