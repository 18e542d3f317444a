"""What a number was measured on: the model's sizes, the machine, the versions and the command."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from seqgen.benchmark.machine import device_name, environment, hardware, versions
from seqgen.benchmark.subject import Subject

SIZES = ("n_layers", "n_heads", "d_model", "d_ff", "input_window", "feature_map", "positions")


@dataclass(frozen=True)
class Setting:
    """What stands beside each number.

    Attributes:
        device: "cpu" or the GPU's name.
        hardware: processor, cores, its instructions and memory; of the machine, also beside a GPU.
        versions: of Python and of each package that takes part.
        sizes: of the model, its parameters, and whether its weights were trained.
        environment: what is set there of how threads work.
        command: what was typed.
        revision: the commit that was run; nothing where that is not known.
    """

    device: str = ""
    hardware: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    revision: str | None = None

    @classmethod
    def here(cls, subject: Subject, *, command: str = "", revision: str | None = None) -> "Setting":
        """Describe this machine and a subject."""
        return cls(
            device=device_name(subject.device),
            hardware=hardware(),
            versions=versions(),
            sizes=sizes_of(subject),
            environment=environment(),
            command=command,
            revision=revision,
        )

    @classmethod
    def of_json(cls, values: Mapping) -> "Setting":
        """Take its own keys out of a record's."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def to_json(self) -> dict:
        """Return its keys, as they stand in each record."""
        return asdict(self)


NOWHERE = Setting()


def sizes_of(subject: Subject) -> dict[str, object]:
    """Give the model's sizes, its number of parameters and where its weights are from."""
    config = subject.config
    return {name: getattr(config, name) for name in SIZES} | {
        "vocabulary": list(subject.model.vocabulary.sizes),
        "parameters": sum(p.numel() for p in subject.model.parameters()),
        "weights": subject.weights,
    }
