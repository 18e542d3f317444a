"""What speed costs in likelihood: bits per token on held-out pieces, by each decoder.

Decoders step through the same tokens as the parallel form scores at once. A softmax run of the same
data and tokenizer may stand beside them, scored in its own parallel form.

Legend: B rows, T positions, F fields.
"""

from math import log
from pathlib import Path

import torch
from torch import Tensor

from seqgen.benchmark.place import why_not
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import DECODERS, Subject
from seqgen.benchmark.timing import Clock
from seqgen.checkpoint import load_model
from seqgen.decoding.agreement import agree, score
from seqgen.decoding.decoder import Logits
from seqgen.decoding.held_out import held_out
from seqgen.model.loss import token_nats

PARALLEL, BESIDE = "parallel", "beside"
ROWS = 8  # pieces, whatever the batches of the plan
VARIANTS = (PARALLEL, *DECODERS, BESIDE)
RANDOM = "skipped: random weights say nothing: name a trained run"
ABSENT = "skipped: the run's held-out data is not here, or has too few pieces of this length"
ALONE = "skipped: no run was named with --beside"


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Score the first `position` tokens of held-out pieces, after the token they begin with."""
    place = {"measure": "likelihood", "batch": ROWS, "position": position}
    tokens, note = _tokens(subject, position)
    if tokens is None:
        return [_record(clock, name, place, note=note) for name in VARIANTS]
    exact = score(subject.model, tokens)
    records = [_record(clock, PARALLEL, place, bits_per_token=bits(exact, tokens))]
    for name in DECODERS:
        note = why_not(subject, name, patient=clock.patient)
        cost = None if note else agree(subject.decoder(name), tokens, exact).bits
        records.append(_record(clock, name, place, bits_per_token=cost, note=note))
    return [*records, _beside(subject, clock, tokens, place)]


def bits(logits: Logits, tokens: Tensor) -> float:
    """Bits per token of logits [B, T - 1, N_f] after all but the last of tokens [B, T, F]."""
    return float(token_nats(logits, tokens[:, 1:]).mean()) / log(2)


def _tokens(subject: Subject, position: int) -> tuple[Tensor | None, str]:
    """Find held-out tokens [B, position + 1, F], or say why there are none."""
    if subject.run is None:
        return None, RANDOM
    if subject.limit is not None and position > subject.limit:
        return None, f"skipped: the model has {subject.limit} learned positions"
    tokenizer = load_model(subject.run).tokenizer.fingerprint()
    tokens = held_out(subject.run, tokenizer, rows=ROWS, length=position + 1)
    return (None, ABSENT) if tokens is None else (tokens.to(subject.device), "")


def _beside(subject: Subject, clock: Clock, tokens: Tensor, place: dict) -> Record:
    """Score the tokens with another run's model."""
    if subject.beside is None:
        return _record(clock, BESIDE, place, note=ALONE)
    cost = _bits_of(subject.beside, tokens)
    return _record(clock, BESIDE, place, bits_per_token=cost)


def _bits_of(run: Path, tokens: Tensor) -> float:
    model = load_model(run, device=tokens.device).model
    with torch.no_grad():
        return bits(score(model, tokens), tokens)


def _record(clock: Clock, name: str, place: dict, **values: object) -> Record:
    dtype = DECODERS[name][1] if name in DECODERS else "float32"
    return clock.untimed(name, **place, dtype=dtype, **values)
