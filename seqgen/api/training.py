"""Preparing data and training from Python."""

from pathlib import Path

from seqgen.api.jobs import measure_formats, open_data, score_job, train_job
from seqgen.api.model import Model, load
from seqgen.api.runs import Tell, begin, is_first
from seqgen.api.settings import pick_device, read_config, read_resumed
from seqgen.checkpoint import load_model
from seqgen.config import Config
from seqgen.data.prepare import prepare as prepare_data
from seqgen.data.shards import PreparedData
from seqgen.tokenizers import Tokenizer
from seqgen.training.team import gathered


def prepare(*arguments: str) -> PreparedData:
    """Read, check and tokenize a corpus, or find it prepared.

    `arguments` are those of the command: a configuration file and `section.key=value` settings,
    such as `"data.source=FOLDER"`. `report.json` in the returned data's folder lists refused files.

    Raises:
        UserError: a setting is wrong, or no file can be used.
    """
    return _prepare(read_config(arguments).config, None)


def train(*arguments: str, resume: bool = False, tell: Tell = lambda line: None) -> Model:
    """Train a model, and return it ready to generate.

    `arguments` are those of the command: a configuration file and `section.key=value` settings. The
    run folder (`Model.path`) holds checkpoints, metrics and scores, as after the command.

    Args:
        arguments: as above; without any, the quickstart.
        resume: continue a run exactly: that of `run.dir`, or the newest.
        tell: receives lines of text about the training.

    Raises:
        UserError: a setting is wrong, no file can be used, or the loss is not a number.
        KeyboardInterrupt: training was stopped by a signal; `resume=True` continues it.
    """
    with gathered() as team:
        settings = (read_resumed if resume else read_config)(arguments) if is_first(team) else None
        with begin(settings, resume=resume, tell=tell, team=team) as job:
            data = open_data(job, _prepare)
            outcome = train_job(job, data, tell=tell)
            if outcome.stopped:
                raise KeyboardInterrupt
            device = "cpu" if job.config.train.accelerator == "cpu" else pick_device(None)
            if outcome.is_main:
                loaded = load_model(job.run.path, device=device)
                score_job(job, data, outcome, loaded)
                measure_formats(job, loaded)
    return load(Path(job.run.path), device=device)


def _prepare(config: Config, tokenizer: Tokenizer | None) -> PreparedData:
    return prepare_data(config.data, config.limits, config.tokenizer, tokenizer=tokenizer).data
