"""How two runs differ in what they were measured on."""

from collections.abc import Iterable, Iterator

from seqgen.benchmark.records import Record

MACHINE = ("processor", "cores", "instructions")  # memory that a system reports varies a little


def same_scene(before: Record, after: Record) -> bool:
    """Whether times may be compared: device, machine, threads and sizes are known and the same."""
    return not any(strict for strict, _ in _differences(before, after))


def same_model(before: Record, after: Record) -> bool:
    """Whether bytes and bits may be compared: sizes and weights are the same, or both unknown."""
    return dict(before.setting.sizes) == dict(after.setting.sizes)


def difference_sentences(pairs: Iterable[tuple[Record, Record]]) -> Iterator[str]:
    """Say once what differs anywhere, and what that means."""
    found = dict.fromkeys(found for pair in pairs for found in _differences(*pair))
    for strict, words in found:
        yield f"{words}: times are not compared, only ratios." if strict else f"{words}."


def _differences(before: Record, after: Record) -> Iterator[tuple[bool, str]]:
    """Yield what differs, in words, and whether times cannot be compared for it."""
    a, b = before.setting, after.setting
    if not (a.hardware and b.hardware):
        which = "either" if not (a.hardware or b.hardware) else "one"
        yield True, f"The machine of {which} run was not recorded"
    else:
        for key in MACHINE:
            if a.hardware.get(key) != b.hardware.get(key):
                yield True, _words(f"other {key}", a.hardware.get(key), b.hardware.get(key))
    if a.device != b.device:
        yield True, _words("another device", a.device or "?", b.device or "?")
    if before.threads != after.threads:
        yield True, _words("other threads", before.threads, after.threads)
    for key in sorted({*a.sizes, *b.sizes} - {"weights"}):
        if a.sizes.get(key) != b.sizes.get(key):
            yield True, _words(f"another model ({key})", a.sizes.get(key), b.sizes.get(key))
    if a.sizes.get("weights") != b.sizes.get("weights"):
        yield False, _words("other weights", a.sizes.get("weights"), b.sizes.get("weights"))
    for key in sorted({*a.versions, *b.versions}):
        if a.versions.get(key) != b.versions.get(key):
            yield False, _words(f"another {key}", a.versions.get(key), b.versions.get(key))
    if a.command != b.command:
        yield False, _words("another command", f"`{a.command}`", f"`{b.command}`")


def _words(what: str, before: object, after: object) -> str:
    return f"{what[0].upper()}{what[1:]}: {_plain(before)}, then {_plain(after)}"


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(map(str, value)) or "none"
    return "none" if value in (None, "", "``") else str(value)
