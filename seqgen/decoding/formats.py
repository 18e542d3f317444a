"""Number formats of the weights: what each costs in bits per token, and how long a step takes.

Legend: B rows, T positions, F fields.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seqgen.checkpoint import LoadedModel
from seqgen.decoding.agreement import Agreement, agree, score
from seqgen.decoding.choose import AUTO, DECODERS, build_decoder, choose_decoder
from seqgen.decoding.decoder import Decoder
from seqgen.decoding.generation import continuations, generate
from seqgen.decoding.held_out import held_out
from seqgen.errors import UserError
from seqgen.model.sequence_model import SequenceModel

ROWS, LENGTH = 8, 257  # of the tokens on which formats are compared
TIMED = 50  # steps
EXACT = "float32"
MOST_BITS = 0.002  # per token that a format may cost to be chosen without being asked for


@dataclass(frozen=True)
class Measured:
    """A format of one decoder.

    Attributes:
        weights: the format.
        agreement: with the parallel form in float32.
        seconds: of a step of one stream, without the draw; the median.
        first: of the first step.
        ready: until steps were as fast as they get: on a GPU, kernels are compiled and graphs
            recorded meanwhile.
        decoder: that was measured.
    """

    weights: str
    agreement: Agreement
    seconds: float
    first: float
    ready: float
    decoder: Decoder


def compare_formats(
    model: SequenceModel,
    tokens: Tensor,
    *,
    decoder: str = AUTO,
    tell: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[list[Measured], list[str]]:
    """Measure each format that a decoder has on tokens [B, T, F] of the model's device.

    Returns:
        What was measured, float32 first; and why formats are not available here.

    Raises:
        UserError: the decoder does not support the model.
    """
    name = choose_decoder(model)[0] if decoder == AUTO else decoder
    exact, known = score(model, tokens), DECODERS[name].supported_weights
    found: list[Measured] = []
    missing: list[str] = []
    for done, weights in enumerate(known):
        tell("comparing weights", done, len(known))
        try:
            built = build_decoder(model, name, weights=weights)
        except UserError as error:
            if not found:
                raise
            missing.append(str(error))
            continue
        found.append(Measured(weights, agree(built, tokens, exact), *_time_steps(built), built))
    tell("comparing weights", len(known), len(known))
    return found, missing


def comparison_tokens(loaded: LoadedModel, run: Path) -> tuple[Tensor, str]:
    """Return tokens [B, T, F] to compare on, and what they are.

    They are the beginnings of held-out pieces of a run, or else what the model generates.
    """
    limit, model = loaded.model.positions.limit, loaded.model
    length = min(LENGTH, limit or LENGTH)
    device = next(model.parameters()).device
    tokens = held_out(run, loaded.tokenizer.fingerprint(), rows=ROWS, length=length)
    if tokens is not None:
        return tokens.to(device), "held-out pieces"
    vocabulary = loaded.tokenizer.vocabulary
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    steps = generate(build_decoder(model), [bos] * ROWS, max_tokens=length - 1)
    rows = [np.concatenate([bos, drawn.tokens]) for drawn in continuations(steps)]
    shortest = min(len(row) for row in rows)
    own = torch.from_numpy(np.stack([row[:shortest] for row in rows]))
    return own.to(device), "its own samples"


def formats_record(measured: Sequence[Measured]) -> dict:
    """Return what a model folder says of the formats of its weights."""
    return {
        "decoder": measured[0].decoder.name,
        "targets": measured[0].agreement.targets,
        "rows": [
            {
                "weights": one.weights,
                "bits": one.agreement.bits,
                "same_top": one.agreement.top1,
                "seconds": one.seconds,
            }
            for one in measured
        ],
    }


def choose_weights(loaded: LoadedModel, decoder: str = AUTO) -> str:
    """Return the format that steps fastest of those that cost next to nothing, as was measured.

    That is at most 0.002 bits per token more than float32, at the end of training. float32 where
    nothing was measured for this decoder, or the format is not available on this machine.
    """
    record, model = loaded.record.get("formats"), loaded.model
    name = choose_decoder(model)[0] if decoder == AUTO else decoder
    if record is None or record["decoder"] != name:
        return EXACT
    bits = {row["weights"]: row["bits"] for row in record["rows"]}
    for row in sorted(record["rows"], key=lambda row: row["seconds"]):
        weights = row["weights"]
        is_here = decoder != AUTO or choose_decoder(model, weights)[0] == name
        if is_here and bits[weights] <= bits[EXACT] + MOST_BITS:
            return weights
    return EXACT


def _time_steps(decoder: Decoder) -> tuple[float, float, float]:
    """Time steps of one stream: median, first, and until they are fast, in seconds."""
    opened = time.perf_counter()
    pool, slots = decoder.open(1), torch.zeros(1, dtype=torch.long, device=decoder.device)
    pool.write(slots, decoder.initial_state(1))
    shape = (1, len(decoder.vocabulary.sizes))
    tokens = torch.full(shape, decoder.vocabulary.bos_id, device=decoder.device)

    def step() -> float:
        start = time.perf_counter()
        pool.advance(slots, tokens)[0].cpu()
        return time.perf_counter() - start

    first = step()
    pool.get_ready(slots, tokens)
    for _ in range(2):  # a graph is recorded in the second one
        step()
    ready = time.perf_counter() - opened
    limit = decoder.max_positions or TIMED
    return float(np.median([step() for _ in range(min(TIMED, limit - 3))])), first, ready
