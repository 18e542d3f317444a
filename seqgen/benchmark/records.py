"""One record per number, kept in JSON with its samples and what it was measured on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from seqgen.errors import UserError
from seqgen.files import write_bytes


@dataclass(frozen=True)
class BenchmarkSetting:
    """The setting of a measurement."""

    device: str = ""  # "cpu" or the GPU's name
    # Processor, cores, instructions and memory; of the machine, also beside a GPU.
    hardware: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)  # Python and packages that take part
    sizes: Mapping[str, Any] = field(default_factory=dict)  # of the model, and what its weights are
    environment: Mapping[str, str] = field(default_factory=dict)  # what changes how threads work
    command: str = ""  # what was typed


LIBRARY = "library"  # the variant that the others are compared with
UNKNOWN = BenchmarkSetting()


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

    A position is the number of tokens in the context (decode, prefill, memory, endless), in the
    window (attention, training) or in a piece (job).
    """

    measure: str
    variant: str
    dtype: str  # of what is computed with; of the weights in decode, endless and job
    batch: int  # rows computed together
    position: int
    threads: int  # of torch on the CPU
    median_seconds: float | None = None  # of the repeats of one call
    p95_seconds: float | None = None
    tokens_per_second: float | None = None  # summed over rows
    # The library's median divided by this one at the same place of the same run: above 1 is faster.
    # None also where the library was called only once.
    ratio_to_library: float | None = None
    # What a stream carries from step to step, what a training step keeps for its backward pass
    # (memory) or holds at its peak, weights and optimizer included (training), what the process has
    # in RAM (endless), or what was read (floor).
    bytes: int | None = None
    rate: float | None = None  # bytes read per second of the fastest repeat (floor)
    # The least time that reading weights and state takes at the bandwidth of the same run, divided
    # by the median (decode).
    share_of_floor: float | None = None
    bits_per_token: float | None = None  # on held-out tokens (likelihood)
    targets: int | None = None  # held-out tokens that were predicted (likelihood)
    ready_seconds: float | None = None  # until a call could be timed: compiling, recording graphs
    repeats: int | None = None  # calls behind the median
    samples: tuple[float, ...] = ()  # seconds of each of them, in their order
    note: str = ""  # why there is no value
    setting: BenchmarkSetting = field(default=UNKNOWN, compare=False)

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
SETTING_KEYS = tuple(f.name for f in fields(BenchmarkSetting))
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
    setting = BenchmarkSetting(**{key: values[key] for key in SETTING_KEYS})
    return Record(**own, setting=setting)
