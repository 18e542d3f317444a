"""Where files come from: a folder, one file, or a corpus described in datasets/."""

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import yaml

from seqgen.data.chorales import build_chorales
from seqgen.errors import UserError

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
Progress = Callable[[str, int, int], None]  # what is done, how many of it, of how many

# What is found in a folder and not read, besides files with other suffixes.
HIDDEN, UNREADABLE = "hidden file or folder", "unreadable file or folder"
BROKEN_LINK, KNOWN = "broken link", "link to a known file or folder"
SPECIAL = "pipe, socket or device"
PLURALS = {
    HIDDEN: "hidden files or folders",
    BROKEN_LINK: "broken links",
    KNOWN: "links to known files or folders",
    UNREADABLE: "unreadable files or folders",
    SPECIAL: "pipes, sockets or devices",
}
MOST_SUFFIXES = 8  # that a sentence names


@dataclass(frozen=True)
class Corpus:
    """A named list of source files.

    Attributes:
        passed_over: names of ignored files and folders, by kind: a suffix, or one of `PLURALS`.
    """

    name: str
    root: Path
    files: tuple[Path, ...]
    passed_over: Mapping[str, list[str]] = field(default_factory=dict)

    def label(self, file: Path) -> str:
        """Name a file within the corpus, for reports and indexes."""
        return file.relative_to(self.root).as_posix()


def open_corpus(
    source: str,
    suffixes: frozenset[str],
    *,
    cache: Path,
    progress: Progress | None = None,
    option: str = "data.source=",
) -> Corpus:
    """Find the files of `source` that end in one of `suffixes`.

    Args:
        source: a folder, a file, or the name of a folder in datasets/.
        suffixes: endings of usable files, lower case, with their dot.
        cache: folder in which an embedded corpus is written once.
        progress: told how far a corpus that must be built is.
        option: how whoever named `source` did so, for messages.

    Raises:
        UserError: nothing there, or no file of the kind.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return Corpus(path.stem, path.parent, (path,))
    if path.is_dir():
        return _from_folder(path.resolve().name, path, suffixes)
    described = DATASETS / source / "dataset.yaml"
    if "/" not in source and described.is_file():
        return _from_dataset(described, suffixes, cache=cache, progress=progress, option=option)
    known = sorted(p.parent.name for p in DATASETS.glob("*/dataset.yaml"))
    raise UserError(
        f"{option}{source}: no such folder or file, and no corpus of that name "
        f"(known corpora: {', '.join(known) or 'none'})"
    )


def _from_dataset(
    described: Path,
    suffixes: frozenset[str],
    *,
    cache: Path,
    progress: Progress | None,
    option: str,
) -> Corpus:
    record = yaml.safe_load(described.read_text())
    name = record["name"]
    if record["importer"] == "music21-chorales":
        if ".mid" not in suffixes:
            raise UserError(f"the corpus {name} is MIDI; choose a MIDI tokenizer, or other data")
        tell = progress and partial(progress, "writing chorales")
        folder = build_chorales(cache / name, progress=tell)
        # What lies beside the pieces there is our own.
        return replace(_from_folder(name, folder, suffixes), passed_over={})
    folder = described.parent / record["folder"]
    if not folder.is_dir():
        raise UserError(
            f"the files of {name} are not here: {described.parent / 'README.md'} says how to "
            f"get them, then put them in {folder} or name their folder by {option}FOLDER"
        )
    return _from_folder(name, folder, suffixes)


def describe_passed_over(counts: Mapping[str, int]) -> str:
    """Say how many files of each kind were passed over: "5 with other suffixes (.kar), 2 …"."""
    suffixes = sorted(counts.keys() - PLURALS, key=lambda suffix: (-counts[suffix], suffix))
    parts = []
    if suffixes:
        n = sum(counts[suffix] for suffix in suffixes)
        named = ", ".join(suffixes[:MOST_SUFFIXES]) + (", …" if suffixes[MOST_SUFFIXES:] else "")
        parts.append(f"{n} with {'another suffix' if n == 1 else 'other suffixes'} ({named})")
    for kind, plural in PLURALS.items():
        if kind in counts:
            parts.append(f"{counts[kind]} {kind if counts[kind] == 1 else plural}")
    return ", ".join(parts)


def _from_folder(name: str, folder: Path, suffixes: frozenset[str]) -> Corpus:
    found, passed_over = _walk(folder)
    files = []
    for file in found:
        if file.suffix.lower() in suffixes:
            files.append(file)
        else:
            kind = file.suffix.lower() or "none"
            passed_over[kind].append(file.relative_to(folder).as_posix())
    if not files:
        counts = {kind: len(names) for kind, names in passed_over.items()}
        holds = describe_passed_over(counts) or "no file at all"
        raise UserError(f"no {' or '.join(sorted(suffixes))} file in {folder}: it holds {holds}")
    return Corpus(name, folder, tuple(files), dict(passed_over))


def _walk(folder: Path) -> tuple[list[Path], dict[str, list[str]]]:
    """Find all files below a folder, in order of name, and by kind what is passed over.

    Links are followed when all else is found, so that every file has its own name if it has one
    in the folder; folders found before are not entered again, so that links form no endless loop.
    """
    files, passed_over = [], defaultdict(list)
    known = set()  # files and folders by device and number
    pending = [folder]
    links: list[Path] = []
    while pending or links:
        is_link = not pending
        path = links.pop() if is_link else pending.pop()
        name = path.relative_to(folder).as_posix()
        try:
            status = path.stat()
        except OSError:
            passed_over[BROKEN_LINK if is_link else UNREADABLE].append(name)
            continue
        if (status.st_dev, status.st_ino) in known:
            passed_over[KNOWN].append(name)
            continue
        known.add((status.st_dev, status.st_ino))
        if stat.S_ISREG(status.st_mode):
            files.append(path)
        elif not stat.S_ISDIR(status.st_mode):
            passed_over[SPECIAL].append(name)
        else:
            try:
                with os.scandir(path) as entries:
                    children = sorted(entries, key=lambda entry: entry.name)
            except OSError:
                passed_over[UNREADABLE].append(name)
                continue
            for child in reversed(children):
                if child.name.startswith("."):
                    inside = path / child.name
                    passed_over[HIDDEN].append(inside.relative_to(folder).as_posix())
                else:
                    (links if child.is_symlink() else pending).append(path / child.name)
    return sorted(files), passed_over
