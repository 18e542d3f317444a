"""Which records belong together: by whose code it is, and by what they were measured on."""

import json
from collections.abc import Iterable, Sequence

from seqgen.benchmark.records import PUBLISHED, Record
from seqgen.benchmark.setting import Setting

OURS, LIBRARY, PEER = "ours", "library", "peer"
PEERS = {"full", "gpt2", "onnx", PUBLISHED}


def kind(record: Record) -> str:
    """Say whether a variant is ours, the library's linear attention, or a peer's."""
    words = set(record.variant.rpartition("/")[2].split("-"))
    if words & PEERS:
        return PEER
    return LIBRARY if "library" in words else OURS


def is_published(record: Record) -> bool:
    """Whether a figure is from a paper: it stands beside ours and is compared with nothing."""
    return record.note.startswith(f"{PUBLISHED}:")


def on_gpu(record: Record) -> bool:
    """Whether it was measured on a GPU."""
    return record.setting.device not in ("", "cpu")


def has_value(record: Record) -> bool:
    """Whether anything was measured, or published."""
    values = (record.median_seconds, record.tokens_per_second, record.bytes, record.rate)
    return any(value is not None for value in (*values, record.bits_per_token))


def scene(record: Record) -> str:
    """Name what times depend on besides the place: device, machine, model and threads."""
    setting = record.setting
    parts = (setting.device, dict(setting.hardware), dict(setting.sizes), record.threads)
    return json.dumps(parts, sort_keys=True)


def by_scene(records: Iterable[Record]) -> list[list[Record]]:
    """Put records of the same scene together, in the order in which scenes appear.

    What a paper says of a model stands with what we measured of the same model.
    """
    records = list(records)
    ours = {_subject(r): scene(r) for r in reversed(records) if not is_published(r)}
    found: dict[str, list[Record]] = {}
    for record in records:
        own = scene(record)
        name = _subject(record)
        key = ours.get(name, f"{PUBLISHED} {name}") if is_published(record) else own
        found.setdefault(key, []).append(record)
    return list(found.values())


def _subject(record: Record) -> str:
    """The model that a job is done with, if it is not the benchmark's own: mnist/native."""
    return record.variant.partition("/")[0] if "/" in record.variant else ""


def setting_line(records: Sequence[Record]) -> str:
    """Say in one line what was measured where: sizes, weights, device, threads, torch."""
    record = next((r for r in records if not is_published(r)), records[0])
    if is_published(record):
        return "published figures; of this model nothing was measured here"
    setting, n = record.setting, record.threads
    threads = f"{n} thread{'s' * (n != 1)}"
    if not setting.sizes:
        return f"model, machine and versions were not recorded; {threads}"
    sizes = setting.sizes
    return (
        f"{sizes['n_layers']} layers of width {sizes['d_model']}, {sizes['n_heads']} heads, "
        f"{sizes['parameters'] / 1e6:.1f}M parameters ({sizes['weights']}), "
        f"{setting.device}, {threads}, torch {setting.versions.get('torch', '?')}"
    )


def machine_line(setting: Setting) -> str:
    """Name processor, cores, instructions, memory and, if it is not the processor, the device."""
    machine = setting.hardware
    if not machine:
        return "machine not recorded"
    instructions = ", ".join(machine.get("instructions", ())) or "no wide instructions"
    words = f"{machine['cores']} cores of {machine['processor']} ({instructions})"
    gpu = f"{setting.device} with " * (setting.device not in ("", "cpu"))
    return f"{gpu}{words}, {machine['memory_gib']} GiB"
