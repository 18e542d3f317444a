import json

import pytest
from miditoolkit import MidiFile

from seqgen.data.folk import FOLK, find_tunes, read_tune
from seqgen.data.score_corpora import MANIFEST, build_scores
from seqgen.data.scores import Unfit

pytest.importorskip("music21", reason="it reads the tunes")

# Pickups and repeats; no repeats; a tune and the same one in the other collection; chords.
TUNES = (
    "ryan-acacia-reel",
    "oneill-0002-fare-you-well",
    "ryan-short-grass",
    "oneill-0981-the-short-grass",
    "ryan-autograph-hornpipe",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_scores(FOLK, tmp_path_factory.mktemp("corpus") / "folk", only=TUNES, workers=1)


def read(body, meter="4/4", key="C"):
    return read_tune(f"X:1\nT:A tune\nM:{meter}\nL:1/4\nK:{key}\n{body}\n")


def notes(body, **fields):
    """Start and length in quarters, and pitch, of each note of a tune."""
    (melody,) = read(body, **fields).voices.values()
    return [(start / 480, (end - start) / 480, pitch) for start, end, pitch in melody]


def played(body, **fields):
    """The notes of a tune by their letters, an octave being one."""
    return "".join("C?D?EF?G?A?B"[pitch % 12] for _, _, pitch in notes(body, **fields))


def test_a_file_has_one_track_with_one_note_at_a_time(built):
    files = sorted(file.stem for file in built.glob("*.mid"))
    assert files == ["oneill-0002-fare-you-well", "ryan-acacia-reel", "ryan-short-grass"]
    for file in files:
        midi = MidiFile(str(built / f"{file}.mid"))
        (track,) = midi.instruments
        assert (track.program, track.is_drum, track.name) == (40, False, "Melody")
        assert {note.velocity for note in track.notes} == {80}
        assert all(a.end <= b.start for a, b in zip(track.notes, track.notes[1:], strict=False))
        assert [(meter.numerator, meter.denominator) for meter in midi.time_signature_changes] == [
            (2, 4) if file != "ryan-short-grass" else (6, 8)
        ]


def test_notes_and_repeats_are_those_that_music21_finds(built):
    from music21 import corpus

    part = corpus.parse("ryansMammoth/AcaciaReel", forceSource=True).parts[0].expandRepeats()
    rest = part.getElementsByClass("Measure").first().paddingLeft
    expected = [
        (round((rest + note.offset) * 480), note.pitch.midi)
        for note in part.flatten().notes
        if note.isNote and not note.duration.isGrace
    ]
    (track,) = MidiFile(str(built / "ryan-acacia-reel.mid")).instruments
    assert [(note.start, note.pitch) for note in track.notes] == expected


def test_what_is_left_out_is_counted_with_its_reason(built):
    manifest = json.loads((built / MANIFEST).read_text())
    assert manifest["count"] == 3
    assert manifest["left_out"] == {
        "ryan-autograph-hornpipe": "it has chords",
        "oneill-0981-the-short-grass": "the same setting as ryan-short-grass",
    }


def test_a_tune_is_named_by_collection_number_and_title(tmp_path):
    (tmp_path / "ryansMammoth").mkdir()
    (tmp_path / "ryansMammoth" / "AWillieWeHaveMissdYou.abc").write_text("X:1\nT:A Willie\n")
    (tmp_path / "oneills1850").mkdir()
    tunes = "% two\nX: 7\nT: The King's Jig\nK:C\n\nX:0008\nT:Été, The\nT:Other\n"
    (tmp_path / "oneills1850" / "1.abc").write_text(tunes, "utf-8")
    (tmp_path / "oneills1850" / "2.abc").write_text("X:7\nT:The Kings Jig\n")
    assert [name for name, _ in find_tunes(tmp_path)] == [
        "ryan-a-willie-we-have-missd-you",
        "oneill-0007-the-kings-jig",
        "oneill-0008-ete-the",
        "oneill-0007-the-kings-jig-2",
    ]


def test_a_pickup_starts_with_the_rest_that_fills_its_bar():
    assert notes("G | c4 | C3 |]") == [(3, 1, 67), (4, 4, 72), (8, 3, 60)]


def test_the_end_of_a_section_and_the_pickup_of_the_next_one_are_one_bar():
    tune = read("G | c4 | C3 :||: D | E4 | F3 :|")
    assert tune.meters == [(0, 4, 4)]
    assert [start // 480 for start, _, pitch in tune.voices["Melody"] if pitch == 72] == [4, 12]
    assert [start // 480 for start, _, pitch in tune.voices["Melody"] if pitch == 64] == [20, 28]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("C4 :| D4 |]", "CCD"),
        ("|: C4 :: D4 :|", "CCDD"),
        ("C4 :|: D4 :|", "CCDD"),
        ("C4 || D4 :|", "CDD"),
        ("|: C4 || D4 :|", "CDCD"),
        ("C4 |: D4 | E4 :| F4 |]", "CDEDEF"),
        ("|: C4 |1 D4 :|2 E4 |]", "CDCE"),
        ("|: C4 |[1 D4 | E4 :|[2 F4 | G4 || A4 :|", "CDECFGAA"),
        ("C4 |1 D4 :|2 E4 :|: F4 |1 G4 :|2 A4 :|", "CDCEFGFA"),
    ],
)
def test_repeats_and_endings_are_played_out(body, expected):
    assert played(body) == expected


def test_an_accidental_lasts_until_the_end_of_the_bar():
    assert [pitch for *_, pitch in notes("^F F =F F | F4", key="G")] == [66, 66, 65, 65, 66]


def test_what_a_mail_has_added_to_the_lines_changes_no_note():
    assert notes("C D E F |=20\nG A B =\nc |]") == notes("C D E F |\nG A B c |]")


def test_tied_notes_are_one_and_slurred_ones_are_not():
    assert notes("C D2 E- | E2 (F-G)") == [
        (0, 1, 60),
        (1, 2, 62),
        (3, 3, 64),
        (6, 1, 65),
        (7, 1, 67),
    ]


def test_ornaments_change_neither_triplets_nor_broken_rhythms():
    plain = notes("(3CDE F>G | A<B C2")
    assert [length for _, length, _ in plain] == [*[2 / 3] * 3, 1.5, 0.5, 0.5, 1.5, 2]
    assert notes('(3C{de}D(E) ~F>{g}G | uA-<B "fine"TC2') == plain


def test_meter_key_and_unit_may_change_within_a_tune():
    tune = "C4 |[M:3/4] D3 |\nM:2/4\nL:1/8\nK:D\nF4 |]"
    assert notes(tune) == [(0, 4, 60), (4, 3, 62), (7, 2, 66)]
    assert read(tune).meters == [(0, 4, 4), (4 * 480, 3, 4), (7 * 480, 2, 4)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("[CE]4 | C4 |]", "chords"),
        ("C4 | D3 | E4 |]", "its bars do not add up: one of 3/4"),
        ("D | C4 :|", "its bars do not add up: one of 1/4"),
        ("|: C4 | D4 |]", "a repeat that does not end"),
        ("|: C4 |: D4 :|", "a repeat starts within a repeat"),
        ("C4 | D4 |:|", "a repeat starts after the last note"),
        ("|: C4 |1 D4 :| E4 |]", "a first ending without a second"),
        ("C4 |2 D4 :|", "a second without a first"),
        ("|: C4 |1,3 D4 :|2 E4 |]", "endings besides a first and a second"),
        ("C4 & E4 |]", "it has the sign &"),
        ("^^C4 | C4 |]", r"it has the sign \^\^"),
        ("z4 | z4 |]", "the melody is silent"),
        ("", "no notes"),
    ],
)
def test_a_tune_that_cannot_be_read_for_certain_is_refused_with_the_reason(body, reason):
    with pytest.raises(Unfit, match=reason):
        read(body)
