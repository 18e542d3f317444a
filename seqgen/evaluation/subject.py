"""The run that is evaluated, and runs that are set beside it."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from seqgen.checkpoint import LoadedModel, RunFolder, load_model
from seqgen.config import Config, load_config
from seqgen.data.shards import PreparedData
from seqgen.errors import UserError

MOST_WINDOW = 512  # targets of a window where a run does not say how long its own were
# Settings that make a run cost what it costs; two runs that share them had the same budget.
BUDGET = ("max_steps", "batch_size", "context_length", "accumulate", "carry_state")
SIZES = ("d_model", "n_layers", "n_heads", "d_ff", "input_window", "positions")


@dataclass(frozen=True)
class Subject:
    """A trained run in memory, and what its folder says of it.

    Attributes:
        path: the run folder, or a model folder alone.
        loaded: model and tokenizer.
        config: how it was trained; None where only the model folder is here.
        data_content: fingerprint of the prepared data it was trained on; None if unknown.
    """

    path: Path
    loaded: LoadedModel
    config: Config | None
    data_content: str | None

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.path.resolve().name

    @property
    def attention(self) -> str:
        """Which attention it has, in words."""
        kind = self.loaded.model.config.attention
        return "softmax attention" if kind == "full" else "causal linear attention"

    @property
    def context_length(self) -> int:
        """Targets of the windows it was trained on."""
        known = self.loaded.record.get("context_length")
        if known is None and self.config is not None:
            known = self.config.train.context_length
        limit = self.loaded.model.positions.limit
        return known or min(MOST_WINDOW, limit or MOST_WINDOW)

    @property
    def n_parameters(self) -> int:
        """Numbers that were learned."""
        return sum(p.numel() for p in self.loaded.model.parameters())

    def facts(self) -> dict:
        """What a report says of the run."""
        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        tokens = None
        if self.config is not None:
            train = self.config.train
            tokens = self.loaded.step * train.batch_size * train.context_length
        return {
            "run": str(self.path),
            "name": self.name,
            "step": self.loaded.step,
            "parameters": self.n_parameters,
            "attention": self.attention,
            "model": model.config.model_dump(),
            "context_length": self.context_length,
            "training_tokens_at_most": tokens,
            "training": None if self.config is None else self.config.train.model_dump(),
            "tokenizer": {
                "type": tokenizer.config.type,
                "fingerprint": tokenizer.fingerprint(),
                "unit": tokenizer.unit,
                "settings": tokenizer.config.model_dump(),
                "fields": [[field.name, field.size] for field in tokenizer.vocabulary.fields],
            },
        }


def open_subject(path: Path, *, device: str = "cpu") -> Subject:
    """Load a run; UserError where there is none, or a damaged one."""
    loaded = load_model(path, device=device)
    folder = RunFolder(path)
    config = load_config(folder.config) if folder.config.is_file() else None
    return Subject(path, loaded, config, _record(folder).get("data_content"))


def data_of(subject: Subject) -> PreparedData | str:
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


def check_beside(subject: Subject, rival: Subject) -> list[str]:
    """Refuse a run that cannot stand beside another; list in what the two differ.

    Raises:
        UserError: another tokenizer or other data, so that figures would not be comparable.
    """
    if rival.loaded.tokenizer.fingerprint() != subject.loaded.tokenizer.fingerprint():
        raise UserError(
            f"--beside {rival.path}: it has another tokenizer than {subject.path}, and nats per "
            f"token of two tokenizers cannot be compared"
        )
    if rival.data_content != subject.data_content:
        raise UserError(
            f"--beside {rival.path}: it was trained on other data than {subject.path}: train it "
            f"with {train_beside(subject)}"
        )
    differences = []
    for section, keys in (("model", SIZES), ("train", BUDGET)):
        ours, theirs = (_section(run, section) for run in (subject, rival))
        differences += [
            f"{section}.{key} is {theirs[key]}, here {ours[key]}"
            for key in keys
            if ours is not None and theirs is not None and ours[key] != theirs[key]
        ]
    return differences


def train_beside(subject: Subject) -> str:
    """The command that trains a softmax model of the same size and budget."""
    settings = ["model.attention=full", f"run.dir={subject.path}-softmax"]
    if subject.config is not None and subject.config.train.carry_state:
        settings.append("train.carry_state=false")
    if subject.config is not None and subject.config.train.init_from is not None:
        settings.append("train.init_from=null")
    config = RunFolder(subject.path).config
    return shlex.join(["python", "cli.py", "train", str(config), *settings])


def _section(subject: Subject, name: str) -> dict | None:
    if name == "model":
        return subject.loaded.model.config.model_dump()
    return None if subject.config is None else subject.config.train.model_dump()


def _record(folder: RunFolder) -> dict:
    try:
        record = json.loads(folder.record.read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return record if isinstance(record, dict) else {}
