"""Where trained models are: runs, the model that ships with the package, Hugging Face."""

import re
from pathlib import Path

from seqgen.api.settings import RUNS
from seqgen.checkpoint import RECORD, TOKENIZER, WEIGHTS, find_run
from seqgen.errors import UserError

SHIPPED = "shipped"  # what the model that comes with the package is called
SHIPPED_FOLDER = Path(__file__).resolve().parents[1] / "shipped" / "chorales"
HUB = "hf:"  # what the name of a repository begins with
_REPOSITORY = re.compile(r"hf:([\w.-]+/[\w.-]+)@([\w./-]+)")


def find_model(run: str | Path | None) -> Path:
    """Return the folder of a trained model.

    Args:
        run: a run folder or a model folder; "shipped": the model that comes with the package;
            "hf:OWNER/NAME@REVISION": a repository on Hugging Face, at a commit, tag or branch;
            None: the newest run in runs/, or the shipped model where there is none.

    Raises:
        UserError: a repository cannot be read, or its name has no revision.
    """
    if run is None:
        return find_run(RUNS) or SHIPPED_FOLDER
    if str(run) == SHIPPED:
        return SHIPPED_FOLDER
    return _download(str(run)) if str(run).startswith(HUB) else Path(run)


def model_name(path: Path) -> str:
    """Return what a model's folder is called: as people would name it to `find_model`."""
    return SHIPPED if path == SHIPPED_FOLDER else str(path)


def _download(name: str) -> Path:
    found = _REPOSITORY.fullmatch(name)
    if found is None:
        raise UserError(
            f"{name}: must be hf:OWNER/NAME@REVISION; the revision, a commit, tag or branch, says "
            f"which of its models is meant"
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise UserError(f"{name} needs huggingface_hub: pip install 'seqgen[hub]'") from None
    repository, revision = found.groups()
    wanted = [RECORD, WEIGHTS, f"{TOKENIZER}/*"]  # no code, no pickle
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot read {name} from Hugging Face: {reason}") from None
