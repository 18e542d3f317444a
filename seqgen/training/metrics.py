"""Metrics as a file of JSON lines that survives a kill and a resume."""

import json
from pathlib import Path

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from seqgen.checkpoint import read_metrics
from seqgen.files import atomic_path


class JsonLinesLogger(Logger):
    """Appends a line per logged step; a resume drops lines beyond the step it begins at."""

    def __init__(self, path: Path, *, resumed_step: int | None):
        super().__init__()
        self._path = path
        if resumed_step is not None and path.exists():
            kept = [line for line in read_metrics(path) if line["step"] <= resumed_step]
            with atomic_path(path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    @property
    def name(self) -> str:
        """Lightning asks for it; not used."""
        return "metrics"

    @property
    def version(self) -> str:
        """Lightning asks for it; not used."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        """The run folder holds the configuration already."""
