"""What is evaluated: which pieces, counted where, beside which runs and count models."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from making import random_tokens, write_songs

from seqgen.config import Config, DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.data.prepare import prepare
from seqgen.data.shards import Piece
from seqgen.errors import UserError
from seqgen.evaluation.counted import count_model_curves
from seqgen.evaluation.evaluate import learning_curve
from seqgen.evaluation.piece_sets import count_items, split_set
from seqgen.evaluation.subject import check_beside, train_beside


@pytest.fixture
def prepared(tmp_path):
    write_songs(tmp_path / "songs", 8, bars=4)
    config = DataConfig(
        source=str(tmp_path / "songs"),
        prepared_dir=str(tmp_path / "prepared"),
        validation=0.3,
        test=0.0,
        workers=1,
    )
    return prepare(config, LimitsConfig(), TokenizerConfig()).data


def validation(data, **choices):
    return split_set(data, "validation", name="v", **{"max_targets": 10**6, **choices})


def test_pieces_are_counted_in_their_files_while_these_are_what_was_read(prepared, tmp_path):
    pieces = validation(prepared)
    assert len(pieces.items) > 1
    in_files, in_tokens = count_items(pieces.items, prepared.tokenizer, progress=lambda *_: None)
    for item, file, tokens in zip(pieces.items, in_files, in_tokens, strict=True):
        assert file.notes == 4 * 4 * 2
        # Melody and chords meet on one note now and then, which tokens of one part hold once.
        assert 0 < tokens.notes <= file.notes
        assert file.seconds == pytest.approx(16 * 60 / 100, rel=0.01)
        assert item.path == tmp_path / "songs" / item.name
    changed = pieces.items[0].path
    changed.write_bytes(changed.read_bytes() + b"x")
    again = {item.name: item.path for item in validation(prepared).items}
    assert again[pieces.items[0].name] is None
    assert again[pieces.items[1].name] is not None


def test_pieces_are_whole_and_only_a_first_one_that_is_too_long_is_cut(prepared):
    whole = validation(prepared)
    few = validation(prepared, max_targets=whole.items[0].n_targets + 5)
    assert [item.name for item in few.items] == [whole.items[0].name]
    assert few.items[0].path is not None
    assert few.n_available == len(whole.items)
    (cut,) = validation(prepared, max_targets=5).items
    assert cut.n_targets == 5
    assert cut.path is None  # so it is not counted in its file


class Data:
    """Prepared data of several fields, in memory."""

    def __init__(self, vocabulary, pieces):
        self.tokenizer = SimpleNamespace(vocabulary=vocabulary)
        self._pieces = pieces

    def of_split(self, split):
        assert split == "train"
        places = range(len(self._pieces))
        return [Piece(str(i), split, "", 0, ((i, len(self._pieces[i])),)) for i in places]

    def read(self, piece, *, variant=0):
        return self._pieces[piece.variants[variant][0]]


def test_count_models_score_compound_tokens_field_by_field(toy_vocabulary):
    training = list(random_tokens(toy_vocabulary, 12, 60, seed=1).numpy())
    for ids in training:
        ids[:, 2] = 4  # a field that never changes costs next to nothing
    held_out = [ids[:n] for ids, n in zip(training, (60, 9, 31), strict=False)]
    curves = count_model_curves(Data(toy_vocabulary, training), held_out, max_order=2)
    assert list(curves) == ["unigram", "bigram"]
    assert [curve.shape for curve in curves["bigram"]] == [(59, 3), (8, 3), (30, 3)]
    nats = np.concatenate(curves["unigram"]).mean(axis=0)
    assert nats[2] < 0.05
    assert nats[0] == pytest.approx(np.log(9), rel=0.1)  # 9 ids are not special
    assert nats[1] == pytest.approx(np.log(17), rel=0.1)


def subject(path="runs/a", *, content="data", fingerprint="tokens", **train):
    config = Config(train={"max_steps": 100, **train})
    return SimpleNamespace(
        path=Path(path),
        data_content=content,
        config=config,
        loaded=SimpleNamespace(
            tokenizer=SimpleNamespace(fingerprint=lambda: fingerprint),
            model=SimpleNamespace(config=ModelConfig()),
        ),
    )


def test_runs_on_other_data_or_tokens_are_refused_and_other_budgets_told():
    assert check_beside(subject(), subject("runs/b")) == []
    (said,) = check_beside(subject(), subject("runs/b", max_steps=200))
    assert said == "train.max_steps is 200, here 100"
    with pytest.raises(UserError, match="another tokenizer"):
        check_beside(subject(), subject("runs/b", fingerprint="others"))
    with pytest.raises(UserError, match=r"other data.*model\.attention=full"):
        check_beside(subject(), subject("runs/b", content="others"))


def test_the_softmax_run_is_asked_for_with_all_it_needs(tmp_path):
    said = train_beside(subject(tmp_path / "a", carry_state=True, init_from="runs/old"))
    assert "model.attention=full" in said
    assert f"run.dir={tmp_path / 'a'}-softmax" in said
    assert "train.carry_state=false" in said
    assert "train.init_from=null" in said


def test_a_learning_curve_keeps_both_losses_apart():
    metrics = [{"step": 1, "loss": 3.0}, {"step": 2, "validation_loss": 2.5}]
    assert learning_curve(metrics) == {"training": [[1, 3.0]], "validation": [[2, 2.5]]}
