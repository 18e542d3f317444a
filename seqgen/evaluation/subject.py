"""The run that is evaluated, and the runs that it is compared with."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from seqgen.checkpoint import LoadedModel, RunFolder, load_model, read_metrics, read_run
from seqgen.config import Config, load_config
from seqgen.data.shards import PreparedData
from seqgen.errors import UserError

MOST_WINDOW = 512  # targets of a window where a run does not say how long its own were
COMPARED = (  # sizes of a model and its training budget
    *("model.d_model", "model.n_layers", "model.n_heads", "model.d_ff", "model.conv_width"),
    *("model.positions", "train.max_steps", "train.batch_size", "train.context_length"),
    *("train.accumulate", "train.carry_state"),
)


@dataclass(frozen=True)
class EvaluatedRun:
    """A trained run in memory, and what its folder says of it."""

    path: Path  # the run folder, or a model folder alone
    loaded: LoadedModel
    config: Config | None  # None where only the model folder is here
    data_content: str | None  # fingerprint of the prepared data it was trained on, if known
    metrics: Sequence[dict] = ()  # the lines that training logged; none if unknown
    title: str | None = None  # its name in the report, if two run folders have the same name

    @property
    def name(self) -> str:
        return self.title or self.path.resolve().name

    @property
    def steps(self) -> int | None:
        """The last step of training, which may come after the best one; None if unknown."""
        return max((line["step"] for line in self.metrics), default=None)

    @property
    def attention(self) -> str:
        """Which attention it has, in words."""
        config = self.loaded.model.config
        decay = "" if config.decay == "none" else f" with {config.decay} decay"
        return f"{config.attention.replace('-', ' ')} attention{decay}"

    @property
    def context_length(self) -> int:
        """Targets of the windows it was trained on."""
        known = self.loaded.record.get("context_length")
        if known is None and self.config is not None:
            known = self.config.train.context_length
        return known or min(MOST_WINDOW, self.loaded.model.positions.limit or MOST_WINDOW)

    def settings(self) -> dict:
        """Known settings of model and training, as `section.key`."""
        sections = {"model": self.loaded.model.config.model_dump()}
        if self.config is not None:
            sections["train"] = self.config.train.model_dump()
        return {f"{name}.{key}": x for name, of in sections.items() for key, x in of.items()}

    def facts(self) -> dict:
        """What a report says of the run."""
        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        train = self.config and self.config.train
        tokens = train and self.loaded.step * train.batch_size * train.context_length
        return {
            "run": str(self.path),
            "name": self.name,
            "step": self.loaded.step,
            "parameters": sum(p.numel() for p in model.parameters()),
            "attention": self.attention,
            "model": model.config.model_dump(),
            "context_length": self.context_length,
            "training_tokens_at_most": tokens,
            "training": train and train.model_dump(),
            "transpose": self.config and self.config.data.transpose,
            "tokenizer": {
                "type": tokenizer.config.type,
                "fingerprint": tokenizer.fingerprint(),
                "unit": tokenizer.unit,
                "kind": tokenizer.kind,
                "is_music": tokenizer.is_music,
                "settings": tokenizer.config.model_dump(),
                "fields": [[field.name, field.size] for field in tokenizer.vocabulary.fields],
            },
        }


def open_subject(path: Path, *, device: str = "cpu", checkpoint: str = "best") -> EvaluatedRun:
    """Load a run, also by its model folder; UserError where there is none, or a damaged one."""
    path = _run_of(path)
    loaded = load_model(path, device=device, checkpoint=checkpoint)
    folder = RunFolder(path)
    config = load_config(folder.config) if folder.config.is_file() else None
    metrics = read_metrics(folder.metrics) if folder.metrics.exists() else []
    return EvaluatedRun(path, loaded, config, _record(folder).get("data_content"), metrics)


def name_apart(subject: EvaluatedRun, rivals: Sequence[EvaluatedRun]) -> list[EvaluatedRun]:
    """Name rivals by their paths where folders of one name would be taken for each other.

    Raises:
        UserError: a run is given twice.
    """
    places = [run.path.resolve() for run in (subject, *rivals)]
    for place, rival in zip(places[1:], rivals, strict=True):
        if places.count(place) > 1:
            raise UserError(f"--beside {rival.path}: this run is given twice")
    names = [run.name for run in (subject, *rivals)]
    return [
        replace(rival, title=str(rival.path)) if names.count(rival.name) > 1 else rival
        for rival in rivals
    ]


def data_of(subject: EvaluatedRun) -> PreparedData | str:
    """Return the prepared data that a run was trained on, or one sentence on why it is not here."""
    place = _record(RunFolder(subject.path)).get("data")
    if place is None:
        return f"{subject.path} does not say what data it was trained on"
    try:
        data = PreparedData(Path(place))
    except UserError as error:
        return f"the prepared data of the run cannot be read ({error})"
    if data.index["content"] != subject.data_content:
        return f"the data in {place} is no longer what the run was trained on"
    return data


def check_beside(subject: EvaluatedRun, rival: EvaluatedRun) -> list[str]:
    """List in what two runs differ, or may differ; refuse a pair that cannot be compared.

    Raises:
        UserError: another tokenizer or other data, so that figures would not be comparable.
    """
    if rival.loaded.tokenizer.fingerprint() != subject.loaded.tokenizer.fingerprint():
        raise UserError(
            f"--beside {rival.path}: it has another tokenizer than {subject.path}, and nats per "
            f"token of two tokenizers cannot be compared"
        )
    known = subject.data_content is not None and rival.data_content is not None
    if known and rival.data_content != subject.data_content:
        how = rival_of(subject)["train_beside"]
        raise UserError(
            f"--beside {rival.path}: it was trained on other data than {subject.path}"
            + (f": train it with {how}" if how else "")
        )
    differences = [] if known else ["whether they learned from the same data is not known"]
    if subject.config is None or rival.config is None:
        differences.append("whether they had the same budget is not known")
    elif subject.steps is None or rival.steps is None:
        differences.append("how far both were trained is not known")
    elif subject.steps != rival.steps:
        differences.append(f"training reached step {rival.steps:,}, here {subject.steps:,}")
    ours, theirs = subject.settings(), rival.settings()
    return differences + [
        f"{key} is {theirs[key]}, here {ours[key]}"
        for key in COMPARED
        if key in ours and key in theirs and ours[key] != theirs[key]
    ]


def rival_of(subject: EvaluatedRun) -> dict[str, str]:
    """Describe a run of the other attention, as a report does.

    `other_attention` is "softmax" or "linear"; `train_beside` is the command that trains a model of
    it with the same size and budget, empty where the run does not say how it was trained; and
    `show_beside` is the one that compares the two.
    """
    is_softmax = subject.loaded.model.config.attention == "softmax"
    other, attention = ("linear", "causal-linear") if is_softmax else ("softmax", "softmax")
    run, rival, train = str(subject.path), f"{subject.path}-{other}", ""
    if (config := subject.config) is not None:
        settings = [f"model.attention={attention}", f"run.dir={rival}"]
        settings += ["model.decay=none"] * (config.model.decay != "none")
        settings += ["train.carry_state=false"] * config.train.carry_state
        settings += ["train.init_from=null"] * (config.train.init_from is not None)
        place = str(RunFolder(subject.path).config)
        train = shlex.join(["python", "cli.py", "train", place, *settings])
    show = shlex.join(["python", "cli.py", "evaluate", run, "--beside", rival])
    return {"train_beside": train, "show_beside": show, "other_attention": other}


def _run_of(path: Path) -> Path:
    """Return the run that a model folder belongs to, or else the path itself."""
    place = path.resolve()
    run = RunFolder(place.parent)
    if place == run.model and (run.config.is_file() or run.record.is_file()):
        return path.parent if path.name == place.name else place.parent
    return path


def _record(folder: RunFolder) -> dict:
    return read_run(folder) if folder.record.exists() else {}
