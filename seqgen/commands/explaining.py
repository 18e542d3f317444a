"""`generate --explain`: the chosen decoder and why, and loss and time of each weight format."""

from pathlib import Path

import torch
from rich.table import Table

from seqgen.checkpoint import LoadedModel
from seqgen.commands.settings import console, progress_bar
from seqgen.decoding.choose import AUTO, choose_decoder
from seqgen.decoding.cuda import CudaDecoder
from seqgen.decoding.formats import Measured, compare_formats, comparison_tokens
from seqgen.model.recurrent_model import RecurrentModel


def explain(
    loaded: LoadedModel, run: Path, *, decoder: str, weights: str, decay_after: int | None
) -> None:
    """Print the chosen decoder and weights, and compare each format with the parallel form."""
    model = loaded.model
    name, reason = choose_decoder(model) if decoder == AUTO else (decoder, "chosen by --decoder")
    console.print(f"decoder {name}: {reason}; weights {weights}", highlight=False)
    tokens, source = comparison_tokens(loaded, run)
    with progress_bar() as tell:
        rows, missing = compare_formats(model, tokens, decoder=name, tell=tell)
    for line in missing:
        console.print(line, markup=False, highlight=False)
    bits = rows[0].agreement.exact_bits
    table = Table(
        title=f"Compared with the parallel form in float32: {bits:.4f} bits per token; "
        f"{rows[0].agreement.targets:,} tokens of {source}"
    )
    for column in ("weights", "bits per token", "difference", "same top id", "ms per step"):
        table.add_column(column, justify="left" if column == "weights" else "right")
    for one in rows:
        table.add_row(
            one.weights,
            f"{one.agreement.bits:.4f}",
            f"{round(one.agreement.bits - bits, 4) + 0.0:+.4f}",  # no -0
            f"{one.agreement.top1:.2%}",
            f"{1000 * one.seconds:.2f}",
        )
    console.print(table)
    for one in rows:
        if isinstance(one.decoder, CudaDecoder):
            console.print(_getting_ready(one, one.decoder), highlight=False)
    size = RecurrentModel(model).initial_state(1).nbytes
    decays = f", sums decay after {decay_after} positions" if decay_after else ""
    console.print(
        f"state: {size / 2**20:.2f} MiB for each stream{decays}; {torch.get_num_threads()} threads"
    )


def _getting_ready(one: Measured, decoder: CudaDecoder) -> str:
    """Say how long kernels and graphs took, and what was chosen for one stream."""
    told = (
        f"{one.weights}: the first step took {1000 * one.first:.1f} ms; steps were fast after "
        f"{one.ready:.1f} s"
    )
    choice = decoder.choices.get(1, {})
    if not choice:
        return told
    times = ", ".join(f"{name} {1000 * seconds:.2f} ms" for name, seconds in choice.items())
    return f"{told}; chosen: {min(choice, key=choice.__getitem__)} ({times})"
