"""Checkpoints that are whole or not there, whatever happens while they are written."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import TorchCheckpointIO

from seqgen.errors import UserError
from seqgen.files import write_bytes


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: it is not there or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums in it
            if archive.testzip() is not None:
                raise ValueError("its checksum does not match")
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"no checkpoint {path}") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(
            f"{path} is damaged ({error}): copy {path.with_name('best.ckpt')} over it if that one "
            f"is whole, or begin a new run"
        ) from None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint and renames.

    Lightning writes to the system's temporary folder and moves, which is a copy where that folder
    is on another disk: a kill in the middle would leave half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write `checkpoint` to `path`; OSError where there is no room or no permission."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(Path(path), buffer.getvalue())
