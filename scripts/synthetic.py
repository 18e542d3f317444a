"""Trains small models on a synthetic task, and compares kinds of attention by loss and accuracy.

    python scripts/synthetic.py copy
    python scripts/synthetic.py recall --only softmax linear --steps 2000 --output FOLDER
    python scripts/synthetic.py copy --paper --device cuda

copy: a random sequence, a separator and the sequence again, as in Katharopoulos et al. 2020,
"Transformers are RNNs", section 4.1. recall: keys with their values, and then each key once more,
whose value is asked for: multi-query associative recall, Arora et al. 2023, "Zoology".

Only what can be known is learned: the copy, and the values that are asked for. All variants see the
same batches. They are trained by the project's own training module (with RAdam, as in the paper),
and tested on unseen sequences twice: by the parallel form, token by token, and by the recurrent
form, which has to write whole answers by itself. Then their steps are timed in turns. On a CPU
seconds are of processor time, which other programs disturb little.

The folder gets `TASK.json`, with the settings and all figures, and `TASK.png`, the curves.

Legend: B rows, T positions, F fields (one).
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from lightning_fabric.utilities.warnings import PossibleUserWarning
from matplotlib.figure import Figure
from pytorch_lightning import Trainer
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from seqgen.benchmark.machine import hardware, versions
from seqgen.config import ModelConfig, TrainConfig
from seqgen.data.batches import Batch
from seqgen.decoding import ReferenceDecoder, generate
from seqgen.errors import UserError
from seqgen.files import write_json
from seqgen.model.loss import token_nats
from seqgen.model.sequence_model import SequenceModel
from seqgen.rendering.figures import save_figure
from seqgen.rendering.theme import LIGHT, dress, themed_figure
from seqgen.sampling import Sampling
from seqgen.training.callbacks import LogSteps
from seqgen.training.data_module import Share, TrainingDataset
from seqgen.training.metrics import JsonLinesLogger
from seqgen.training.module import TrainingModule
from seqgen.vocabulary import Field, Vocabulary

BOS, EOS, PAD, MARK = range(4)  # the mark: separator of a copy, blank of a recall
FIRST = 4  # the first id that is not one of these
POWER = 0.01  # of the law of gaps between a key and its question, as in Zoology
PERIODS = 40  # means of the loss in a curve
TIMED_ROUNDS = 11


@dataclass(frozen=True)
class Copy:
    """BOS, symbols, separator, the same symbols, EOS; a quarter to a half of the length is copied.

    The copy and its end are learned.
    """

    length: int
    n_symbols: int = 10

    @property
    def vocabulary(self) -> Vocabulary:
        """The symbols and the separator."""
        return Vocabulary((Field("symbol", FIRST + self.n_symbols),), BOS, EOS, PAD)

    def draw(self, rng: np.random.Generator) -> tuple[list[int], list[bool]]:
        """Return tokens, and which of them are given."""
        n = int(rng.integers(self.length // 4, (self.length - 3) // 2 + 1))
        symbols = rng.integers(FIRST, FIRST + self.n_symbols, n).tolist()
        tokens = [BOS, *symbols, MARK, *symbols, EOS]
        return tokens, [i < n + 2 for i in range(len(tokens))]


@dataclass(frozen=True)
class Recall:
    """BOS, pairs of a key and a value, then each key once more, followed by its value; else blanks.

    The second values are learned. Gaps follow a power law: most keys are asked for soon.
    """

    length: int
    n_pairs: int
    n_keys: int
    n_values: int

    @property
    def vocabulary(self) -> Vocabulary:
        """Keys, values and the blank."""
        return Vocabulary((Field("symbol", FIRST + self.n_keys + self.n_values),), BOS, EOS, PAD)

    def draw(self, rng: np.random.Generator) -> tuple[list[int], list[bool]]:
        """Return tokens, and which of them are given."""
        keys = FIRST + rng.choice(self.n_keys, self.n_pairs, replace=False)
        values = FIRST + self.n_keys + rng.choice(self.n_values, self.n_pairs, replace=False)
        pairs = np.stack([keys, values], axis=1)
        n_places = (self.length - 1) // 2 - self.n_pairs
        likelihood = np.arange(1, n_places + 1) ** (POWER - 1.0)
        likelihood /= likelihood.sum()
        places = rng.choice(n_places, self.n_pairs, replace=False, p=likelihood)
        asked = np.full((n_places, 2), MARK)
        asked[places] = pairs
        given = np.ones((n_places, 2), dtype=bool)
        given[places, 1] = False
        tokens = [BOS, *pairs.ravel().tolist(), *asked.ravel().tolist()]
        return tokens, [True] * (1 + 2 * self.n_pairs) + given.ravel().tolist()


@dataclass(frozen=True)
class Plan:
    """A task, the size of the models, and how they are trained."""

    task: Copy | Recall
    d_model: int
    n_layers: int
    n_heads: int
    batch_size: int
    steps: int
    lower_rate_after: int  # steps; from then on a tenth of the learning rate
    learning_rate: float = 1e-3
    seed: int = 0
    test_rows: int = 200


_SMALL = {"d_model": 64, "n_layers": 2, "n_heads": 4, "batch_size": 32, "learning_rate": 3e-3}
SMALL = {
    "copy": Plan(Copy(24), **_SMALL, steps=1000, lower_rate_after=800),
    "recall": Plan(
        Recall(36, n_pairs=6, n_keys=16, n_values=16), **_SMALL, steps=1000, lower_rate_after=800
    ),
}
# The paper names layers, heads, rows and rates of the copy task; the width of 8 heads of 32 and the
# number of steps are those of its images and of its authors' training script.
PAPER = {
    "copy": Plan(Copy(128), 256, 4, 8, batch_size=64, steps=10_000, lower_rate_after=3000),
    "recall": Plan(
        Recall(128, n_pairs=8, n_keys=4096, n_values=4096),
        *(128, 2, 1),
        batch_size=512,
        steps=12_500,
        lower_rate_after=8000,
        test_rows=3000,
    ),
}
CONVOLUTION = {"conv_width": 5}
VARIANTS: dict[str, dict] = {
    "softmax": {"attention": "softmax"},
    "linear": {},
    "decay": {"decay": "fixed"},
    "relu": {"feature_map": "relu"},
    "dpfp": {"feature_map": "dpfp"},
    "hedgehog": {"feature_map": "hedgehog"},
    "softmax-conv": {"attention": "softmax", **CONVOLUTION},
    "linear-conv2": {"conv_width": 2},
    "linear-conv": CONVOLUTION,
    "decay-conv": {"decay": "fixed", **CONVOLUTION},
    "dpfp-conv": {"feature_map": "dpfp", **CONVOLUTION},
    "hedgehog-conv": {"feature_map": "hedgehog", **CONVOLUTION},
}


@dataclass
class Result:
    """What one variant reached.

    Attributes:
        model: the choices in which it differs from the others.
        parameters: how many weights it has.
        steps, losses: means of the training loss over equal numbers of steps, nats per target.
        token_accuracy: share of targets that the parallel form finds most likely.
        answers: share of answers that the recurrent form writes without a fault.
        n_answers: how many there were.
        step_seconds: median of a training step.
    """

    model: dict
    parameters: int
    steps: list[int]
    losses: list[float]
    token_accuracy: float
    answers: float
    n_answers: int
    step_seconds: float = 0.0


class SyntheticBatches:
    """An endless series of batches of a task: batch k is a function of the seed and k."""

    def __init__(self, task: Copy | Recall, *, seed: int, batch_size: int):
        self._task, self._seed, self._batch_size = task, seed, batch_size

    def batch(self, k: int) -> Batch:
        """Return batch k."""
        rng = np.random.default_rng([self._seed, k])
        rows = [self._task.draw(rng) for _ in range(self._batch_size)]
        lengths = np.array([len(tokens) - 1 for tokens, _ in rows])
        shape = (len(rows), lengths.max() + 1)
        tokens, given = np.full((*shape, 1), PAD), np.ones(shape, dtype=bool)
        for b, (row, is_given) in enumerate(rows):
            tokens[b, : len(row), 0], given[b, : len(row)] = row, is_given
        boundaries = np.zeros(shape, dtype=bool)
        boundaries[:, 0] = True
        return Batch(tokens, lengths, boundaries, sources=("drawn",) * len(rows), given=given)


class SyntheticModule(TrainingModule):
    """The training module with the paper's optimizer: RAdam, with one fall of its rate."""

    def __init__(self, model: SequenceModel, config: TrainConfig, plan: Plan):
        super().__init__(model, config, seed=plan.seed, held_out_units=0)
        self._plan = plan

    def configure_optimizers(self) -> dict:
        """RAdam, and its schedule by step."""
        optimizer = torch.optim.RAdam(self.model.parameters(), lr=self._plan.learning_rate)
        after = self._plan.lower_rate_after
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 1.0 if step < after else 0.1
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def build(plan: Plan, choices: Mapping[str, object]) -> SequenceModel:
    """Build a variant: sinusoidal positions, no short convolution, unless it chooses otherwise."""
    sizes = {"d_model": plan.d_model, "n_layers": plan.n_layers, "n_heads": plan.n_heads}
    usual = {"dropout": 0.0, "positions": "sinusoidal", "conv_width": 0}
    torch.manual_seed(plan.seed)
    return SequenceModel(ModelConfig(**{**sizes, **usual, **choices}), plan.task.vocabulary)


def train(model: SequenceModel, plan: Plan, *, device: str) -> tuple[list[int], list[float]]:
    """Train a model by Lightning; return the curve of its loss: steps, and means up to them."""
    config = TrainConfig(
        max_steps=plan.steps,
        batch_size=plan.batch_size,
        context_length=plan.task.length,
        learning_rate=plan.learning_rate,
        schedule="constant",
        warmup_steps=0,
        log_every=1,
    )
    batches = SyntheticBatches(plan.task, seed=plan.seed, batch_size=plan.batch_size)
    dataset = TrainingDataset(batches, first_step=0, n_micro_batches=1, share=Share(0, 1))
    with TemporaryDirectory() as folder:
        metrics = JsonLinesLogger(Path(folder) / "metrics.jsonl")
        trainer = Trainer(
            accelerator=device,
            devices=1,
            max_steps=plan.steps,
            callbacks=[LogSteps()],
            logger=[metrics],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)  # of workers and validation
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            trainer.fit(SyntheticModule(model, config, plan), DataLoader(dataset, batch_size=None))
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
        losses = [json.loads(line)["loss"] for line in lines]
    ends = np.unique(np.linspace(0, plan.steps, PERIODS + 1).astype(int))
    means = [float(np.mean(losses[a:b])) for a, b in pairwise(ends)]
    return ends[1:].tolist(), means


@torch.no_grad()
def token_accuracy(model: SequenceModel, batch: Batch) -> float:
    """Return the share of targets that the parallel form finds most likely."""
    device = next(model.parameters()).device
    tokens = torch.from_numpy(batch.tokens).to(device)
    lengths = torch.from_numpy(batch.lengths).to(device)
    (logits,) = model.eval()(tokens[:, :-1], lengths)
    logits[..., [BOS, PAD]] = -torch.inf  # they are never drawn
    right = (logits.argmax(-1) == tokens[:, 1:, 0]).cpu().numpy()
    return float(right[batch.targets].mean())


def questions(batch: Batch) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Cut rows at their targets: for each run of targets what stands before it, and the run."""
    prompts, answers = [], []
    for tokens, is_target in zip(batch.tokens, batch.targets, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], is_target, [0]])))
        for start, stop in edges.reshape(-1, 2) + 1:  # position t of targets is token t + 1
            prompts.append(tokens[:start])
            answers.append(tokens[start:stop])
    return prompts, answers


def answered(model: SequenceModel, batch: Batch) -> tuple[float, int]:
    """Return the share of answers that the recurrent form writes without a fault, and of how many.

    It takes what stands before the answer, and then at each step the most likely token.
    """
    prompts, answers = questions(batch)
    written: list[list[np.ndarray]] = [[] for _ in prompts]
    steps = generate(
        ReferenceDecoder(model),
        prompts,
        sampling=Sampling(temperature=0),
        max_tokens=max(len(answer) for answer in answers),
    )
    for step in steps:
        for row, token in zip(step.rows, step.tokens, strict=True):
            written[row].append(token)
    right = [
        np.array_equal(row[: len(answer)], answer)
        for row, answer in zip(written, answers, strict=True)
    ]
    return float(np.mean(right)), len(right)


def time_steps(models: Mapping[str, SequenceModel], plan: Plan) -> dict[str, float]:
    """Return the median seconds of a training step of each model; they take turns."""
    batch = SyntheticBatches(plan.task, seed=plan.seed, batch_size=plan.batch_size).batch(0)
    device = next(iter(models.values())).lm_head.linears[0].weight.device
    tokens, lengths, targets = (
        torch.from_numpy(x).to(device) for x in (batch.tokens, batch.lengths, batch.targets)
    )
    optimizers = {name: torch.optim.RAdam(m.parameters(), lr=0.0) for name, m in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(TIMED_ROUNDS):
        for name, model in models.items():
            begin = _clock(device)
            optimizers[name].zero_grad()
            logits = model.train()(tokens[:, :-1], lengths)
            (token_nats(logits, tokens[:, 1:]) * targets).sum().backward()
            optimizers[name].step()
            seconds[name].append(_clock(device) - begin)
    return {name: float(np.median(times)) for name, times in seconds.items()}


def _clock(device: torch.device) -> float:
    if device.type != "cpu":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def compare(
    plan: Plan,
    variants: Mapping[str, dict],
    *,
    device: str,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Result]:
    """Train, test and time variants of one plan."""
    unseen = SyntheticBatches(plan.task, seed=plan.seed + 1, batch_size=plan.test_rows).batch(0)
    models, results = {}, {}
    for name, choices in variants.items():
        models[name] = model = build(plan, choices)
        steps, losses = train(model, plan, device=device)
        model.to(device)
        accuracy, (answers, n) = token_accuracy(model, unseen), answered(model, unseen)
        parameters = sum(p.numel() for p in model.parameters())
        results[name] = Result(choices, parameters, steps, losses, accuracy, answers, n)
        tell(f"{name}: loss {losses[-1]:.4f} nats, {accuracy:.1%} of tokens, {answers:.1%} whole")
    for name, seconds in time_steps(models, plan).items():
        results[name].step_seconds = seconds
    return results


def draw(results: Mapping[str, Result], *, title: str, seconds: str) -> Figure:
    """Draw the curves over steps, and over seconds; a dashed line has a short convolution."""
    figure = themed_figure(9.0, 4.0, LIGHT)
    panels = figure.subplots(1, 2, sharey=True)
    kinds = list(dict.fromkeys(name.partition("-")[0] for name in results))
    for axes, label in zip(panels, ("step", seconds), strict=True):
        dress(axes, LIGHT)
        axes.set(xlabel=label, yscale="log")
        for name, result in results.items():
            kind, _, convolution = name.partition("-")
            per_step = 1.0 if label == "step" else result.step_seconds
            axes.plot(
                np.array(result.steps) * per_step,
                np.maximum(result.losses, 1e-5),
                color=LIGHT.tracks[kinds.index(kind) % len(LIGHT.tracks)],
                linestyle={"": "-", "conv2": ":"}.get(convolution, "--"),
                linewidth=1.6,
                label=name,
            )
    panels[0].set(ylabel="nats per target")
    panels[0].set_title(title, loc="left", fontsize=11, color=LIGHT.text)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def table(results: Mapping[str, Result]) -> Table:
    """Lay the results out."""
    found = Table()
    found.add_column("variant")
    for column in ("nats per target", "tokens right", "whole answers", "ms per step"):
        found.add_column(column, justify="right")
    for name, x in results.items():
        times = f"{1e3 * x.step_seconds:.1f}"
        found.add_row(
            name, f"{x.losses[-1]:.4f}", f"{x.token_accuracy:.1%}", f"{x.answers:.1%}", times
        )
    return found


def main() -> None:
    arguments = _arguments()
    plan = _plan(arguments)
    variants = {name: VARIANTS[name] for name in arguments.only or VARIANTS}
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    console = Console(markup=False, emoji=False, highlight=False)
    seconds = "seconds of processor time" if arguments.device == "cpu" else "seconds"
    results = compare(plan, variants, device=arguments.device, tell=console.print)
    console.print(table(results))
    record = {
        "plan": asdict(plan),
        "seconds": seconds,
        "threads": arguments.threads,
        "hardware": hardware(),
        "versions": versions(),
        "variants": {name: asdict(result) for name, result in results.items()},
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_json(arguments.output / f"{arguments.task}.json", record)
    figure = draw(results, title=f"{arguments.task}: loss in training", seconds=seconds)
    save_figure(figure, arguments.output / f"{arguments.task}.png")
    console.print(f"written: {arguments.task}.json and {arguments.task}.png in {arguments.output}")


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = replace((PAPER if arguments.paper else SMALL)[arguments.task], seed=arguments.seed)
    if arguments.steps is not None:
        after = plan.lower_rate_after * arguments.steps // plan.steps
        plan = replace(plan, steps=arguments.steps, lower_rate_after=after)
    if arguments.pairs is not None:
        task = plan.task
        if not isinstance(task, Recall):
            raise UserError("--pairs is for recall: a copy has none")
        if not 1 <= arguments.pairs <= min(task.n_keys, task.n_values):
            raise UserError(f"--pairs {arguments.pairs}: there are {task.n_keys} keys")
        length = task.length * arguments.pairs // task.n_pairs
        plan = replace(plan, task=replace(task, n_pairs=arguments.pairs, length=length))
    return plan


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=tuple(SMALL))
    names = ", ".join(VARIANTS)
    parser.add_argument(
        "--only", nargs="+", choices=VARIANTS, metavar="VARIANT", help=f"of {names}; default: all"
    )
    parser.add_argument("--paper", action="store_true", help="the sizes of the papers, for a GPU")
    parser.add_argument("--steps", type=int, help="of training; default: those of the sizes")
    parser.add_argument("--pairs", type=int, help="keys to recall; the length grows with them")
    parser.add_argument("--seed", type=int, default=0, help="of weights and sequences; default 0")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU; default: 1")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/synthetic"), help="folder; default %(default)s"
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except (UserError, OSError) as error:
        raise SystemExit(f"Error: {error}") from None
