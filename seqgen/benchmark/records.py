"""One record per number, as it is kept in JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seqgen.files import write_json

KEYS = (
    "measure",
    "variant",
    "dtype",
    "batch",
    "position",
    "threads",
    "median_seconds",
    "p95_seconds",
    "tokens_per_second",
    "ratio_to_library",
    "bytes",
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one variant took at one batch size and position; None where a value has no meaning.

    Attributes:
        measure, variant: what was measured, and which way of computing it.
        dtype: of what is computed with; of the weights in decode and endless.
        batch: rows computed together.
        position: tokens in the context (decode, prefill, memory, endless) or in the window
            (attention, training).
        threads: of torch on the CPU.
        median_seconds, p95_seconds: of the repeats of one call; None: not measured.
        tokens_per_second: summed over rows.
        ratio_to_library: the library's median divided by this one, in the same run at the same
            place; above 1 is faster. None also where the library was called only once.
        bytes: of what a stream carries from step to step or its saved session, of what a training
            step keeps for its backward pass, or of the process in RAM (endless).
        repeats: calls behind the median; for the table only.
        note: why there is no time; for the table only.
    """

    measure: str
    variant: str
    dtype: str
    batch: int
    position: int
    threads: int
    median_seconds: float | None = None
    p95_seconds: float | None = None
    tokens_per_second: float | None = None
    ratio_to_library: float | None = None
    bytes: int | None = None
    repeats: int | None = field(default=None, compare=False)
    note: str = field(default="", compare=False)

    def to_json(self) -> dict:
        """Return exactly the keys in `KEYS`."""
        return {key: getattr(self, key) for key in KEYS}


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write records as a JSON list, atomically."""
    write_json(path, [record.to_json() for record in records])


def read_records(path: Path) -> list[Record]:
    """Read back what `write_records` wrote."""
    return [Record(**values) for values in json.loads(Path(path).read_text())]
