"""The likelihood that speed costs: bits per token of each decoder on held-out pieces.

Decoders step through the same tokens as the parallel form scores at once.
"""

from dataclasses import replace

from seqgen.benchmark.model import BenchmarkModel
from seqgen.benchmark.records import Place, Record
from seqgen.benchmark.timing import Timer
from seqgen.checkpoint import load_model
from seqgen.decoding.agreement import agree, score
from seqgen.decoding.held_out import held_out

PARALLEL = "parallel"
ROWS = 8  # pieces, whatever the batches of the plan
RANDOM = "left out: random weights have no meaningful likelihood: name a trained run"
ABSENT = "left out: the run's held-out data is missing, or has too few pieces of this length"


def measure(model: BenchmarkModel, timer: Timer, place: Place) -> list[Record]:
    """Score the first `position` tokens of held-out pieces, after the token they begin with."""
    place = replace(place, batch=ROWS)
    if model.run is None:
        return [timer.untimed(PARALLEL, place, note=RANDOM)]
    trained = load_model(model.run, device=model.device)  # with the decay that it has learned with
    fingerprint = trained.tokenizer.fingerprint()
    tokens = held_out(model.run, fingerprint, rows=ROWS, length=place.position + 1)
    if tokens is None:
        return [timer.untimed(PARALLEL, place, note=ABSENT)]
    records: list[Record] = []
    tokens = tokens.to(model.device)
    exact = score(trained.model, tokens)
    model = BenchmarkModel(trained.model, weights=model.weights, quick=model.quick)
    for name in model.decoder_names:
        values: dict = {"dtype": model.dtype(name), "note": model.why_not(name)}
        if not values["note"]:
            found = agree(model.decoder(name), tokens, exact)
            values |= {"targets": found.targets, "bits_per_token": found.bits}
            if not records:
                of_exact: dict = {"targets": found.targets, "bits_per_token": found.exact_bits}
                records.append(timer.untimed(PARALLEL, place, **of_exact))
        records.append(timer.untimed(name, place, **values))
    return records
