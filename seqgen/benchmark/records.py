"""One record per number, kept in JSON with its samples and what it was measured on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from seqgen.errors import UserError
from seqgen.files import write_bytes


@dataclass(frozen=True)
class Setting:
    """The setting of a measurement.

    Attributes:
        device: "cpu" or the GPU's name.
        hardware: processor, cores, instructions and memory; of the machine, also beside a GPU.
        versions: of Python and of each package that takes part.
        sizes: of the model, its parameters, and where its weights are from.
        environment: variables that change how threads work.
        command: what was typed.
    """

    device: str = ""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = ""


LIBRARY = "library"  # the variant that the others are compared with
UNKNOWN = Setting()


@dataclass(frozen=True)
class Place:
    """A measure at a batch size and a position, as in `Record`."""

    measure: str
    batch: int
    position: int

    @property
    def tokens(self) -> int:
        """Of all rows together."""
        return self.batch * self.position


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result of one variant at one batch size and position; None where a value has no meaning.

    Attributes:
        measure, variant: what was measured, and by which implementation.
        dtype: of what is computed with; of the weights in decode, endless and job.
        batch: rows computed together.
        position: tokens in the context (decode, prefill, memory, endless), in the window
            (attention, training) or in a piece (job).
        threads: of torch on the CPU.
        median_seconds, p95_seconds: of the repeats of one call; None: not measured.
        tokens_per_second: summed over rows.
        ratio_to_library: the library's median divided by this one, in the same run at the same
            place; above 1 is faster. None also where the library was called only once.
        bytes: of what a stream carries from step to step, of what a training step keeps for its
            backward pass (memory) or holds at its peak, weights and optimizer included (training),
            of the process in RAM (endless), or of what was read (floor).
        rate: bytes read per second of the fastest repeat (floor).
        share_of_floor: the least time that reading weights and state takes at the bandwidth
            measured in the same run, divided by the median (decode).
        bits_per_token: on held-out tokens (likelihood).
        targets: held-out tokens that were predicted (likelihood).
        repeats: calls behind the median.
        samples: seconds of each of them, in their order.
        note: why there is no value; in likelihood also how another run's value compares.
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
    rate: float | None = None
    share_of_floor: float | None = None
    bits_per_token: float | None = None
    targets: int | None = None
    repeats: int | None = None
    samples: tuple[float, ...] = ()
    note: str = ""
    setting: Setting = field(default=UNKNOWN, compare=False)

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What identifies the same measurement in another run."""
        return self.measure, self.variant, self.dtype, self.batch, self.position

    @property
    def has_value(self) -> bool:
        """Whether anything was measured."""
        values = (self.median_seconds, self.bytes, self.rate, self.bits_per_token)
        return any(value is not None for value in values)

    @property
    def scene(self) -> str:
        """What times depend on besides batch and position: device, machine, model and threads."""
        s = self.setting
        parts = (s.device, dict(s.hardware), dict(s.sizes), self.threads)
        return json.dumps(parts, sort_keys=True)

    def to_json(self) -> dict:
        """Return exactly the keys in `KEYS`, the setting's among them."""
        own = {key: getattr(self, key) for key in OWN_KEYS}
        samples = [float(f"{seconds:.4g}") for seconds in self.samples]
        return own | {"samples": samples} | asdict(self.setting)


OWN_KEYS = tuple(f.name for f in fields(Record) if f.name != "setting")
SETTING_KEYS = tuple(f.name for f in fields(Setting))
KEYS = (*OWN_KEYS, *SETTING_KEYS)


def group_by_scene(records: Sequence[Record]) -> list[list[Record]]:
    """Group records by what they were measured on, in the order in which scenes appear."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.scene, []).append(record)
    return list(found.values())


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write records as a JSON list, a line for each, atomically."""
    lines = ",\n".join(json.dumps(record.to_json(), allow_nan=False) for record in records)
    write_bytes(Path(path), f"[\n{lines}\n]\n".encode())


def read_records(path: Path) -> list[Record]:
    """Read back what `write_records` wrote.

    Raises:
        UserError: no such file, or not a list of records.
    """
    path = Path(path)
    try:
        return [_read(values) for values in json.loads(path.read_text())]
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path} holds no records of the benchmark ({error}); "
            f"`benchmark --json FILE` writes them"
        ) from None


def _read(values: dict) -> Record:
    own = {key: values[key] for key in OWN_KEYS if key in values}
    own["samples"] = tuple(own.get("samples", ()))
    setting = Setting(**{key: values[key] for key in SETTING_KEYS if key in values})
    return Record(**own, setting=setting)
