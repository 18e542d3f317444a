"""Pieces as JSON: which of their notes are kept when some bars are written anew."""

from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `studio`")

from seqgen.serving.music import EMPTY, Kept
from seqgen.serving.schemas import Note, Track
from seqgen.tokenizers import Edit


def test_a_part_is_kept_beside_another_of_its_instrument_that_is_written_anew():
    tracks = [Track(name=name, program=0, is_drum=False) for name in ("Soprano", "Bass")]
    notes = [
        Note(track=track, pitch=72 - 24 * track, start=start, length=1, velocity=80)
        for start in (0, 4)
        for track in (0, 1)
    ]
    piece = EMPTY.model_copy(update={"tracks": tracks, "notes": notes, "bars": [0.0, 4.0, 8.0]})
    edit = Edit(Path("song.mid"), (("0.soprano", 4.0, 8.0),))
    kept = Kept.of(piece, edit=edit, parts=["0.soprano", "0.bass"])
    assert {(pitch, start) for _, _, pitch, start in kept.others} == {(72, 0), (48, 0), (48, 4)}
