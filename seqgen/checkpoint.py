"""The files of a run: the run folder to resume from, and the model folder to generate with.

runs/<name>/config.yaml        the resolved configuration
runs/<name>/run.json           settings that cannot change, versions, data
runs/<name>/metrics.jsonl      one line per logged step
runs/<name>/validation.json    the final loss beside those of n-gram models
runs/<name>/lock               during training: the process that trains
runs/<name>/checkpoints/       last.ckpt and best.ckpt: weights, optimizer, everything to resume
runs/<name>/model/             model.safetensors, config.json, tokenizer/: everything to generate
"""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_safetensors
from torch import Tensor

from seqgen.config import ModelConfig
from seqgen.errors import UserError
from seqgen.files import (
    atomic_folder,
    check_files,
    checksums,
    read_json,
    read_record,
    remove,
    write_record,
)
from seqgen.model.encoder_decoder import build_model
from seqgen.model.sequence_model import SequenceModel
from seqgen.tokenizers import Tokenizer, load_tokenizer
from seqgen.vocabulary import Vocabulary

WEIGHTS, RECORD, TOKENIZER = "model.safetensors", "config.json", "tokenizer"
FORMAT = 6  # of run.json and of model folders; increase it when older ones can no longer be read
COPY_AGAIN = "copy the model folder again, or train a new run"
CHECKPOINTS = ("best", "last")
PREFIX = "model."  # of the model's weights in a checkpoint
# In a checkpoint that is a folder: what is no part of model or optimizer (Lightning's name for it),
# and checksums of all other files.
PROGRESS, FILES = "meta.pt", "files.json"


@dataclass(frozen=True)
class LoadedModel:
    """A model folder in memory."""

    model: SequenceModel
    tokenizer: Tokenizer
    step: int
    record: dict
    checkpoint: str = "best"  # or "last"

    @property
    def pairs(self) -> str | None:
        """How it was told a source and a target, as `data.pairs`; None: it takes no source."""
        return self.record.get("pairs")


class RunFolder:
    """The paths of the files in a run folder."""

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "config.yaml"
        self.record = path / "run.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.model = path / "model"
        self.validation = path / "validation.json"
        self.lock = path / "lock"  # held while training


def save_model(
    folder: Path,
    model: SequenceModel,
    tokenizer: Tokenizer,
    *,
    step: int,
    weights: str = "float32",
    **facts: object,
) -> None:
    """Write a model folder atomically.

    Args:
        folder: replaced if it exists.
        model, tokenizer: what is saved.
        step: of training, from which the weights are.
        weights: number format of the matrices in the file, float32 or bf16.
        facts: what else its record says.
    """
    stored = {
        name: _stored(value.detach().cpu(), weights) for name, value in model.state_dict().items()
    }
    with atomic_folder(folder) as temporary:
        (temporary / TOKENIZER).mkdir()
        tokenizer.save(temporary / TOKENIZER)
        # Not by save_file, which leaves a file that only its owner can read.
        (temporary / WEIGHTS).write_bytes(save_safetensors(stored))
        record = {
            "model_type": "seqgen",  # for Hugging Face, which counts downloads of config.json
            "step": step,
            "model": model.config.model_dump(),
            "vocabulary": model.vocabulary.to_json(),
            "tokenizer": tokenizer.fingerprint(),
            "files": checksums(temporary),
            **facts,
        }
        write_record(temporary / RECORD, record, format=FORMAT)


def add_facts(folder: Path, **facts: object) -> None:
    """Add to what the record of a model folder says."""
    write_record(folder / RECORD, {**_read_record(folder), **facts}, format=FORMAT)


def _stored(value: Tensor, weights: str) -> Tensor:
    """Return a tensor as it is written; vectors stay in float32."""
    is_matrix = value.is_floating_point() and value.dim() > 1
    return value.to(torch.bfloat16 if weights == "bf16" and is_matrix else value.dtype).contiguous()


def load_model(
    folder: Path, *, device: str | torch.device = "cpu", checkpoint: str = "best"
) -> LoadedModel:
    """Load a model folder, or the model folder of a run.

    That is the model with the best validation loss; `checkpoint="last"` takes the weights of the
    run's last checkpoint, which may be newer.

    Raises:
        UserError: nothing there, another format, or damaged, naming the file; or no such
            checkpoint.
    """
    folder = Path(folder)
    if checkpoint not in CHECKPOINTS:
        raise UserError(f"checkpoint = {checkpoint}: must be one of {', '.join(CHECKPOINTS)}")
    if checkpoint == "last":
        return _load_last(folder, device)
    if (folder / "model").is_dir():
        folder = folder / "model"
    record = _read_record(folder)
    try:
        return _load(folder, record, device)
    except UserError:
        if _read_record(folder) == record:
            raise
    return load_model(folder, device=device)  # training has just written a better model


def _load(folder: Path, record: dict, device: str | torch.device) -> LoadedModel:
    check_files(folder, record["files"], way_out=COPY_AGAIN)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    if tokenizer.fingerprint() != record["tokenizer"]:
        raise UserError(
            f"{folder / TOKENIZER} is not the tokenizer that this model was trained with"
        )
    try:
        config = ModelConfig.model_validate(record["model"])
        vocabulary = Vocabulary.from_json(record["vocabulary"])
        model = build_model(config, vocabulary)
        model.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"{folder} does not hold the model that {RECORD} describes: {first}"
        ) from None
    _check_finite(model, folder / WEIGHTS)
    return LoadedModel(model.to(device).eval(), tokenizer, record["step"], record)


def read_run(run: RunFolder) -> dict:
    """Read the record of a run.

    Raises:
        UserError: it is not there, damaged, or of another format.
    """
    return read_record(run.record, format=FORMAT, way_out="copy it again, or begin a new run")


def read_checkpoint(path: Path, *, way_out: str, whole: bool = True) -> dict:
    """Read a checkpoint onto the CPU: a file, or the folder that several processes have written.

    Without `whole`, weights and optimizer states of a folder are checked and not read.

    Raises:
        UserError: it is not there or damaged; the message ends in `way_out`.
    """
    if path.is_dir():
        return _read_folder(path, way_out, whole=whole)
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums in it
            if archive.testzip() is not None:
                raise ValueError("its checksum does not match")
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"no checkpoint {path}: {way_out}") from None
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{path} is damaged ({error}): {way_out}") from None


def _read_folder(path: Path, way_out: str, *, whole: bool) -> dict:
    """Read a checkpoint written in parts, as if one process had written it."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save  # slow, and seldom used

    check_files(path, read_json(path / FILES, way_out=way_out), way_out=way_out)
    try:
        checkpoint = torch.load(path / PROGRESS, map_location="cpu", weights_only=True)
        if not whole:
            return checkpoint
        buffer = io.BytesIO()
        dcp_to_torch_save(path, buffer)  # type: ignore[arg-type]  # goes to torch.save as it is
        buffer.seek(0)
        parts = torch.load(buffer, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise UserError(f"{path} is damaged ({error}): {way_out}") from None
    optimizer = parts["optimizer_0"]
    names = [name for group in optimizer["param_groups"] for name in group["params"]]
    number = {name: i for i, name in enumerate(names)}
    state = {
        "state": {number[name]: values for name, values in optimizer["state"].items()},
        "param_groups": [
            {**group, "params": [number[name] for name in group["params"]]}
            for group in optimizer["param_groups"]
        ],
    }
    return {**checkpoint, "state_dict": parts["state_dict"], "optimizer_states": [state]}


def put_checkpoint(new: Path, path: Path) -> None:
    """Put a finished checkpoint in the place of the one before, where one of them is a folder."""
    before = path.with_name(f"{path.name}.old")
    remove(before)
    if path.exists():
        path.rename(before)
    new.rename(path)
    remove(before)


def find_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint; one that a kill left beside its place is put back."""
    before = path.with_name(f"{path.name}.old")
    if before.exists() and not path.exists():
        before.rename(path)
    return path.exists()


def check_no_source(pairs: str | None, what: str) -> None:
    """Raise UserError where a model writes for a source, which `what` cannot give it.

    `pairs` is `LoadedModel.pairs`.
    """
    if pairs is not None:
        raise UserError(
            f"this run writes for a source (data.pairs={pairs}), and {what} gives it none: use "
            f"generate --source FILE"
        )


def describe_step(run: Path, loaded: LoadedModel) -> str:
    """Say from which step a run's model is, and whether training continued after it."""
    if loaded.checkpoint == "last":
        return f"step {loaded.step:,}, the last"
    last = last_step(RunFolder(Path(run)))
    if last is None or last <= loaded.step:
        return f"step {loaded.step:,}"
    best = "" if loaded.record.get("loss") is None else ", the best by validation loss"
    return f"step {loaded.step:,} of {last:,}{best}; --checkpoint last takes the newest"


def _load_last(run: Path, device: str | torch.device) -> LoadedModel:
    """Put the weights of a run's last checkpoint into its model."""
    loaded = load_model(run)
    path = RunFolder(run).last
    checkpoint = read_checkpoint(path, way_out="use --checkpoint best")
    weights = {
        name.removeprefix(PREFIX): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(PREFIX)
    }
    try:
        loaded.model.load_state_dict(weights, strict=True)
    except RuntimeError:
        raise UserError(
            f"{path} belongs to another model than {run}: use --checkpoint best"
        ) from None
    _check_finite(loaded.model, path)
    step = checkpoint["global_step"]
    record = {**loaded.record, "step": step, "loss": None}
    return LoadedModel(loaded.model.to(device), loaded.tokenizer, step, record, "last")


def _check_finite(model: SequenceModel, path: Path) -> None:
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise UserError(
                f"{path} holds numbers that are not finite, in {name}: use another run, or train "
                f"again with a lower train.learning_rate"
            )


def last_step(folder: RunFolder) -> int | None:
    """Read the step of the last checkpoint, without its weights; None where it cannot be read."""
    try:
        path = folder.last / PROGRESS if folder.last.is_dir() else folder.last
        return torch.load(path, mmap=True, weights_only=True)["global_step"]
    except Exception:  # a damaged file can raise anything
        return None


def read_metrics(path: Path) -> list[dict]:
    """Read the lines of a metrics file; an incomplete last line, left by a kill, is ignored.

    Raises:
        UserError: the file cannot be read, or another line is damaged.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return [_metrics(line, path, number) for number, line in enumerate(lines, start=1)]


def _metrics(line: bytes, path: Path, number: int) -> dict:
    try:
        metrics = json.loads(line.decode())
        if isinstance(metrics["step"], int) and all(
            value is None or isinstance(value, int | float) for value in metrics.values()
        ):
            return metrics
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise UserError(f"{path} is damaged in line {number}: copy it again, or delete that line")


def find_run(base: Path) -> Path | None:
    """Return the run in `base` whose model is the newest; None where there is none."""
    models = list(base.glob(f"*/model/{RECORD}"))
    return max(models, key=lambda path: path.stat().st_mtime).parents[1] if models else None


def _read_record(folder: Path) -> dict:
    path = folder / RECORD
    if not path.exists():
        if folder.exists():
            raise UserError(f"no model in {folder} ({RECORD} is missing)")
        raise UserError(f"no run {folder}")
    return read_record(path, format=FORMAT, way_out=COPY_AGAIN)
