"""Compares methods to continue beyond the training length by their loss on held-out pieces.

    python scripts/endless.py RUN [RUN …] --decay-after 64 128 256 --output endless.json

scores the same held-out pieces with every run and in every way: the beginning of each piece that is
at least 8 times as long as the windows that the first run learned from, and one stream of pieces
end to end, as a stand-in for one that never ends.

- continued: no method; positions, if the model has any, continue or restart at each bar. A model
  whose sums decay by themselves (model.decay) is scored in this way only.
- decay w: the sums decay from position w on, see `seqgen.attention.decay`.
- two sums w: two sums at a time, one reset every w/2 positions; the older one is read, which holds
  the last w/2 to w positions.

Bits per token are printed, and nats written as JSON. The last column compares each way with the
run's `continued` beyond the training length: the mean over pieces, and its standard error.

Legend: P pieces, T positions, F fields.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import log, sqrt
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from seqgen.checkpoint import RunFolder, load_model
from seqgen.config import load_config
from seqgen.data.prepare import prepare
from seqgen.data.shards import PreparedData
from seqgen.data.splits import VALIDATION
from seqgen.errors import UserError
from seqgen.evaluation.likelihood import Range, by_ranges, nats_of
from seqgen.files import write_json
from seqgen.model.loss import token_nats
from seqgen.model.sequence_model import SequenceModel

TIMES = 8  # the training length
STREAM = 2**16  # tokens
Way = Callable[[SequenceModel, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scores:
    """Nats per token of one way.

    Attributes:
        pieces: by position, over all pieces.
        stream: by position, in the stream.
        difference: nats beyond the training length less those of the run's `continued`, in the mean
            over pieces.
        standard_error: of that mean.
    """

    pieces: list[Range]
    stream: list[Range]
    difference: float
    standard_error: float


def main() -> None:
    arguments = _arguments()
    config = load_config(RunFolder(arguments.runs[0]).config)
    data = prepare(config.data, config.limits, config.tokenizer).data
    trained = config.train.context_length
    pieces, stream = held_out(data, n_tokens=TIMES * trained + 1)
    ways = all_ways(arguments.decay_after or [trained])
    console, results = Console(markup=False, emoji=False, highlight=False), {}
    for run in arguments.runs:
        loaded = load_model(run)
        if loaded.tokenizer.fingerprint() != data.index["tokenizer"]:
            raise UserError(f"{run} has another tokenizer than {arguments.runs[0]}")
        with console.status(f"scoring {run.name}"):
            model = loaded.model
            apply = {"continued": ways["continued"]} if model.config.forgets else ways
            results[run.name] = score(model, pieces, stream, ways=apply, trained=trained)
    console.print(table(results, title=f"Bits per token, {len(pieces)} pieces"))
    if arguments.output:
        values = {run: {way: asdict(x) for way, x in by.items()} for run, by in results.items()}
        write_json(arguments.output, {"context_length": trained, "runs": values})


def held_out(data: PreparedData, *, n_tokens: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Read the first `n_tokens` of each held-out piece that is as long, and pieces end to end."""
    pieces = [data.read(piece) for piece in data.of_split(VALIDATION)]
    long = [piece[:n_tokens] for piece in pieces if len(piece) >= n_tokens]
    if not long:
        raise UserError(f"no held-out piece of {data.folder} has {n_tokens} tokens")
    stream = np.concatenate(pieces)
    material = ~np.isin(stream[:, 0], data.tokenizer.vocabulary.special_ids)
    return long, stream[material][: STREAM + 1]


def all_ways(decays_after: Sequence[int]) -> dict[str, Way]:
    """Name every way and what scores a piece by it."""
    decay = {f"decay {w}": partial(nats_of, decay_after=w) for w in decays_after}
    two_sums = {f"two sums {w}": partial(nats_with_two_sums, length=w) for w in decays_after}
    return {"continued": nats_of, **decay, **two_sums}


def score(
    model: SequenceModel,
    pieces: Sequence[np.ndarray],
    stream: np.ndarray,
    *,
    ways: dict[str, Way],
    trained: int,
) -> dict[str, Scores]:
    """Score pieces [T, F], all of one length, and a stream in every way; the first is compared to.

    `trained` is the training length.
    """
    scores, reference = {}, None
    for name, way in ways.items():
        curves = np.stack([way(model, piece) for piece in pieces])  # [P, T - 1]
        beyond = curves[:, trained:].mean(1)
        reference = beyond if reference is None else reference
        differences = beyond - reference
        scores[name] = Scores(
            by_ranges(curves),
            by_ranges([way(model, stream)]),
            float(differences.mean()),
            float(differences.std(ddof=1)) / sqrt(len(pieces)) if len(pieces) > 1 else 0.0,
        )
    return scores


@torch.no_grad()
def nats_with_two_sums(model: SequenceModel, tokens: np.ndarray, *, length: int) -> np.ndarray:
    """Nats of each token [T, F] but the first -> [T - 1], from sums of the last w/2 to w ones."""
    tokens = torch.from_numpy(tokens)[None]
    half, state, nats = length // 2, None, []
    for start in range(0, tokens.shape[1] - 1, half):
        part = tokens[:, start : start + half + 1]
        hidden, after = model.run(part[:, :-1], state=state, keep_state=True)
        nats.append(token_nats(model.lm_head(hidden), part[:, 1:])[0])
        older = state.attention if state else (0, 0)
        newer = tuple(x - y for x, y in zip(after.attention, older, strict=True))
        state = replace(after, attention=newer)
    return torch.cat(nats).numpy()


def table(results: dict[str, dict[str, Scores]], *, title: str) -> Table:
    """Lay out bits per token: a row for each run and way; of the stream, its second half."""
    found = Table(title=title)
    found.add_column("run, way")
    first = next(iter(next(iter(results.values())).values()))
    for part in first.pieces:
        found.add_column(f"{part.start}…", justify="right")
    found.add_column(f"stream {first.stream[-1].start}…", justify="right")
    found.add_column("against continued", justify="right")
    for run, by_way in results.items():
        for way, scores in by_way.items():
            nats = [part.nats_per_token for part in (*scores.pieces, scores.stream[-1])]
            difference = f"{scores.difference / log(2):+.3f} ± {scores.standard_error / log(2):.3f}"
            found.add_row(f"{run}, {way}", *(f"{x / log(2):.3f}" for x in nats), difference)
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--decay-after", nargs="+", type=int, help="default: the training length")
    parser.add_argument("--output", type=Path, help="a JSON file")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except (UserError, OSError) as error:
        raise SystemExit(f"Error: {error}") from None
