"""Each batch continues the one before, and an epoch goes through the pieces as they are."""

import numpy as np
import pytest

from seqgen.data.splits import TRAIN, VALIDATION
from seqgen.data.streams import StreamBatches, held_out_streams
from seqgen.errors import UserError

# 235 tokens by the shortest variants: 3 lanes of 78, which is 7 batches of 12, one shared.
LENGTHS = [(5, 7), (60, 58), (2, 2), (9, 4), (33, 30), (2, 3), (90, 80), (6, 6), (48, 50)]
LANES, LANE_LENGTH, CONTEXT, BATCHES = 3, 78, 11, 7


@pytest.fixture
def data(made_data):
    return made_data(LENGTHS)


def streams(data, *, seed=0, batch_size=LANES, context_length=CONTEXT, open_lanes=LANES):
    return StreamBatches(
        data,
        split=TRAIN,
        seed=seed,
        batch_size=batch_size,
        context_length=context_length,
        open_lanes=open_lanes,
    )


def epoch_of(s, epoch):
    return [s.batch(k) for k in range(epoch * BATCHES, (epoch + 1) * BATCHES)]


def lanes_of(batches, name):
    """Join the rows of each lane; a row's first place is the last one of the row before."""
    rows = [getattr(batch, name) for batch in batches]
    return np.concatenate([rows[0], *(row[:, 1:] for row in rows[1:])], axis=1)


def stream_of(batches):
    """The ids of an epoch, lane after lane."""
    return lanes_of(batches, "tokens")[..., 0].reshape(-1)


def beginnings_of(data, ids):
    """Walk through the stream piece by piece; return where each begins."""
    variants = {
        int(data.read(piece, variant=i)[0, 0]): (piece, i)
        for piece in data.pieces
        for i in range(len(piece.variants))
    }
    place, seen, beginnings = 0, set(), []
    while place < len(ids):
        piece, variant = variants[int(ids[place])]
        whole = data.read(piece, variant=variant)[:, 0]
        rest = ids[place : place + len(whole)]
        assert np.array_equal(rest, whole[: len(rest)])
        assert piece.file not in seen
        seen.add(piece.file)
        beginnings.append(place)
        place += len(whole)
    return beginnings


def test_a_batch_is_a_pure_function_of_seed_and_number(data):
    first, second = streams(data), streams(data)
    for k in range(30):
        first.batch(k)
    for k in [25, 0, 3, 25]:
        a, b = first.batch(k), second.batch(k)
        for name in ("tokens", "lengths", "boundaries"):
            assert np.array_equal(getattr(a, name), getattr(b, name))
        assert (a.sources, a.continues) == (b.sources, b.continues)
    assert not np.array_equal(streams(data, seed=1).batch(3).tokens, first.batch(3).tokens)


@pytest.mark.parametrize("epoch", range(5))
def test_lanes_joined_are_whole_pieces_one_after_another(data, epoch):
    ids = stream_of(epoch_of(streams(data), epoch))
    assert len(ids) == LANES * LANE_LENGTH
    assert len(beginnings_of(data, ids)) > 1


@pytest.mark.parametrize("epoch", range(5))
def test_boundaries_are_the_beginnings_of_pieces_and_of_lanes(data, epoch):
    batches = epoch_of(streams(data), epoch)
    expected = np.zeros(LANES * LANE_LENGTH, dtype=bool)
    expected[beginnings_of(data, stream_of(batches))] = True
    expected[::LANE_LENGTH] = True
    assert np.array_equal(lanes_of(batches, "boundaries").reshape(-1), expected)


@pytest.mark.parametrize("epoch", range(5))
def test_every_token_that_starts_nothing_is_a_target_once(data, epoch):
    batches = epoch_of(streams(data), epoch)
    targets = np.concatenate([batch.tokens[:, 1:, 0][batch.targets] for batch in batches])
    ids = stream_of(batches)
    firsts = {*beginnings_of(data, ids), *range(0, len(ids), LANE_LENGTH)}
    expected = [token for place, token in enumerate(ids) if place not in firsts]
    assert sorted(targets.tolist()) == sorted(expected)


def test_rows_continue_those_of_the_batch_before(data):
    s = streams(data)
    begun_at_the_seam = 0
    for k in range(1, 20 * BATCHES):
        before, batch = s.batch(k - 1), s.batch(k)
        assert batch.continues == (k % BATCHES > 0)
        if batch.continues:
            assert np.array_equal(batch.tokens[:, 0], before.tokens[:, -1])
            assert np.array_equal(batch.boundaries[:, 0], before.boundaries[:, -1])
            begun_at_the_seam += batch.boundaries[:, 0].sum()
        else:
            assert batch.boundaries[:, 0].all()
    assert 0 < begun_at_the_seam < 20 * BATCHES


def test_every_epoch_has_as_many_batches_and_the_last_one_is_shorter(data):
    s = streams(data)
    assert s.batches_per_epoch == BATCHES
    for epoch in range(5):
        widths = [batch.tokens.shape[1] for batch in epoch_of(s, epoch)]
        assert widths == [12] * 7
    s = streams(data, context_length=12)
    widths = [s.batch(k).tokens.shape[1] for k in range(s.batches_per_epoch + 1)]
    assert widths == [13] * 6 + [6, 13]
    assert s.batch(6).lengths.tolist() == [5] * LANES


def test_epochs_differ_in_order_and_variants(data):
    s = streams(data)
    epochs = [stream_of(epoch_of(s, epoch)) for epoch in range(8)]
    seen = set(np.concatenate(epochs).tolist())
    for piece in data.pieces:
        for variant in range(len(piece.variants)):
            assert int(data.read(piece, variant=variant)[0, 0]) in seen
    assert not np.array_equal(epochs[0], epochs[1])


def test_sources_are_the_files_of_each_row(data):
    file_of = {
        int(token): piece.file
        for piece in data.pieces
        for variant in range(len(piece.variants))
        for token in data.read(piece, variant=variant)[:, 0]
    }
    several = 0
    for batch in epoch_of(streams(data), 0):
        for ids, source in zip(batch.tokens[..., 0], batch.sources, strict=True):
            assert source == ", ".join(dict.fromkeys(file_of[int(token)] for token in ids))
            several += ", " in source
    assert several > 0


def test_one_row_goes_through_one_piece(made_data):
    s = streams(made_data([(50,)]), batch_size=1, context_length=49)
    assert s.batches_per_epoch == 1
    batch = s.batch(0)
    assert batch.tokens[0, :, 0].tolist() == list(range(1000, 1050))
    assert batch.targets.all()


def test_a_corpus_too_small_for_its_rows_is_refused_with_the_numbers(made_data):
    data = made_data([(5, 9), (8, 4)])
    assert streams(data, batch_size=4).batches_per_epoch == 1
    with pytest.raises(UserError, match=r"has 9 tokens for train, too few for 5 rows .* 10"):
        streams(data, batch_size=5)


def test_a_split_without_pieces_is_refused(data):
    with pytest.raises(UserError, match="no pieces for validation"):
        StreamBatches(data, split=VALIDATION, seed=0, batch_size=1, context_length=4)


@pytest.mark.parametrize("context_length", [4, 5])
def test_turns_together_are_the_lanes_of_one_large_batch(data, context_length):
    together = streams(data, batch_size=6, context_length=context_length, open_lanes=6)
    turns = streams(data, batch_size=2, context_length=context_length, open_lanes=6)
    assert (together.n_turns, turns.n_turns) == (1, 3)
    assert turns.batches_per_epoch == 3 * together.batches_per_epoch
    for k in range(2 * together.batches_per_epoch):
        whole, parts = together.batch(k), [turns.batch(3 * k + turn) for turn in range(3)]
        assert [part.turn for part in parts] == [0, 1, 2]
        assert {part.continues for part in parts} == {whole.continues}
        assert np.array_equal(whole.tokens, np.concatenate([part.tokens for part in parts]))
        assert np.array_equal(whole.boundaries, np.concatenate([part.boundaries for part in parts]))


def test_a_small_corpus_has_fewer_turns(data):
    assert streams(data, batch_size=2, context_length=10, open_lanes=64).n_turns == 2
    assert streams(data, batch_size=2, context_length=100, open_lanes=64).n_turns == 1


def test_held_out_streams_go_on_row_by_row_and_hold_every_target_once(data):
    seen, before = [], None
    for batch in held_out_streams(data, data.pieces, batch_size=4, context_length=CONTEXT):
        assert batch.boundaries.sum() == (0 if batch.continues else len(batch.tokens))
        if batch.continues:
            n = len(batch.tokens)
            assert batch.sources == before.sources[:n]
            assert np.array_equal(batch.tokens[:, 0], before.tokens[:n, -1])
        seen += batch.tokens[:, 1:, 0][batch.targets].tolist()
        before = batch
    assert sorted(seen) == sorted(i for p in data.pieces for i in data.read(p)[1:, 0].tolist())
