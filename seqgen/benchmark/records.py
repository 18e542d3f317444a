"""One record per number, as it is kept in JSON, with its samples and what it was measured on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from seqgen.benchmark.setting import NOWHERE, Setting
from seqgen.errors import UserError
from seqgen.files import json_ready, write_bytes

PUBLISHED = "published"  # then a colon: how the note of a figure begins that is from a paper


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one variant took at one batch size and position; None where a value has no meaning.

    Attributes:
        measure, variant: what was measured, and which way of computing it.
        dtype: of what is computed with; of the weights in decode, step, endless and job.
        batch: rows computed together.
        position: tokens in the context (decode, step, prefill, memory, endless), in the window
            (attention, training) or in a piece (job).
        threads: of torch on the CPU.
        median_seconds, p95_seconds, p99_seconds: of the repeats of one call; None: not measured.
        tokens_per_second: summed over rows.
        ratio_to_library: the library's median divided by this one, in the same run at the same
            place; above 1 is faster. None also where the library was called only once.
        bytes: of what a stream carries from step to step or its saved session, of what a training
            step keeps for its backward pass (memory) or holds at its peak, weights and optimizer
            included (training), of the process in RAM (endless), or of what was read (floor).
        rate: per second of the fastest repeat, of bytes read or of floating-point operations
            (floor).
        share_of_floor: the least time that reading weights and state takes at the bandwidth
            measured in the same run, divided by the median (decode, step).
        bits_per_token: on held-out tokens (likelihood).
        repeats: calls behind the median.
        samples: seconds of each of them, in their order.
        targets: held-out tokens that were predicted (likelihood).
        note: why there is no value; what stands beside it and how sure the difference is
            (likelihood); or, beginning with "published: ", whose figure it is, measured elsewhere
            and with other code (then there are no repeats or samples, 0 threads, and 0 rows where
            their number is not known).
        setting: the model, the machine, the versions and the command.
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
    p99_seconds: float | None = None
    rate: float | None = None
    share_of_floor: float | None = None
    bits_per_token: float | None = None
    repeats: int | None = None
    targets: int | None = None
    samples: tuple[float, ...] = ()
    note: str = ""
    setting: Setting = field(default=NOWHERE, compare=False)

    @property
    def place(self) -> tuple[str, str, str, int, int]:
        """What makes it the same measurement in another run."""
        return self.measure, self.variant, self.dtype, self.batch, self.position

    def to_json(self) -> dict:
        """Return exactly the keys in `KEYS`, the setting's among them."""
        own = {key: getattr(self, key) for key in OWN_KEYS}
        samples = [float(f"{seconds:.4g}") for seconds in self.samples]
        return own | {"samples": samples} | self.setting.to_json()


OWN_KEYS = tuple(f.name for f in fields(Record) if f.name != "setting")
KEYS = (*OWN_KEYS, *NOWHERE.to_json())


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write records as a JSON list, a line for each, atomically."""
    lines = ",\n".join(
        json.dumps(json_ready(record.to_json()), allow_nan=False) for record in records
    )
    write_bytes(Path(path), f"[\n{lines}\n]\n".encode())


def read_records(path: Path) -> list[Record]:
    """Read back what `write_records` wrote, now or before it knew all of today's keys.

    Raises:
        UserError: no such file, or not a list of records.
    """
    path = Path(path)
    try:
        return [_read(values) for values in json.loads(path.read_text())]
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path} holds no records of the benchmark ({error}); "
            f"`benchmark --json FILE` writes them"
        ) from None


def _read(values: dict) -> Record:
    own = {key: values[key] for key in OWN_KEYS if key in values}
    own["samples"] = tuple(own.get("samples", ()))
    return Record(**own, setting=Setting.of_json(values))
