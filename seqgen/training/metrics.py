"""Metrics as a file of JSON lines; a resumed run has the same lines as an uninterrupted one."""

import json
import math
import os
from pathlib import Path

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only


class JsonLinesLogger(Logger):
    """Appends a line per logged step."""

    def __init__(self, path: Path):
        super().__init__()
        self._path = path

    @property
    def name(self) -> str:
        """Lightning asks for it; not used."""
        return "metrics"

    @property
    def version(self) -> str:
        """Lightning asks for it; not used."""
        return ""

    @property
    def n_bytes(self) -> int:
        """Length of the file, which checkpoints record."""
        return self._path.stat().st_size if self._path.exists() else 0

    @rank_zero_only
    def cut(self, n_bytes: int) -> None:
        """Drop what was logged after the checkpoint that a resume begins at."""
        if self._path.exists():
            content = self._path.read_bytes()[:n_bytes]
            os.truncate(self._path, content.rfind(b"\n") + 1)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line; a number that is not finite, which JSON does not have, is null."""
        values = {name: x if math.isfinite(x) else None for name, x in metrics.items()}
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        """The run folder holds the configuration already."""
