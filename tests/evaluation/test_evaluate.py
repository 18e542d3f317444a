"""What is evaluated: which pieces, counted where, beside which runs and n-gram models."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from making import random_tokens, write_songs
from preparing import prepare

from seqgen.checkpoint import FORMAT
from seqgen.config import Config, DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.data.shards import Pieces, StoredPiece, make_table
from seqgen.errors import UserError
from seqgen.evaluation import piece_sets
from seqgen.evaluation.evaluate import learning_curve
from seqgen.evaluation.ngrams import ngram_curves
from seqgen.evaluation.piece_sets import choose_sets, folder_set, split_set
from seqgen.evaluation.subject import EvaluatedRun, check_beside, name_apart, rival_of
from seqgen.files import write_record


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
    choices = {"max_targets": 10**6, "progress": lambda *_: None, **choices}
    return split_set(data, "validation", **choices)


def test_pieces_are_counted_in_their_files_while_these_are_what_was_read(prepared, tmp_path):
    pieces = validation(prepared)
    assert len(pieces.items) > 1
    for item in pieces.items:
        assert item.in_file.units == 4 * 4 * 2
        # Melody and chords meet on one note now and then, which tokens of one part hold once.
        assert 0 < item.in_tokens.units <= item.in_file.units
        assert item.in_file.seconds == pytest.approx(16 * 60 / 100, rel=0.01)
    changed = tmp_path / "songs" / pieces.items[0].name
    changed.write_bytes(changed.read_bytes() + b"x")
    again = {item.name: item.in_file for item in validation(prepared).items}
    assert again[pieces.items[0].name] is None
    assert again[pieces.items[1].name] is not None


def test_pieces_of_a_grid_are_counted_in_cells_and_are_music(tmp_path):
    folder = write_songs(tmp_path / "songs", 8, bars=4)
    config = DataConfig(source=str(folder), prepared_dir=str(tmp_path / "p"), workers=1)
    data = prepare(config, LimitsConfig(), TokenizerConfig(type="grid")).data
    pieces = validation(data)
    for item in pieces.items:
        assert item.in_file.units == item.in_tokens.units == 4 * (len(item.ids) - 2) // 4
        assert len(item.midi.instruments) == 2
    assert pieces.facts()["units"] == pieces.n_targets - len(pieces.items)  # all but their ends


def test_pieces_are_whole_and_only_a_first_one_that_is_too_long_is_cut(prepared):
    whole = validation(prepared)
    few = validation(prepared, max_targets=len(whole.items[0].ids) + 4)
    assert [item.name for item in few.items] == [whole.items[0].name]
    assert few.items[0].in_file is not None
    assert few.n_available == len(whole.items)
    (cut,) = validation(prepared, max_targets=5).items
    assert len(cut.ids) == 6
    assert cut.in_file is None  # so it is not counted in its file


def test_files_that_cannot_be_read_are_skipped_with_the_reason(prepared, tmp_path, monkeypatch):
    write_songs(tmp_path / "others", 3, bars=2)
    gone, told = tmp_path / "others/song-01.mid", []

    def progress(what, done, total):
        told.append(what)
        gone.unlink(missing_ok=True)

    size = (tmp_path / "others/song-02.mid").stat().st_size
    choices = {"cache": tmp_path, "max_targets": 10**6, "progress": progress}
    pieces = folder_set(str(tmp_path / "others"), prepared.tokenizer, **choices)
    assert [item.name for item in pieces.items].count("song-01.mid") == 0
    assert pieces.skipped == (("song-01.mid", "No such file or directory"),)
    assert told[0] == "hashing files"
    monkeypatch.setattr(piece_sets, "MOST_BYTES", size - 1)
    with pytest.raises(UserError, match=r"none of 2 files.*larger than"):
        folder_set(str(tmp_path / "others"), prepared.tokenizer, **choices)


class Data:
    """Prepared data of several fields, in memory."""

    def __init__(self, vocabulary, pieces):
        self.tokenizer = SimpleNamespace(vocabulary=vocabulary)
        self._pieces = pieces

    def of_split(self, split):
        assert split == "train"
        places = range(len(self._pieces))
        pieces = (StoredPiece(str(i), split, "", 0, ((i, len(self._pieces[i])),)) for i in places)
        return Pieces(make_table(pieces))

    def read(self, piece, *, variant=0):
        return self._pieces[piece.variants[variant][0]]


def test_ngram_models_score_compound_tokens_field_by_field(toy_vocabulary):
    training = list(random_tokens(toy_vocabulary, 12, 60, seed=1).numpy())
    for ids in training:
        ids[:, 2] = 4  # a field that never changes costs next to nothing
    held_out = [ids[:n] for ids, n in zip(training, (60, 9, 31), strict=False)]
    curves = ngram_curves(Data(toy_vocabulary, training), held_out)
    assert list(curves) == ["unigram", "bigram", "trigram", "4-gram", "5-gram"]
    assert [curve.shape for curve in curves["bigram"]] == [(59, 3), (8, 3), (30, 3)]
    nats = np.concatenate(curves["unigram"]).mean(axis=0)
    assert nats[2] < 0.05
    assert nats[0] == pytest.approx(np.log(9), rel=0.1)  # 9 ids are not special
    assert nats[1] == pytest.approx(np.log(17), rel=0.1)


def subject(path="runs/a", *, content="data", fingerprint="tokens", attention="causal-linear",
            steps=100, known=True, decay="none", **train):  # fmt: skip
    config = None
    if known:
        config = Config(train={"max_steps": 100, **train}, model={"decay": decay})
    loaded = SimpleNamespace(
        tokenizer=SimpleNamespace(fingerprint=lambda: fingerprint),
        model=SimpleNamespace(config=ModelConfig(attention=attention, decay=decay)),
    )
    metrics = [] if steps is None else [{"step": steps}]
    return EvaluatedRun(Path(path), loaded, config, content, metrics)


def test_runs_on_other_data_or_tokens_are_refused_and_other_budgets_told():
    assert check_beside(subject(), subject("runs/b")) == []
    (said,) = check_beside(subject(), subject("runs/b", max_steps=200))
    assert said == "train.max_steps is 200, here 100"
    (said,) = check_beside(subject(), subject("runs/b", steps=60))
    assert said == "training reached step 60, here 100"
    with pytest.raises(UserError, match="another tokenizer"):
        check_beside(subject(), subject("runs/b", fingerprint="others"))
    with pytest.raises(UserError, match=r"other data.*model\.attention=softmax"):
        check_beside(subject(), subject("runs/b", content="others"))


def test_a_run_whose_data_is_not_there_says_why_and_is_evaluated_on_other_files(
    prepared, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_songs(tmp_path / "others", 2, bars=2)
    run = replace(subject(tmp_path / "run", content="x"), loaded=prepared)  # has the tokenizer

    def choose(source=None, **record):
        write_record(tmp_path / "run/run.json", record, format=FORMAT)
        return choose_sets(run, source, max_targets=10**6, progress=lambda *_: None)

    (tmp_path / "run").mkdir()
    for record, reason in (
        ({}, "does not say what data it was trained on"),
        ({"data": str(tmp_path / "gone")}, "cannot be read"),
        ({"data": str(prepared.folder)}, "no longer what the run was trained on"),
    ):
        with pytest.raises(UserError, match=f"{reason}.*: restore it, or choose other files"):
            choose(**record)
    sets = choose(str(tmp_path / "others"))
    assert sets.training is None
    assert [len(pieces.items) for pieces in sets.held_out] == [2]


def test_what_is_not_known_of_a_run_beside_is_said():
    bare = subject("model", content=None, known=False, steps=None)
    data, budget = check_beside(subject(), bare)
    assert data == "whether they learned from the same data is not known"
    assert budget == "whether they had the same budget is not known"
    assert check_beside(bare, bare) == [data, budget]
    (reached,) = check_beside(subject(), subject("runs/b", steps=None))
    assert reached == "how far both were trained is not known"


def test_rivals_of_one_folder_name_are_told_apart():
    rivals = [subject("x/b"), subject("y/b"), subject("c")]
    names = [rival.name for rival in name_apart(subject("runs/a"), rivals)]
    assert names == ["x/b", "y/b", "c"]
    assert [r.name for r in name_apart(subject("x/a"), [subject("y/a")])] == ["y/a"]
    with pytest.raises(UserError, match="is given twice"):
        name_apart(subject("runs/a"), [subject("runs/b"), subject("runs/../runs/b")])


def test_the_run_of_the_other_attention_is_asked_for_with_all_it_needs(tmp_path):
    run = subject(tmp_path / "a", carry_state=True, init_from="runs/old")
    said = rival_of(run)["train_beside"]
    assert "model.attention=softmax" in said
    assert f"run.dir={tmp_path / 'a'}-softmax" in said
    assert "train.carry_state=false" in said
    assert "train.init_from=null" in said
    assert "model.decay" not in said
    forgets = subject("runs/d", decay="learned")
    assert "model.attention=softmax" in rival_of(forgets)["train_beside"]
    assert "model.decay=none" in rival_of(forgets)["train_beside"]
    assert forgets.attention == "causal linear attention with learned decay"
    softmax = rival_of(subject("runs/s", attention="softmax"))
    assert "model.attention=causal-linear run.dir=runs/s-linear" in softmax["train_beside"]
    assert softmax["show_beside"].endswith("runs/s --beside runs/s-linear")
    assert rival_of(subject(known=False))["train_beside"] == ""


def test_a_learning_curve_keeps_both_losses_apart():
    metrics = [{"step": 1, "loss": 3.0}, {"step": 2, "validation_loss": 2.5}]
    assert learning_curve(metrics) == {"training": [[1, 3.0]], "validation": [[2, 2.5]]}
