"""`generate --explain`: the chosen decoder and the reason, and its loss and time per weight format.

Legend: B rows, T positions, F fields.
"""

import time
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from seqgen.checkpoint import LoadedModel
from seqgen.commands.settings import console, progress_bar
from seqgen.decoding import continuations, generate
from seqgen.decoding.agreement import agree, score
from seqgen.decoding.choose import AUTO, DECODERS, build_decoder, choose_decoder
from seqgen.decoding.cuda import CudaDecoder
from seqgen.decoding.decoder import Decoder
from seqgen.decoding.held_out import held_out
from seqgen.errors import UserError
from seqgen.model.recurrent_model import RecurrentModel

ROWS, LENGTH = 8, 257  # of the tokens on which decoders are compared
TIMED = 50  # steps


def explain(loaded: LoadedModel, run: Path, *, decoder: str, decay_after: int | None) -> None:
    """Print the chosen decoder, and compare each of its weight formats with the parallel form."""
    model = loaded.model
    name, reason = choose_decoder(model) if decoder == AUTO else (decoder, "chosen by --decoder")
    console.print(f"decoder {name}: {reason}", highlight=False)
    tokens, source = _tokens(loaded, run)
    tokens = tokens.to(next(model.parameters()).device)
    exact = score(model, tokens)
    known = DECODERS[name].supported_weights
    rows: list[tuple] = []
    with progress_bar() as tell:
        for done, weights in enumerate(known):
            tell("comparing", done, len(known))
            try:
                built = build_decoder(model, name, weights=weights)
            except UserError as error:
                if not rows:
                    raise
                console.print(str(error), markup=False, highlight=False)  # not on this device
                continue
            rows.append((weights, agree(built, tokens, exact), *_step_seconds(built), built))
        tell("comparing", len(known), len(known))
    bits = rows[0][1].exact_bits
    table = Table(
        title=f"Compared with the parallel form in float32: {bits:.4f} bits per token; "
        f"{rows[0][1].targets:,} tokens of {source}"
    )
    for column in ("weights", "bits per token", "difference", "same top id", "ms per step"):
        table.add_column(column, justify="left" if column == "weights" else "right")
    for weights, result, seconds, *_ in rows:
        table.add_row(
            weights,
            f"{result.bits:.4f}",
            f"{round(result.bits - bits, 4) + 0.0:+.4f}",  # no -0
            f"{result.top1:.2%}",
            f"{1000 * seconds:.2f}",
        )
    console.print(table)
    for weights, _, _, first, ready, built in rows:
        if isinstance(built, CudaDecoder):
            console.print(_getting_ready(weights, first, ready, built), highlight=False)
    size = RecurrentModel(model).initial_state(1).nbytes
    decays = f", sums decay after {decay_after} positions" if decay_after else ""
    console.print(
        f"state: {size / 2**20:.2f} MiB for each stream{decays}; {torch.get_num_threads()} threads"
    )


def _tokens(loaded: LoadedModel, run: Path) -> tuple[torch.Tensor, str]:
    """Return held-out tokens [B, T, F], or else tokens that the model generates."""
    limit = loaded.model.positions.limit
    length = min(LENGTH, limit or LENGTH)
    tokens = held_out(run, loaded.tokenizer.fingerprint(), rows=ROWS, length=length)
    if tokens is not None:
        return tokens, "held-out pieces"
    vocabulary = loaded.tokenizer.vocabulary
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    decoder = build_decoder(loaded.model)
    steps = generate(decoder, [bos] * ROWS, max_tokens=length - 1)
    rows = [np.concatenate([bos, drawn.tokens]) for drawn in continuations(steps)]
    shortest = min(len(row) for row in rows)
    return torch.from_numpy(np.stack([row[:shortest] for row in rows])), "its own samples"


def _getting_ready(weights: str, first: float, ready: float, decoder: CudaDecoder) -> str:
    """Say how long kernels and graphs took, and what was chosen for one stream."""
    told = (
        f"{weights}: the first step took {1000 * first:.1f} ms; steps were fast after {ready:.1f} s"
    )
    choice = decoder.choices.get(1, {})
    if not choice:
        return told
    times = ", ".join(f"{name} {1000 * seconds:.2f} ms" for name, seconds in choice.items())
    return f"{told}; chosen: {min(choice, key=choice.__getitem__)} ({times})"


def _step_seconds(decoder: Decoder) -> tuple[float, float, float]:
    """Time steps of one stream, without the draw.

    Returns:
        The median time of a step, that of the first one, and the time until steps were as fast as
        they get: on a GPU, kernels are compiled and graphs recorded meanwhile.
    """
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
