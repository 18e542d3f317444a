"""Bits per token on held-out pieces, by decoder."""

from math import log

import pytest
import torch
from preparing import prepare
from tiny_models import patient_timer, tiny_model

from seqgen.benchmark.measures import likelihood
from seqgen.benchmark.model import load_benchmark_model
from seqgen.benchmark.records import Place
from seqgen.checkpoint import FORMAT, load_model, save_model
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.decoding.agreement import score
from seqgen.decoding.held_out import held_out
from seqgen.files import write_record
from seqgen.model.loss import token_nats
from seqgen.model.sequence_model import SequenceModel


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    texts = folder / "texts"
    texts.mkdir()
    for i in range(60):
        (texts / f"{i}.txt").write_text(f"{i} " + "abcdefghij"[i % 10] * 40)
    config = DataConfig(source=str(texts), prepared_dir=str(folder / "prepared"), validation=0.4)
    return prepare(config, LimitsConfig(), TokenizerConfig(type="bytes")).data


@pytest.fixture(scope="module")
def make_run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")

    def make(name, **choices):
        torch.manual_seed(0)
        sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "dropout": 0.0}
        model = SequenceModel(ModelConfig(**sizes | choices), data.tokenizer.vocabulary)
        save_model(folder / name / "model", model, data.tokenizer, step=1)
        record = {"data": str(data.folder), "data_content": "same"}
        write_record(folder / name / "run.json", record, format=FORMAT)
        return folder / name

    return make


@pytest.fixture(scope="module")
def run(make_run):
    return make_run("run")


def measure(model, *, position=20):
    timer = patient_timer()
    return {
        r.variant: r for r in likelihood.measure(model, timer, Place("likelihood", 1, position))
    }


def test_exact_decoders_cost_what_the_parallel_form_does_and_others_nearly(run):
    records = measure(load_benchmark_model(run))
    assert set(records) >= {"parallel", "recurrent", "torch", "torch-bf16"}
    exact = records["parallel"].bits_per_token
    assert 4 < exact < 12  # of untrained bytes, 8 or so
    for name in ("recurrent", "torch"):
        assert records[name].bits_per_token == pytest.approx(exact, abs=1e-4)
    rounded = records["torch-bf16"]
    assert rounded.dtype == "bf16"
    assert 0 < abs(rounded.bits_per_token - exact) < 0.1
    assert "cuda" not in records or torch.cuda.is_available()


def test_a_row_has_bits_or_a_reason(run):
    for record in measure(load_benchmark_model(run)).values():
        assert (record.bits_per_token is None) == bool(record.note)
        n_targets = likelihood.ROWS * 20 if record.bits_per_token else None
        assert record.targets == n_targets
        assert (record.batch, record.median_seconds) == (likelihood.ROWS, None)


def test_random_weights_say_nothing():
    records = measure(tiny_model()).values()
    assert {r.note for r in records} == {likelihood.RANDOM}


def test_data_that_is_gone_is_said_to_be(run, tmp_path):
    model = load_benchmark_model(run)
    assert {r.note for r in measure(model, position=500).values()} == {likelihood.ABSENT}
    assert held_out(run, "another tokenizer", rows=1, length=5) is None
    assert held_out(tmp_path, "no run", rows=1, length=5) is None


def test_windows_are_the_beginnings_of_held_out_pieces(run, data):
    tokens = held_out(run, data.tokenizer.fingerprint(), rows=3, length=12)
    assert tokens.shape == (3, 12, 1)
    pieces = data.of_split("validation")[:3]
    assert tokens.tolist() == [data.read(piece, stop=12).tolist() for piece in pieces]


def test_speed_is_measured_without_decay_and_likelihood_with_it(make_run, tmp_path):
    """The library, beside which speed is measured, does not support decay."""
    run = make_run("forgets", decay="fixed", decay_range=[0.2, 0.5])
    model = load_benchmark_model(run)
    assert model.config.decay == "none"
    assert "without their decay" in model.weights
    trained = load_model(run).model
    weights = trained.state_dict()
    assert all(torch.equal(x, weights[name]) for name, x in model.model.state_dict().items())
    records = measure(model)
    tokens = held_out(run, load_model(run).tokenizer.fingerprint(), rows=8, length=21)
    exact, without = (
        float(token_nats(score(x, tokens), tokens[:, 1:]).mean()) / log(2)
        for x in (trained, model.model)
    )
    assert records["parallel"].bits_per_token == pytest.approx(exact, abs=1e-6)
    assert without != pytest.approx(exact, abs=1e-5)
    for name in ("recurrent", "torch"):
        bits = records[name].bits_per_token
        assert bits == pytest.approx(records["parallel"].bits_per_token, abs=1e-4)
    (tmp_path / "a.yaml").write_text("model: {d_model: 16, n_heads: 2, decay: fixed}")
    assert load_benchmark_model(tmp_path / "a.yaml").config.decay == "none"
