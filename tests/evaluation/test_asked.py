"""What was asked for is compared with what the written file itself holds."""

import pytest
from making import write_band

from seqgen.evaluation.asked import check_asked
from seqgen.midi import open_midi


@pytest.mark.parametrize(
    ("programs", "asked", "met"),
    [([0, 0], ["0", "0.2"], 1), ([0, 0], ["0"], 0), ([0, 33], ["0", "0.2"], 0)],
)
def test_two_parts_of_one_program_are_two(tmp_path, programs, asked, met):
    midi = open_midi(write_band(tmp_path / "band.mid", bars=2))
    midi.instruments = [track for track in midi.instruments if not track.is_drum][:2]
    for track, program in zip(midi.instruments, programs, strict=True):
        track.program = program
    midi.dump(str(tmp_path / "asked.mid"))
    wish = {"instruments": asked}
    [finding] = check_asked(
        tmp_path / "asked.mid", {"instruments": "piano"}, lambda k: wish, levels={}
    )
    assert finding.met == met


def test_where_no_note_came_nothing_is_met(tmp_path):
    band = write_band(tmp_path / "band.mid", bars=2)
    found = check_asked(band, {"key": "Am"}, lambda k: {"key": ["Am"]}, levels={}, begin=100.0)
    assert [(finding.name, finding.met) for finding in found] == [("key", 0)]
