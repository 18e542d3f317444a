"""What speed costs in likelihood: bits per token on held-out pieces, by each decoder.

Decoders step through the same tokens as the parallel form scores at once. A softmax run of the same
data and tokenizer may stand beside them, scored in its own parallel form.

Legend: B rows, T positions, F fields.
"""

from math import log

from torch import Tensor

from seqgen.benchmark.place import why_not
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import DECODERS, Subject
from seqgen.benchmark.timing import Clock
from seqgen.checkpoint import load_model
from seqgen.decoding.agreement import agree, score
from seqgen.decoding.decoder import Logits
from seqgen.decoding.held_out import held_out
from seqgen.evaluation.scales import mean_of
from seqgen.evaluation.subject import check_beside, open_subject
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
    place |= {"targets": token_nats(exact, tokens[:, 1:]).numel()}
    records = [_record(clock, PARALLEL, place, bits_per_token=bits(exact, tokens))]
    for name in DECODERS:
        note = why_not(subject, name, patient=clock.patient)
        cost = None if note else agree(subject.decoder(name), tokens, exact).bits
        records.append(_record(clock, name, place, bits_per_token=cost, note=note))
    return [*records, _beside(subject, clock, tokens, place, exact=exact)]


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


def _beside(
    subject: Subject, clock: Clock, tokens: Tensor, place: dict, *, exact: Logits
) -> Record:
    """Score the tokens with another run's model; its note says whose they are, and how sure."""
    if subject.beside is None:
        return _record(clock, BESIDE, place, note=ALONE)
    rival = open_subject(subject.beside, device=str(tokens.device))
    model, name = rival.loaded.model, f"{rival.name} ({rival.attention})"
    limit, length = model.positions.limit, tokens.shape[1] - 1
    if limit is not None and length > limit:
        note = f"skipped: {name} has {limit} learned positions"
        return _record(clock, BESIDE, place, note=note)
    theirs = score(model, tokens)
    apart = token_nats(theirs, tokens[:, 1:]) - token_nats(exact, tokens[:, 1:])
    note = f"is {name}: {_gap(apart)} against {PARALLEL}"
    differences = check_beside(open_subject(subject.run), rival)
    if differences:
        note += f"; apart from attention: {', '.join(differences)}"
    return _record(clock, BESIDE, place, bits_per_token=bits(theirs, tokens), note=note)


def _gap(nats: Tensor) -> str:
    """Say what more tokens cost, from differences [B, T - 1]: pieces are drawn again in pairs."""
    gap = mean_of(nats.sum(dim=1).tolist(), [nats.shape[1]] * len(nats)).scaled(1 / log(2))
    words = f"{gap.value:+.4f} bits"
    return words if gap.low is None else f"{words} (95%: {gap.low:+.4f} to {gap.high:+.4f})"


def _record(clock: Clock, name: str, place: dict, **values: object) -> Record:
    dtype = DECODERS[name][1] if name in DECODERS else "float32"
    if values.get("bits_per_token") is None:
        place = {key: value for key, value in place.items() if key != "targets"}
    return clock.untimed(name, **place, dtype=dtype, **values)
