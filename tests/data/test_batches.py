"""Batch k is a pure function of (seed, k), and windows come from pieces as they are."""

import numpy as np
import pytest
from making import write_songs
from preparing import prepare

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data.batches import TrainingBatches, held_out_batches, held_out_pieces, pack
from seqgen.data.splits import TRAIN, VALIDATION


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    write_songs(folder / "songs", 12, bars=6)
    config = DataConfig(
        source=str(folder / "songs"),
        prepared_dir=str(folder / "prepared"),
        validation=0.3,
        test=0.0,
        transpose=1,
    )
    return prepare(config, LimitsConfig(), TokenizerConfig()).data


# Two variants each; with windows of up to 33 tokens, nine pieces share rows and two do not.
LENGTHS = [
    (5, 7),
    (3, 3),
    (9, 4),
    (20, 22),
    (33, 30),
    (2, 2),
    (12, 8),
    (90, 80),
    (6, 6),
    (2, 3),
    (8, 9),
]


def batches(data, *, seed=0, context_length=32, batch_size=4, packed=False):
    return TrainingBatches(
        data,
        split=TRAIN,
        seed=seed,
        batch_size=batch_size,
        context_length=context_length,
        packed=packed,
    )


def rows_of_epoch(b, epoch=0):
    """Yield the rows of an epoch, of batches of one row: true ids, their boundaries, source."""
    for k in range(epoch * b.rows_per_epoch, (epoch + 1) * b.rows_per_epoch):
        batch = b.batch(k)
        yield batch.tokens[0, :, 0], batch.boundaries[0], batch.sources[0]


def windows_of_epoch(b, epoch):
    """The windows of an epoch, taken apart where they start."""
    return sorted(
        tuple(window)
        for ids, boundaries, _ in rows_of_epoch(b, epoch)
        for window in np.split(ids, np.flatnonzero(boundaries)[1:])
    )


def assert_same(a, b):
    for name in ("tokens", "lengths", "boundaries", "targets"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert a.sources == b.sources


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("context_length", [32, 400])
def test_a_batch_is_a_pure_function_of_seed_and_number(data, packed, context_length):
    first, second, other = (
        batches(data, seed=seed, packed=packed, context_length=context_length) for seed in (0, 0, 1)
    )
    for k in [0, 1, 2, 3, 50, 7]:
        first.batch(k)
    for k in [7, 0, 50, 7]:
        assert_same(first.batch(k), second.batch(k))
    assert not np.array_equal(other.batch(7).tokens, first.batch(7).tokens)
    assert not np.array_equal(first.batch(8).tokens, first.batch(7).tokens)


def test_every_window_is_a_slice_of_one_training_piece(data):
    series = {}
    for piece in data.of_split(TRAIN):
        for variant in range(len(piece.variants)):
            ids = data.read(piece, variant=variant)[:, 0].astype(np.int32)
            series.setdefault(piece.file, []).append(ids.tobytes())
    for k in range(20):
        batch = batches(data).batch(k)
        for tokens, length, source in zip(batch.tokens, batch.lengths, batch.sources, strict=True):
            window = tokens[: length + 1, 0].astype(np.int32).tobytes()
            assert any(window in whole for whole in series[source])
            assert (tokens[length + 1 :] == data.tokenizer.vocabulary.pad_id).all()


def test_an_epoch_sees_every_beginning_and_every_end(data):
    b, v = batches(data), data.tokenizer.vocabulary
    n_batches = -(-b.windows_per_epoch // 4)
    windows = [b.batch(k) for k in range(n_batches + 1)]
    firsts = {
        s for w in windows for s, t in zip(w.sources, w.tokens, strict=True) if t[0] == v.bos_id
    }
    lasts = {
        s
        for w in windows
        for s, t, n in zip(w.sources, w.tokens, w.lengths, strict=True)
        if t[n, 0] == v.eos_id
    }
    files = {piece.file for piece in data.of_split(TRAIN)}
    assert firsts == lasts == files


def test_a_piece_shorter_than_the_window_is_one_row(data):
    b = batches(data, context_length=10_000)
    assert b.windows_per_epoch == len(data.of_split(TRAIN))
    batch = b.batch(0)
    assert batch.tokens.shape[1] == batch.lengths.max() + 1 < 1000


def test_a_window_alone_in_its_row_starts_it_and_all_else_are_targets(data):
    for batch in (batches(data).batch(0), batches(data, context_length=10_000).batch(0)):
        places = np.arange(batch.tokens.shape[1])
        assert np.array_equal(batch.boundaries, np.tile(places == 0, (4, 1)))
        assert np.array_equal(batch.targets, places[:-1] < batch.lengths[:, None])
        assert not batch.continues


def test_packed_and_unpacked_epochs_hold_the_same_windows(made_data):
    made = made_data(LENGTHS)
    alone = batches(made, batch_size=1)
    shared = batches(made, batch_size=1, packed=True)
    assert shared.rows_per_epoch < alone.rows_per_epoch == alone.windows_per_epoch
    assert shared.windows_per_epoch == alone.windows_per_epoch
    for epoch in range(3):
        assert windows_of_epoch(shared, epoch) == windows_of_epoch(alone, epoch)
    assert windows_of_epoch(shared, 0) != windows_of_epoch(shared, 1)


def test_packing_changes_nothing_where_no_piece_is_short(made_data):
    made = made_data([(33, 30), (90, 80), (70, 71), (300, 2)])
    alone, shared = batches(made), batches(made, packed=True)
    for k in range(20):
        assert_same(alone.batch(k), shared.batch(k))


def test_packed_rows_have_room_for_their_windows_and_full_windows_stand_alone(made_data):
    b = batches(made_data(LENGTHS), batch_size=1, packed=True)
    for epoch in range(5):
        for ids, boundaries, source in rows_of_epoch(b, epoch):
            assert len(ids) <= 33
            assert boundaries[0]
            assert boundaries.sum() == len(source.split(", "))
            if source in ("piece-4", "piece-7"):
                assert boundaries.sum() == 1
            else:
                assert boundaries.sum() > 1


def test_rows_of_an_epoch_are_shuffled_anew(made_data):
    b = batches(made_data(LENGTHS * 3), batch_size=1, packed=True)
    first, second = ([source for *_, source in rows_of_epoch(b, epoch)] for epoch in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)


def test_packed_targets_are_the_tokens_that_do_not_start_a_window(made_data):
    made = made_data(LENGTHS)
    batch = batches(made, packed=True, batch_size=8).batch(0)
    assert len(set(batch.lengths)) > 1
    for b in range(8):
        ids = batch.tokens[b, : batch.lengths[b] + 1, 0]
        expected = [i for i in range(len(ids) - 1) if ids[i + 1] == ids[i] + 1]
        assert np.flatnonzero(batch.targets[b]).tolist() == expected
        assert not batch.boundaries[b, len(ids) :].any()


@pytest.mark.parametrize(("low", "high"), [(1, 8), (2, 64), (20, 40), (33, 64), (64, 65)])
def test_shared_rows_hold_their_windows_and_no_two_could_be_one(low, high):
    sizes = np.random.default_rng(high).integers(low, high, 500)
    filled = np.bincount(pack(sizes, 64), weights=sizes)
    assert filled.min() > 0
    assert filled.max() <= 64
    assert np.sort(filled)[:2].sum() > 64


def test_a_window_goes_to_the_fullest_row_that_holds_it():
    assert pack(np.array([2, 7, 3, 6, 2]), 10).tolist() == [1, 0, 0, 1, 1]


def test_held_out_rows_are_one_window_each(data):
    pieces = held_out_pieces(data, VALIDATION, max_targets=10**9)
    for batch in held_out_batches(data, pieces, batch_size=3, context_length=20):
        assert batch.boundaries[:, 0].all()
        assert batch.boundaries.sum() == len(batch.tokens)
        assert batch.targets.sum() == batch.lengths.sum()


def test_held_out_windows_hold_every_target_once(data):
    pieces = held_out_pieces(data, VALIDATION, max_targets=10**9)
    targets = np.concatenate(
        [
            tokens[1 : n + 1, 0]
            for batch in held_out_batches(data, pieces, batch_size=3, context_length=20)
            for tokens, n in zip(batch.tokens, batch.lengths, strict=True)
        ]
    )
    expected = np.concatenate([data.read(piece)[1:, 0] for piece in data.of_split(VALIDATION)])
    assert np.array_equal(np.sort(targets), np.sort(expected))


def test_held_out_pieces_stop_at_the_budget(data):
    pieces = held_out_pieces(data, VALIDATION, max_targets=200)
    assert sum(piece.variants[0][1] - 1 for piece in pieces) == 200
