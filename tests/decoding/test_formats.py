"""Formats of the weights: measured on the same tokens, and chosen only where they cost nothing."""

from dataclasses import replace

import pytest
from making import write_model

from seqgen.checkpoint import add_facts, load_model
from seqgen.decoding import choose
from seqgen.decoding.choose import DECODERS
from seqgen.decoding.formats import (
    choose_weights,
    compare_formats,
    comparison_tokens,
    formats_record,
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_model(write_model(tmp_path_factory.mktemp("run")))


def with_formats(loaded, *, decoder="torch", **costs):
    """The same model, with such bits above 2 and seconds."""
    rows = [{"weights": w, "bits": 2 + bits, "seconds": s} for w, (bits, s) in costs.items()]
    return replace(loaded, record={"formats": {"decoder": decoder, "rows": rows}})


def test_the_fastest_format_that_costs_nothing_is_chosen(loaded):
    costs = {"float32": (0.0, 3.0), "bf16": (0.0019, 2.0), "int8": (0.0021, 1.0)}
    assert choose_weights(with_formats(loaded, **costs), "torch") == "bf16"
    assert choose_weights(with_formats(loaded, **costs | {"int8": (-0.1, 1.0)}), "torch") == "int8"
    assert (
        choose_weights(with_formats(loaded, **costs | {"float32": (0, 0.5)}), "torch") == "float32"
    )


def test_float32_is_chosen_where_nothing_was_measured_for_the_decoder(loaded):
    assert choose_weights(loaded) == "float32"
    costs = {"float32": (0.0, 3.0), "bf16": (0.0, 1.0)}
    assert choose_weights(with_formats(loaded, **costs), "reference") == "float32"


def test_a_format_that_is_not_here_is_left_out(loaded, monkeypatch):
    costs = {"float32": (0.0, 3.0), "bf16": (0.0, 2.0), "w8a8": (0.0, 1.0)}
    formats = with_formats(loaded, decoder="native", **costs)
    missing = {"w8a8": "not on this processor"}
    monkeypatch.setattr(choose, "why_not_native", lambda model, weights: missing.get(weights, ""))
    assert choose_weights(formats) == "bf16"
    missing.clear()
    assert choose_weights(formats) == "w8a8"


def test_what_is_measured_is_kept_with_the_model(loaded, tmp_path):
    run = write_model(tmp_path / "run")
    tokens, source = comparison_tokens(loaded, run)
    assert source == "its own samples"
    measured, _ = compare_formats(loaded.model, tokens[:2, :20], decoder="torch")
    add_facts(run / "model", formats=formats_record(measured))
    again = load_model(run)
    rows = {row["weights"]: row for row in again.record["formats"]["rows"]}
    assert set(rows) <= set(DECODERS["torch"].supported_weights)
    assert rows["float32"]["same_top"] == 1
    assert rows["float32"]["bits"] == pytest.approx(measured[0].agreement.exact_bits, abs=1e-5)
    assert choose_weights(again, "torch") in rows
