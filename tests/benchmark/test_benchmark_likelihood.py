"""Bits per token on held-out pieces, by decoder."""

from math import log

import pytest
import torch
from tiny_models import patient_timer, tiny_model

from seqgen.benchmark.measures import likelihood
from seqgen.benchmark.model import as_trained, load_benchmark_model
from seqgen.benchmark.records import Place
from seqgen.checkpoint import FORMAT, save_model
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.data.prepare import prepare
from seqgen.decoding.held_out import held_out
from seqgen.errors import UserError
from seqgen.files import write_record
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

    def make(name, *, seed=0, content="same", **choices):
        torch.manual_seed(seed)
        sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "dropout": 0.0}
        model = SequenceModel(ModelConfig(**sizes | choices), data.tokenizer.vocabulary)
        save_model(folder / name / "model", model, data.tokenizer, step=1)
        record = {"data": str(data.folder), "data_content": content}
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


def test_another_run_stands_beside(run, make_run):
    softmax = make_run("softmax", attention="softmax", seed=1)
    model = load_benchmark_model(run, beside=softmax)
    records = measure(model)
    beside = records["beside"]
    assert beside.bits_per_token != records["parallel"].bits_per_token
    gap = beside.bits_per_token - records["parallel"].bits_per_token
    assert beside.note.startswith(f"is softmax (softmax attention): {gap:+.4f} bits (95%: ")
    unknown = "apart from attention: whether they had the same budget is not known"
    assert beside.note.endswith(unknown)  # these runs were never trained, and have no metrics
    assert "beside" not in measure(load_benchmark_model(run))
    assert measure(load_benchmark_model(run, beside=run))["beside"].bits_per_token == pytest.approx(
        records["parallel"].bits_per_token
    )


def test_what_else_the_two_runs_differ_in_stands_beside_the_figure(run, make_run):
    deeper = make_run("deeper", attention="softmax", n_layers=2)
    note = measure(load_benchmark_model(run, beside=deeper))["beside"].note
    assert note.endswith(", model.n_layers is 2, here 1")


def test_the_interval_is_over_pieces_in_pairs():
    same = torch.full((4, 10), 0.1)
    assert likelihood._gap(same) == "+0.1443 bits (95%: +0.1443 to +0.1443)"
    spread = same + torch.tensor([[-0.05], [0.0], [0.0], [0.05]])
    assert likelihood._gap(spread) == "+0.1443 bits (95%: +0.0902 to +0.1984)"


def test_a_rival_whose_positions_end_too_early_is_left_out(run, make_run):
    short = make_run("short", attention="softmax", positions="learned", max_positions=16)
    records = measure(load_benchmark_model(run, beside=short))
    assert records["beside"].note == "left out: short (softmax attention) has 16 learned positions"
    assert records["parallel"].bits_per_token


def test_a_run_of_other_data_is_refused(run, make_run):
    with pytest.raises(UserError, match="other data"):
        load_benchmark_model(run, beside=make_run("elsewhere", content="other"))


def test_speed_is_measured_without_decay_and_likelihood_with_it(make_run, tmp_path):
    """The library, beside which speed is measured, does not support decay."""
    run = make_run("forgets", decay="fixed", decay_range=[0.2, 0.5])
    model = load_benchmark_model(run)
    assert model.config.decay == "none"
    assert "without their decay" in model.weights
    weights, trained = (one.model.state_dict() for one in (model, as_trained(model)))
    assert all(torch.equal(value, trained[name]) for name, value in weights.items())
    records = measure(model)
    plain = likelihood.score(model.model, (tokens := likelihood._tokens(model, 20)[0]))
    without = likelihood.token_nats(plain, tokens[:, 1:]).mean() / log(2)
    assert records["parallel"].bits_per_token != pytest.approx(float(without), abs=1e-5)
    for name in ("recurrent", "torch"):
        bits = records[name].bits_per_token
        assert bits == pytest.approx(records["parallel"].bits_per_token, abs=1e-4)
    (tmp_path / "a.yaml").write_text("model: {d_model: 16, n_heads: 2, decay: fixed}")
    assert load_benchmark_model(tmp_path / "a.yaml").config.decay == "none"
