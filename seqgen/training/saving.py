"""Checkpoints are written atomically: complete or not at all."""

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import TorchCheckpointIO

from seqgen.checkpoint import put_checkpoint, read_checkpoint
from seqgen.files import write_bytes


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the checkpoint and renames.

    Lightning writes to the system's temporary folder and moves, which is a copy where that folder
    is on another disk: a kill in the middle would leave half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write `checkpoint` to `path`; OSError where there is no room or no permission."""
        buffer, path = io.BytesIO(), Path(path)
        torch.save(checkpoint, buffer)
        if not path.is_dir():
            write_bytes(path, buffer.getvalue())
            return
        new = path.with_name(f"{path.name}.new")
        write_bytes(new, buffer.getvalue())
        put_checkpoint(new, path)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint, also the folder that `train.strategy=fsdp` writes."""
        if Path(path).is_dir():
            return read_checkpoint(Path(path), way_out="resume with train.strategy=fsdp")
        return super().load_checkpoint(path, *args, **kwargs)
