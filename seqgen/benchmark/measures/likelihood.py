"""The likelihood that speed costs: bits per token of each decoder on held-out pieces.

Decoders step through the same tokens as the parallel form scores at once. A softmax run of the same
data and tokenizer may stand beside them, scored in its own parallel form.

Legend: B rows, T positions, F fields.
"""

from math import log
from pathlib import Path
from typing import Any

from torch import Tensor

from seqgen.benchmark.model import DECODERS, BenchmarkModel
from seqgen.benchmark.records import Record
from seqgen.benchmark.timing import Timer
from seqgen.checkpoint import load_model
from seqgen.decoding.agreement import agree, score
from seqgen.decoding.decoder import Logits
from seqgen.decoding.held_out import held_out
from seqgen.evaluation.scales import mean_of
from seqgen.evaluation.subject import check_beside, open_subject
from seqgen.model.loss import token_nats

PARALLEL, BESIDE = "parallel", "beside"
ROWS = 8  # pieces, whatever the batches of the plan
RANDOM = "left out: random weights have no meaningful likelihood: name a trained run"
ABSENT = "left out: the run's held-out data is missing, or has too few pieces of this length"


def measure(model: BenchmarkModel, timer: Timer, *, batch: int, position: int) -> list[Record]:
    """Score the first `position` tokens of held-out pieces, after the token they begin with."""
    place: dict[str, Any] = {"measure": "likelihood", "batch": ROWS, "position": position}
    tokens, note = _tokens(model, position)
    if tokens is None:
        return [timer.untimed(PARALLEL, **place, note=note)]
    exact = score(model.model, tokens)
    uses = model.model.uses
    place |= {"targets": tokens[:, 1:, 0].numel()}
    records = [timer.untimed(PARALLEL, **place, bits_per_token=bits(exact, tokens, uses))]
    for name in model.decoder_variants(quick=timer.effort.quick):
        note = model.why_not(name)
        cost = None if note else agree(model.decoder(name), tokens, exact).bits
        dtype = DECODERS[name][1]
        records.append(timer.untimed(name, **place, dtype=dtype, bits_per_token=cost, note=note))
    if model.run is not None and model.beside is not None:
        compared = _beside(model.run, model.beside, tokens, exact)
        records.append(timer.untimed(BESIDE, **place, **compared))
    return records


def bits(logits: Logits, tokens: Tensor, uses: Tensor | None) -> float:
    """Return bits per token of logits [B, T - 1, N_f] after all but the last of [B, T, F]."""
    return float(token_nats(logits, tokens[:, 1:], uses=uses).mean()) / log(2)


def _tokens(model: BenchmarkModel, position: int) -> tuple[Tensor | None, str]:
    """Find held-out tokens [B, position + 1, F], or return why there are none."""
    if model.run is None:
        return None, RANDOM
    tokenizer = load_model(model.run).tokenizer.fingerprint()
    tokens = held_out(model.run, tokenizer, rows=ROWS, length=position + 1)
    return (None, ABSENT) if tokens is None else (tokens.to(model.device), "")


def _beside(run: Path, beside: Path, tokens: Tensor, exact: Logits) -> dict:
    """Score the tokens with another run's model; the note names the run and the standard error."""
    rival = open_subject(beside, device=str(tokens.device))
    theirs_model, name = rival.loaded.model, f"{rival.name} ({rival.attention})"
    limit = theirs_model.positions.limit
    if limit is not None and tokens.shape[1] - 1 > limit:
        return {"note": f"left out: {name} has {limit} learned positions"}
    theirs = score(theirs_model, tokens)
    targets, uses = tokens[:, 1:], theirs_model.uses
    apart = token_nats(theirs, targets, uses=uses) - token_nats(exact, targets, uses=uses)
    note = f"is {name}: {_gap(apart)} against {PARALLEL}"
    differences = check_beside(open_subject(run), rival)
    if differences:
        note += f"; apart from attention: {', '.join(differences)}"
    return {"bits_per_token": bits(theirs, tokens, uses), "note": note}


def _gap(nats: Tensor) -> str:
    """Describe the extra cost, from differences [B, T - 1]: pieces are drawn again in pairs."""
    mean = mean_of(nats.sum(dim=1).tolist(), [nats.shape[1]] * len(nats))
    assert mean is not None  # there are tokens
    gap = mean.scaled(1 / log(2))
    words = f"{gap.value:+.4f} bits"
    return words if gap.low is None else f"{words} (95%: {gap.low:+.4f} to {gap.high:+.4f})"
