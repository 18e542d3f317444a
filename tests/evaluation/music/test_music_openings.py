"""An opening is the piece's first bars and nothing of the rest."""

from small_pieces import piece, repeated

from seqgen.evaluation.music.definitions import measure
from seqgen.evaluation.music.notes import opening

TUNE = repeated([(0, 1, 60), (2, 3, 64)], 6, every=4)  # the second note reaches into the next bar


def test_an_opening_ends_at_its_bar_line():
    notes = opening(piece(TUNE), n_bars=2).instruments[0].notes
    assert [(note.start, note.end) for note in notes] == [(0, 16), (32, 80), (64, 80), (96, 128)]


def test_the_opening_of_a_shorter_piece_is_the_piece():
    assert measure(opening(piece(TUNE), n_bars=100)) == measure(piece(TUNE))
    assert measure(opening(piece([]), n_bars=3))["n_notes"] == 0


def test_the_given_piece_stays_as_it_is():
    given = piece(TUNE, drums=[(9, 1, 36)])
    assert len(opening(given, n_bars=1).instruments) == 1  # the drums come later
    assert given == piece(TUNE, drums=[(9, 1, 36)])


def test_openings_of_a_piece_measure_what_its_beginning_does():
    assert measure(opening(piece(TUNE), n_bars=3))["n_bars"] == 3
    assert measure(opening(piece(TUNE), n_bars=3))["n_notes"] == 6
