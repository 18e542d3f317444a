"""What a song costs in each token format: tokens, training, and generating.

    python scripts/format_costs.py FOLDER configs/pop909.yaml [--files 20]

The model has the sizes of the configuration and random weights, which cost as much as trained ones.
Seconds are processor time: run it with OMP_NUM_THREADS=1, where that is the time it takes.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from seqgen.benchmark.draws import endless_sampling
from seqgen.benchmark.measures.training import OURS, WAYS, Trainee
from seqgen.benchmark.model import BenchmarkModel
from seqgen.commands.settings import console
from seqgen.config import Config, load_config
from seqgen.data.corpora import open_corpus
from seqgen.decoding import generate
from seqgen.midi import open_midi, summarize
from seqgen.model.sequence_model import SequenceModel
from seqgen.tokenizers import build_tokenizer, choose_settings, survey_file

FORMATS = ("remi", "cpword", "octuple")
N_STEPS, N_TOKENS, REPEATS = 2, 400, 5


@click.command()
@click.argument("folder")
@click.argument("config_path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--files", "n_files", default=20, show_default=True, help="At most so many files.")
def main(folder: str, config_path: Path, n_files: int) -> None:
    """Tell the FOLDER's files in each format, and time a model on them."""
    config = load_config(config_path)
    suffixes = build_tokenizer(config.tokenizer, config.limits).suffixes
    corpus = open_corpus(folder, suffixes, cache=Path("prepared") / "corpora")
    files = [corpus.path(label) for label in corpus.labels[:n_files]]
    seconds = [summarize(open_midi(file, config.limits)).seconds for file in files]
    console.print(
        f"{len(files)} songs of {statistics.mean(seconds):.0f} s; {config.model.n_layers} layers "
        f"of width {config.model.d_model}, {config.train.batch_size} rows of "
        f"{config.train.context_length} tokens a step"
    )
    for name in FORMATS:
        report(name, config, files, minutes=sum(seconds) / 60)


def report(name: str, config: Config, files: Sequence[Path], *, minutes: float) -> None:
    """Print the costs of one format."""
    surveys = [survey_file(file, config.limits) for file in files]
    changed = config.tokenizer.model_copy(update={"type": name, "quotes": False})
    tokenizer = build_tokenizer(choose_settings(changed, surveys)[0], config.limits)
    tokens = np.concatenate([tokenizer.encode(file) for file in files])  # [T, F]
    torch.manual_seed(0)
    model = BenchmarkModel(SequenceModel(config.model, tokenizer.vocabulary), weights="random")
    rows, length = config.train.batch_size, config.train.context_length
    batch = torch.from_numpy(tokens[: rows * (length + 1)].reshape(rows, length + 1, -1)).long()
    trainee = Trainee(model)
    vocabulary, decoder = tokenizer.vocabulary, model.decoder("native")
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    sampling = endless_sampling(vocabulary)

    def train() -> None:
        for _ in range(N_STEPS):
            trainee.step(batch, WAYS[OURS])

    def write() -> None:
        for _ in generate(decoder, [bos], sampling=sampling, max_tokens=N_TOKENS):
            pass

    step, draw = _seconds(train) / N_STEPS, _seconds(write)
    per_song = len(tokens) / len(files)
    console.print(
        f"{name}: {len(vocabulary.fields)} fields, {sum(vocabulary.sizes)} ids, "
        f"{sum(x.numel() for x in model.model.parameters()):,} parameters; "
        f"{per_song:,.0f} tokens per song; a training step {step:.3f} s, "
        f"{per_song * step / (rows * length):.2f} s per song; "
        f"a generated token {1000 * draw / N_TOKENS:.2f} ms, "
        f"{len(tokens) / minutes * draw / N_TOKENS:.2f} s per minute of music"
    )


def _seconds(work: Callable[[], object]) -> float:
    """Return the median processor time of a few runs after one that is not counted."""
    times = []
    for _ in range(1 + REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
