"""The likelihood that speed costs: bits per token of each decoder on held-out pieces.

Decoders step through the same tokens as the parallel form scores at once. A softmax run of the same
data and tokenizer may stand beside them, scored in its own parallel form.

Legend: B rows, T positions, F fields.
"""

from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

from torch import Tensor

from seqgen.benchmark.model import BenchmarkModel, as_trained
from seqgen.benchmark.records import Place, Record
from seqgen.benchmark.timing import Timer
from seqgen.checkpoint import load_model
from seqgen.decoding.agreement import agree, score
from seqgen.decoding.held_out import held_out
from seqgen.evaluation.scales import mean_of, scaled
from seqgen.evaluation.subject import check_beside, open_subject
from seqgen.model.loss import token_nats

PARALLEL, BESIDE = "parallel", "beside"
ROWS = 8  # pieces, whatever the batches of the plan
RANDOM = "left out: random weights have no meaningful likelihood: name a trained run"
ABSENT = "left out: the run's held-out data is missing, or has too few pieces of this length"


def measure(model: BenchmarkModel, timer: Timer, place: Place) -> list[Record]:
    """Score the first `position` tokens of held-out pieces, after the token they begin with."""
    model, place = as_trained(model), replace(place, batch=ROWS)
    tokens, note = _tokens(model, place.position)
    if tokens is None:
        return [timer.untimed(PARALLEL, place, note=note)]
    exact = score(model.model, tokens)
    nats = token_nats(exact, tokens[:, 1:], uses=model.model.uses)  # [B, T - 1]
    known: dict[str, Any] = {"targets": nats.numel(), "bits_per_token": float(nats.mean()) / log(2)}
    records = [timer.untimed(PARALLEL, place, **known)]
    for name in model.decoder_names:
        if note := model.why_not(name):
            values: dict[str, Any] = {"note": note}
        else:
            bits = agree(model.decoder(name), tokens, exact).bits
            values = known | {"bits_per_token": bits}
        records.append(timer.untimed(name, place, dtype=model.dtype(name), **values))
    if model.run is not None and model.beside is not None:
        compared = _beside(model.run, model.beside, tokens, nats)
        records.append(timer.untimed(BESIDE, place, **compared))
    return records


def _tokens(model: BenchmarkModel, position: int) -> tuple[Tensor | None, str]:
    """Find held-out tokens [B, position + 1, F], or return why there are none."""
    if model.run is None:
        return None, RANDOM
    tokenizer = load_model(model.run).tokenizer.fingerprint()
    tokens = held_out(model.run, tokenizer, rows=ROWS, length=position + 1)
    return (None, ABSENT) if tokens is None else (tokens.to(model.device), "")


def _beside(run: Path, beside: Path, tokens: Tensor, nats: Tensor) -> dict:
    """Score the tokens with another run's model; the note compares with `nats` [B, T - 1] of ours.

    It names the run, the difference with its interval, and what else differs.
    """
    rival = open_subject(beside, device=str(tokens.device))
    theirs, name = rival.loaded.model, f"{rival.name} ({rival.attention})"
    limit = theirs.positions.limit
    if limit is not None and nats.shape[1] > limit:
        return {"note": f"left out: {name} has {limit} learned positions"}
    cost = token_nats(score(theirs, tokens), tokens[:, 1:], uses=theirs.uses)
    note = f"is {name}: {_gap(cost - nats)} against {PARALLEL}"
    differences = check_beside(open_subject(run), rival)
    if differences:
        note += f"; apart from attention: {', '.join(differences)}"
    return {"targets": nats.numel(), "bits_per_token": float(cost.mean()) / log(2), "note": note}


def _gap(nats: Tensor) -> str:
    """Describe the extra cost, from differences [B, T - 1]: pieces are drawn again in pairs."""
    gap = scaled(mean_of(nats.sum(dim=1).tolist(), [nats.shape[1]] * len(nats)), 1 / log(2))
    assert gap is not None  # there are tokens
    words = f"{gap['value']:+.4f} bits"
    return (
        words if gap["low"] is None else f"{words} (95%: {gap['low']:+.4f} to {gap['high']:+.4f})"
    )
