"""What a run leaves on disk: the run folder to resume, and its model folder to use.

runs/<name>/config.yaml        the resolved configuration
runs/<name>/run.json           seed, versions, data, progress
runs/<name>/metrics.jsonl      one line per logged step
runs/<name>/checkpoints/       last.ckpt and best.ckpt: weights, optimizer, everything to resume
runs/<name>/model/             model.safetensors, model.json, tokenizer/: everything to generate
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from seqgen.config import ModelConfig
from seqgen.errors import UserError
from seqgen.files import atomic_folder, write_json
from seqgen.model.sequence_model import SequenceModel
from seqgen.tokenizers import Tokenizer, load_tokenizer
from seqgen.vocabulary import Vocabulary

FORMAT = 1
WEIGHTS, RECORD, TOKENIZER = "model.safetensors", "model.json", "tokenizer"
PREFIX = "model."  # of the model's weights in a checkpoint


@dataclass(frozen=True)
class LoadedModel:
    """A model folder in memory."""

    model: SequenceModel
    tokenizer: Tokenizer
    step: int
    record: dict
    checkpoint: str = "best"  # or "last"


class RunFolder:
    """Names of what lies in a run folder."""

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "config.yaml"
        self.record = path / "run.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.model = path / "model"


def save_model(
    folder: Path, model: SequenceModel, tokenizer: Tokenizer, *, step: int, **facts: object
) -> None:
    """Write a model folder, whole or not at all; `facts` are kept in its record."""
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    content = save_safetensors(weights)
    with atomic_folder(folder) as temporary:
        (temporary / TOKENIZER).mkdir()
        tokenizer.save(temporary / TOKENIZER)
        (temporary / WEIGHTS).write_bytes(content)
        write_json(
            temporary / RECORD,
            {
                "format": FORMAT,
                "step": step,
                "model": model.config.model_dump(),
                "vocabulary": model.vocabulary.to_json(),
                "tokenizer": tokenizer.fingerprint(),
                "sha256": hashlib.sha256(content).hexdigest(),
                **facts,
            },
        )


def load_model(
    folder: Path, *, device: str | torch.device = "cpu", checkpoint: str = "best"
) -> LoadedModel:
    """Load a model folder, or the model folder of a run.

    That is the model with the best validation loss; `checkpoint="last"` takes the weights of the
    run's last checkpoint, which may be newer.

    Raises:
        UserError: nothing there, another format, or damaged, naming the file.
    """
    folder = Path(folder)
    if checkpoint == "last":
        return _load_last(folder, device)
    if (folder / "model").is_dir():
        folder = folder / "model"
    record = _read_record(folder)
    try:
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {folder / WEIGHTS}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != record["sha256"]:
        raise UserError(
            f"{folder / WEIGHTS} is damaged (its checksum is not the one in {RECORD}): "
            f"copy it again, or use another run"
        )
    tokenizer = load_tokenizer(folder / TOKENIZER)
    if tokenizer.fingerprint() != record["tokenizer"]:
        raise UserError(
            f"{folder / TOKENIZER} is not the tokenizer that this model was trained with"
        )
    try:
        config = ModelConfig.model_validate(record["model"])
        vocabulary = Vocabulary.from_json(record["vocabulary"])
        model = SequenceModel(config, vocabulary)
        model.load_state_dict(load_safetensors(content), strict=True)
    except (
        ValidationError,
        SafetensorError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{folder} does not hold the model that {RECORD} says: {first}") from None
    return LoadedModel(model.to(device).eval(), tokenizer, record["step"], record)


def describe_step(run: Path, loaded: LoadedModel) -> str:
    """Say of which step a run's model is, and whether training has gone further."""
    if loaded.checkpoint == "last":
        return f"step {loaded.step:,}, the last"
    last = _last_step(RunFolder(Path(run)))
    if last is None or last <= loaded.step:
        return f"step {loaded.step:,}"
    best = "" if loaded.record.get("loss") is None else ", the best by validation loss"
    return f"step {loaded.step:,} of {last:,}{best}; --checkpoint last takes the newest"


def _load_last(run: Path, device: str | torch.device) -> LoadedModel:
    """Put the weights of a run's last checkpoint into its model."""
    loaded = load_model(run)
    path = RunFolder(run).last
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        weights = {
            name.removeprefix(PREFIX): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(PREFIX)
        }
        loaded.model.load_state_dict(weights, strict=True)
        step = checkpoint["global_step"]
    except FileNotFoundError:
        raise UserError(f"no last checkpoint {path}: use --checkpoint best") from None
    except Exception as error:  # a damaged file can raise anything
        raise UserError(
            f"{path} is damaged ({type(error).__name__}): use --checkpoint best"
        ) from None
    record = {**loaded.record, "step": step, "loss": None}
    return LoadedModel(loaded.model.to(device), loaded.tokenizer, step, record, "last")


def _last_step(folder: RunFolder) -> int | None:
    """Read the step of the last checkpoint, without its weights; None where it cannot be read."""
    try:
        return torch.load(folder.last, mmap=True, weights_only=True)["global_step"]
    except Exception:  # a damaged file can raise anything
        return None


def read_metrics(path: Path) -> list[dict]:
    """Read the lines of a metrics file; a last line that a kill cut short is left out."""
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def find_run(base: Path) -> Path:
    """Return the run in `base` whose model is the newest; UserError where there is none."""
    models = list(base.glob(f"*/model/{RECORD}"))
    if not models:
        raise UserError(
            f"no trained model in {base}/: train one first (python cli.py train), or name a run"
        )
    return max(models, key=lambda path: path.stat().st_mtime).parents[1]


def _read_record(folder: Path) -> dict:
    path = folder / RECORD
    try:
        record = json.loads(path.read_text())
        if record["format"] != FORMAT:
            raise UserError(f"{path} has format {record['format']}, this version reads {FORMAT}")
        return {**record, "sha256": record["sha256"], "step": record["step"]}
    except FileNotFoundError:
        if folder.exists():
            raise UserError(f"no model in {folder} ({RECORD} is missing)") from None
        raise UserError(f"no run {folder}") from None
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error})") from None
