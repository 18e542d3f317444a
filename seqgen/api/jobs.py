"""A training job carried out: prepare data, train, and score the model on held-out pieces."""

import platform
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from seqgen.api.places import find_model
from seqgen.api.prompts import Prompt, draw, read_prompts
from seqgen.api.runs import Job, Tell, fixed_settings, write_config
from seqgen.checkpoint import FORMAT, LoadedModel, add_facts, load_model, read_run
from seqgen.config import Config
from seqgen.data.batches import held_out_pieces
from seqgen.data.shards import PreparedData
from seqgen.data.splits import TRAIN, VALIDATION
from seqgen.decoding import build_decoder, continuations
from seqgen.decoding.formats import compare_formats, comparison_tokens, formats_record
from seqgen.errors import FileRejected, UserError
from seqgen.evaluation.likelihood import Range, by_ranges, nats_by_position, nats_of, pairs_of
from seqgen.evaluation.ngrams import Score, ngram_scores
from seqgen.files import PROJECT, atomic_path, json_ready, write_record
from seqgen.model.sequence_model import SequenceModel
from seqgen.rendering.previews import preview_image
from seqgen.sampling import Sampling
from seqgen.tasks import has_tasks, open_pairs
from seqgen.tokenizers import Tokenizer
from seqgen.training.callbacks import DrawSample
from seqgen.training.trainer import Outcome, train

PACKAGES = ("torch", "pytorch-fast-transformers", "pytorch-lightning", "miditok", "numpy")
Prepare = Callable[[Config, Tokenizer | None], PreparedData]


@dataclass(frozen=True)
class Scores:
    """What a run reaches on held-out pieces.

    Attributes:
        n_pieces: how many pieces are held out.
        models: n-gram models and this model, on the same pieces.
        by_position: of this model, in whole pieces.
    """

    n_pieces: int
    models: list[Score]
    by_position: list[Range]


def open_data(job: Job, prepare: Prepare) -> PreparedData:
    """Prepare the data of a new run; for a run that there is, check that the data are the same.

    Of several processes the first one prepares them, and the others open them.
    """
    if job.is_first and not job.resume:
        return prepare(job.config, job.start.tokenizer if job.start else None)
    record = read_run(job.run)
    if Path(record["data"]).is_dir():
        data = PreparedData(Path(record["data"]))
    elif not job.is_first:
        raise UserError(
            f"this machine has no prepared data in {record['data']}: choose a data.prepared_dir "
            f"that all machines share under the same path, or copy the folder there"
        )
    else:
        start = job.config.train.init_from
        data = prepare(job.config, load_model(find_model(start)).tokenizer if start else None)
    if data.index["content"] != record["data_content"]:
        raise UserError(
            f"the data in {data.folder} is no longer what {job.run.path} was trained on: "
            f"restore the old files, or begin a new run with train.init_from={job.run.path}"
        )
    return data


def train_job(
    job: Job, data: PreparedData, *, tell: Tell = lambda line: None, show_progress: bool = False
) -> Outcome:
    """Train; a new run is recorded first."""
    if job.is_first:
        if not job.resume:
            _record(job, data)
        write_config(job)
    if job.team:
        job.team.meet("found the run and its data")
    return train(
        job.run,
        data,
        job.config.model,
        job.config.train,
        seed=job.config.run.seed,
        tasks=job.config.data.tasks if has_tasks(job.config.data) else None,
        pairs=job.config.data.pairs,
        kernel=job.config.attention.kernel,
        resume=job.resume,
        start=job.start,
        draw_sample=_sample_drawer(job, data),
        team=job.team,
        tell=tell,
        show_progress=show_progress,
    )


def score_job(job: Job, data: PreparedData, outcome: Outcome, loaded: LoadedModel) -> Scores | None:
    """Score a trained model beside n-gram models, and keep the result in the run folder.

    Returns None where no piece is held out.
    """
    if not data.of_split(VALIDATION):
        return None
    pieces = held_out_pieces(data, VALIDATION, max_targets=job.config.train.validation_tokens)
    scores = [Score("this model", outcome.best_loss, outcome.best_bits_per_unit)]
    pairs = job.config.data.pairs
    if job.config.train.ngram_models and data.index["n_fields"] == 1 and pairs is None:
        scores = [*ngram_scores(data, pieces), *scores]
    if pairs is None:
        ranges = nats_by_position(loaded.model, data, pieces)
    else:
        opened, settings = open_pairs(pairs, data.tokenizer), job.config.train
        sizes = {
            "context_length": settings.context_length,
            "max_targets": settings.validation_tokens,
        }
        windows = pairs_of(data, opened, VALIDATION, **sizes)
        ranges = by_ranges([nats_of(loaded.model, w.target, source=w.source) for w in windows])
    write_record(
        job.run.validation,
        {
            "step": outcome.step,
            "unit": data.tokenizer.unit,
            "tokenizer": job.config.tokenizer.type,
            "scores": json_ready([vars(score) for score in scores]),
            "by_position": json_ready([vars(part) for part in ranges]),
        },
        format=FORMAT,
    )
    return Scores(len(pieces), scores, ranges)


def measure_formats(job: Job, loaded: LoadedModel) -> None:
    """Measure what weights of fewer bits cost the model, and keep it in the model folder.

    Models of pairs are left out: what they are compared on has no sources.
    """
    if not job.config.train.weight_formats or job.config.data.pairs is not None:
        return
    tokens, _ = comparison_tokens(loaded, job.run.path)
    measured, _ = compare_formats(loaded.model, tokens)
    add_facts(job.run.model, formats=formats_record(measured))


def _record(job: Job, data: PreparedData) -> None:
    """Write what is needed to reproduce the run."""
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    write_record(
        job.run.record,
        {
            "revision": revision.stdout.strip() or None,
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in PACKAGES},
            "threads": torch.get_num_threads(),
            "data": str(data.folder.resolve()),
            "data_content": data.index["content"],
            "settings": fixed_settings(job.config),
        },
        format=FORMAT,
    )


def _sample_drawer(job: Job, data: PreparedData) -> DrawSample | None:
    """Return a function that generates and saves samples at validation, and pictures them."""
    n_tokens = job.config.train.sample_tokens
    if n_tokens == 0:
        return None

    begin = _beginning(job.config, data)

    def draw_sample(model: SequenceModel, at_step: int) -> np.ndarray | None:
        n_samples = data.tokenizer.n_shown
        steps = draw(
            build_decoder(model),
            data.tokenizer,
            [begin] * n_samples,
            sampling=Sampling(temperature=0.9),
            max_tokens=n_tokens,
            seed=job.config.run.seed,
        )
        found = sorted(continuations(steps), key=lambda one: one.row)
        seen = []
        for drawn in found:
            number = f"-{drawn.row + 1:02d}" if n_samples > 1 else ""
            name = f"step-{at_step:06d}{number}{data.tokenizer.suffix}"
            path = job.run.path / "samples" / name
            with suppress(FileRejected):  # an early model may draw no whole note
                with atomic_path(path) as temporary:
                    data.tokenizer.decode(begin.whole(drawn.tokens), temporary)
                seen.append(data.tokenizer.preview(path))
        return preview_image(seen)

    return draw_sample


def _beginning(config: Config, data: PreparedData) -> Prompt:
    """Return what samples begin with: BOS, and for pairs the first held-out source."""
    [prompt] = read_prompts((), data.tokenizer, bars=None)
    if config.data.pairs is None:
        return prompt
    pairs = open_pairs(config.data.pairs, data.tokenizer)
    pieces = [*data.of_split(VALIDATION), *data.of_split(TRAIN)]
    windows = (w for x in pieces for w in pairs.windows(data.read(x), config.train.context_length))
    first = next(windows, None)
    return prompt if first is None else replace(prompt, source=first.source, pairs=pairs)
