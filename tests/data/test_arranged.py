"""Batches that tasks tell: a pure function of (seed, k), rows full, given tokens no targets."""

import numpy as np
import pytest
from making import write_songs
from preparing import prepare

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data.arranged import ArrangedBatches
from seqgen.data.splits import TRAIN
from seqgen.errors import UserError

SHARES = {"continue": 0.4, "infill": 0.3, "accompany": 0.3}


def config(folder, **options):
    return DataConfig(
        source=str(folder / "songs"), prepared_dir=str(folder / "prepared"), **options
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arranged")
    write_songs(folder / "songs", 8, bars=6)
    (folder / "songs" / "words.txt").write_text("No music.")
    return folder


@pytest.fixture(scope="module")
def data(folder):
    settings = config(folder, tasks=SHARES, controls=["all"], transpose=1)
    return prepare(settings, LimitsConfig(), TokenizerConfig()).data


def batches(data, seed=0, **options):
    sizes = {"batch_size": 4, "context_length": 300, "shares": SHARES}
    return ArrangedBatches(data, split=TRAIN, seed=seed, **sizes | options)


def test_batch_k_is_a_function_of_seed_and_k(data):
    first, again, other = batches(data), batches(data), batches(data, seed=1)
    for k in (5, 0, 40):
        a, b = first.batch(k), again.batch(k)
        assert np.array_equal(a.tokens, b.tokens)
        assert np.array_equal(a.targets, b.targets)
        assert a.sources == b.sources
    assert not np.array_equal(first.batch(0).tokens, other.batch(0).tokens)


def test_rows_are_full_and_given_tokens_are_no_targets(data):
    b = batches(data)
    lengths, windows = [], 0
    marks = [
        i for i, name in enumerate(data.tokenizer.names()) if name.startswith(("Given_", "Held_"))
    ]
    for k in range(20):
        batch = b.batch(k)
        assert (batch.lengths <= 300).all()
        lengths += batch.lengths.tolist()
        windows += batch.boundaries.sum()
        given = batch.given[:, 1:]
        assert not (batch.targets & given).any()
        assert batch.given[np.isin(batch.tokens[..., 0], marks)].all()
        assert (batch.targets | given | batch.boundaries[:, 1:])[
            np.arange(batch.tokens.shape[1] - 1) < batch.lengths[:, None]
        ].all()
    assert np.mean(lengths) > 0.8 * 300
    assert windows > 90  # several in a row


@pytest.mark.parametrize("context_length", [2, 16, 40])
def test_rows_that_are_shorter_than_a_bar_have_a_window(data, context_length):
    b = batches(data, context_length=context_length)
    found = [b.batch(k) for k in range(10)]
    assert all((batch.lengths > 0).all() for batch in found)
    assert all((batch.lengths <= context_length).all() for batch in found)
    if context_length > 2:
        assert all(batch.targets.any(axis=1).mean() > 0.8 for batch in found)


def test_levels_of_controls_are_kept_with_the_tokens(data):
    levels = data.tokenizer.config.levels
    assert set(levels) == {"density", "polyphony", "register", "loudness"}
    assert levels["loudness"] == sorted(levels["loudness"])
    assert levels["loudness"][0] < levels["loudness"][-1]


@pytest.mark.parametrize(
    ("options", "tokens", "said"),
    [
        ({"tasks": {"invent": 1.0}}, {}, "'invent' is none of continue, infill, accompany"),
        ({"controls": ["mood"]}, {}, "'mood' is none of"),
        ({"tasks": SHARES}, {"parts": "one"}, "accompany needs several parts"),
        ({"controls": ["loudness"]}, {"use_velocities": False}, "use_velocities=true"),
        ({"controls": ["key"]}, {"type": "tsd"}, "tokenizer.type=remi"),
        ({"controls": ["key"]}, {"type": "bytes"}, "tokenizer.type=remi"),
        ({"tasks": SHARES}, {"type": "cpword"}, "tokenizer.type=remi"),
        ({"controls": ["key"]}, {"bpe_vocab_size": 600}, "without tokenizer.bpe_vocab_size"),
    ],
)
def test_what_tokens_cannot_tell_is_refused(folder, options, tokens, said):
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        prepare(config(folder, **options), LimitsConfig(), TokenizerConfig(**tokens))


def test_tokens_of_another_run_must_know_the_tasks(folder, data):
    settings = config(folder, tasks={"infill": 1.0}, controls=["key"])
    known = prepare(settings, LimitsConfig(), TokenizerConfig(), tokenizer=data.tokenizer).data
    assert known.tokenizer.fingerprint() == data.tokenizer.fingerprint()
    plain = prepare(config(folder), LimitsConfig(), TokenizerConfig()).data.tokenizer
    with pytest.raises(UserError, match="lacks"):
        prepare(settings, LimitsConfig(), TokenizerConfig(), tokenizer=plain)
