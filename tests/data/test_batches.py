"""Batch k is a pure function of (seed, k), and windows come from pieces as they are."""

import numpy as np
import pytest
from making import write_songs

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data.batches import TrainingBatches, held_out_batches, held_out_pieces
from seqgen.data.prepare import prepare
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


def batches(data, *, seed=0, context_length=32, batch_size=4):
    return TrainingBatches(
        data, split=TRAIN, seed=seed, batch_size=batch_size, context_length=context_length
    )


def test_a_batch_is_a_pure_function_of_seed_and_number(data):
    first, second = batches(data), batches(data)
    order = [7, 0, 50, 7]
    for k in order:
        a, b = first.batch(k), second.batch(k)
        assert np.array_equal(a.tokens, b.tokens)
        assert np.array_equal(a.lengths, b.lengths)
        assert a.sources == b.sources
    assert not np.array_equal(batches(data, seed=1).batch(7).tokens, first.batch(7).tokens)
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
