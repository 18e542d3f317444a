"""Where files come from: folders, files, and corpora described in datasets/."""

import os
import stat
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count, pairwise
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, cast, overload

import yaml

from seqgen.data.chorales import CHORALES
from seqgen.data.folk import FOLK
from seqgen.data.image_sets import build_digits, build_sets, find, read_cifar, read_idx
from seqgen.data.score_corpora import ScoreCorpus, build_scores
from seqgen.data.splits import TEST, TRAIN
from seqgen.data.voice_grids import build_grids
from seqgen.errors import UserError
from seqgen.files import project_folder
from seqgen.tokenizers import modality

DATASETS = project_folder("datasets")
# By importer: what reads files of many images, and how their names may go on.
IMAGE_FILES = {"idx-images": (read_idx, ("", ".gz")), "cifar-batches": (read_cifar, ("", ".bin"))}
SCORES: dict[str, ScoreCorpus[Any]] = {  # by importer
    "music21-chorales": CHORALES,
    "music21-folk": FOLK,
}
Progress = Callable[[str, int, int], None]  # what is done, how many of it, of how many
T = TypeVar("T")

# What is found in a folder and not read, besides files with other suffixes.
HIDDEN, UNREADABLE = "hidden file or folder", "unreadable file or folder"
BROKEN_LINK, KNOWN = "broken link", "file or folder reached twice"
SPECIAL = "pipe, socket or device"
PLURALS = {
    HIDDEN: "hidden files or folders",
    BROKEN_LINK: "broken links",
    KNOWN: "files or folders reached twice",
    UNREADABLE: "unreadable files or folders",
    SPECIAL: "pipes, sockets or devices",
}
MOST_SUFFIXES = 8  # that a sentence names
ONLY = "."  # the name of a folder that is the only source: labels do not begin with it


def tracked(items: Sequence[T], what: str, progress: Progress) -> Iterator[T]:
    """Yield items, and report after each how many are done."""
    for done, item in enumerate(items, start=1):
        yield item
        progress(what, done, len(items))


class Labels(Sequence[str]):
    """Names in one array of bytes: a list of ten million strings would take ten times as much."""

    def __init__(self, labels: Iterable[str]):
        self._bytes, self._ends = bytearray(), array("Q", [0])
        for label in labels:
            self._bytes += os.fsencode(label)
            self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        i = range(len(self))[number]
        return os.fsdecode(bytes(self._bytes[self._ends[i] : self._ends[i + 1]]))


@dataclass(frozen=True)
class Corpus:
    """A named list of source files.

    Attributes:
        labels: what each file is called within the corpus, in reports and indexes, in order. Where
            there are several sources, a label begins with the name of its source.
        sources: absolute path of each source, by name; see `locate`.
        passed_over: names of ignored files and folders, by kind: a suffix, or one of `PLURALS`.
        splits: the published split of files that have one, by their label.
        lines: folders that hold the lines of files, by label of the file; see `line_path`.
    """

    name: str
    labels: Sequence[str]
    sources: Mapping[str, str]
    passed_over: Mapping[str, list[str]] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict)

    @property
    def places(self) -> "Places":
        """Where the files are."""
        return Places(self.sources, self.lines)

    def path(self, label: str) -> Path:
        """Return the path of a file by its label."""
        return self.places.path(label)


@dataclass(frozen=True)
class Places:
    """Where the files of a corpus are, without a list of them."""

    sources: Mapping[str, str]
    lines: Mapping[str, str]

    def path(self, label: str) -> Path:
        """Return the path of a file by its label."""
        file, _, number = label.rpartition(":")
        if file in self.lines:
            return line_path(Path(self.lines[file]), int(number), "source")
        return cast(Path, locate(self.sources, label))


def line_path(folder: Path, number: int, side: str) -> Path:
    """Return where the line of a side of a pair is written, a thousand to a folder."""
    return folder / f"{number // 1000:04d}" / f"{number:07d}.{side}.txt"


@dataclass(frozen=True)
class _Source:
    """A folder or a file.

    Attributes:
        is_ours: we wrote the folder, and other files in it are no news.
        has_splits: the folder holds one folder for each split.
    """

    name: str
    path: Path
    is_ours: bool = False
    has_splits: bool = False


def locate(sources: Mapping[str, str], label: str) -> Path | None:
    """Return the path of a file by its label in a corpus; None where the label is of no file."""
    if ONLY in sources:
        return Path(sources[ONLY]) / label
    name, _, inside = label.partition("/")
    return Path(sources[name]) / inside if name in sources else None


def open_corpus(
    source: str | Sequence[str],
    suffixes: frozenset[str],
    *,
    cache: Path,
    progress: Progress | None = None,
    option: str = "data.source=",
) -> Corpus:
    """Find the files of a source, or of several, that end in one of `suffixes`.

    A file that is reached twice, by a link or by way of another source, is listed once.

    Args:
        source: a folder, a file, or the name of a folder in datasets/; or several of these.
        suffixes: endings of usable files, lower case, with their dot.
        cache: folder in which an embedded corpus is written once.
        progress: told how far a corpus that must be built is.
        option: how whoever named `source` did so, for messages.

    Raises:
        UserError: nothing there, or no file of the kind; it names the source.
    """
    given = [source] if isinstance(source, str) else source
    opened = [_open(one, suffixes, cache=cache, progress=progress, option=option) for one in given]
    first = opened[0]
    if len(opened) > 1:
        name, named = f"{first.name}+{len(opened) - 1}", _with_own_names(opened)
    elif first.path.is_file():
        name, named = first.path.stem, {first.path.name: first}
    else:
        name, named = first.name, {ONLY: first}
    labels, passed_over = _search(named, suffixes)
    sources = {name: str(one.path.resolve()) for name, one in named.items()}
    return Corpus(name, labels, sources, passed_over, _published_splits(labels, named))


def _published_splits(labels: Iterable[str], sources: Mapping[str, _Source]) -> dict[str, str]:
    """Return the splits that folders are named after, by label."""
    splits: dict[str, str] = {}
    if not any(source.has_splits for source in sources.values()):
        return splits
    for label in labels:
        name, _, inside = (ONLY, "", label) if ONLY in sources else label.partition("/")
        if sources[name].has_splits:
            splits[label] = inside.partition("/")[0]
    return splits


def _open(
    source: str,
    suffixes: frozenset[str],
    *,
    cache: Path,
    progress: Progress | None,
    option: str,
) -> _Source:
    path = Path(source).expanduser()
    if path.is_file():
        return _Source(path.name, path)
    if path.is_dir():
        return _Source(path.resolve().name, path)
    described = DATASETS / source / "dataset.yaml"
    if "/" not in source and described.is_file():
        return _open_dataset(described, suffixes, cache=cache, progress=progress, option=option)
    known = sorted(p.parent.name for p in DATASETS.glob("*/dataset.yaml"))
    raise UserError(
        f"{option}{source}: no such folder or file, and no corpus of that name "
        f"(known corpora: {', '.join(known) or 'none'})"
    )


def _open_dataset(
    described: Path,
    suffixes: frozenset[str],
    *,
    cache: Path,
    progress: Progress | None,
    option: str,
) -> _Source:
    record = yaml.safe_load(described.read_text())
    name = record["name"]
    holds = modality(record["type"])
    if holds.suffix not in suffixes:
        raise UserError(
            f"the corpus {name} holds {holds.kind}: choose tokenizer.type={record['type']} or "
            f"another one for it, or other data"
        )
    if record["importer"] in SCORES:
        scores = SCORES[record["importer"]]
        tell = progress and partial(progress, f"writing {scores.pieces}")
        return _Source(name, build_scores(scores, cache / name, progress=tell), is_ours=True)
    if record["importer"] == "sklearn-digits":
        tell = progress and partial(progress, "writing images")
        return _Source(name, build_digits(cache / name, progress=tell), is_ours=True)
    readme = described.parent / "README.md"
    if record["importer"] in IMAGE_FILES:
        read, endings = IMAGE_FILES[record["importer"]]
        way_out = f"{readme} says how to get the files of {name}"
        files = {
            split: find(described.parent, record[split], endings, way_out=way_out)
            for split in (TRAIN, TEST)
        }
        tell = progress and partial(progress, "writing images")
        n_validation = record["n_validation"]
        folder = build_sets(files, cache / name, read, n_validation=n_validation, progress=tell)
        return _Source(name, folder, is_ours=True, has_splits=True)
    if record["importer"] == "voice-grids":
        file = described.parent / record["file"]
        if not file.is_file():
            raise UserError(f"the file of {name} is not here: {readme} says how to get {file}")
        tell = progress and partial(progress, "writing pieces")
        folder = build_grids(file, cache / name, per_beat=record["per_beat"], progress=tell)
        return _Source(name, folder, is_ours=True, has_splits=True)
    folder = described.parent / record["folder"]
    if not folder.is_dir():
        raise UserError(
            f"the files of {name} are not here: {readme} says how to "
            f"get them, then put them in {folder} or name their folder by {option}FOLDER"
        )
    return _Source(name, folder)


def describe_licence(source: str) -> str | None:
    """Name a corpus of datasets/, where it comes from, and its licence; None for other sources."""
    described = DATASETS / source / "dataset.yaml"
    if "/" in source or not described.is_file():
        return None
    record = yaml.safe_load(described.read_text())
    return f"{record['title']}: {record['source']}. Licence: {record['licence']}"


def published_figures(source: str | Sequence[str]) -> str | None:
    """Return what papers report for the test set of a corpus of datasets/; None: nothing."""
    described = DATASETS / source / "dataset.yaml" if isinstance(source, str) else None
    if described is None or "/" in source or not described.is_file():
        return None
    return yaml.safe_load(described.read_text()).get("published")


def _with_own_names(sources: Sequence[_Source]) -> dict[str, _Source]:
    """Name each source, also those with the name of an earlier one: "midi", "midi-2"."""
    named: dict[str, _Source] = {}
    for source in sources:
        numbered = (f"{source.name}-{i}" for i in count(2))
        name = next(name for name in chain([source.name], numbered) if name not in named)
        named[name] = source
    return named


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


def _search(
    sources: Mapping[str, _Source], suffixes: frozenset[str]
) -> tuple[Labels, dict[str, list[str]]]:
    """Find all usable files; return their labels, in order, and by kind what is passed over."""
    passed_over: list[tuple[str, str]] = []

    def usable() -> Iterator[str]:
        for label in _walk({name: source.path for name, source in sources.items()}, passed_over):
            suffix = PurePosixPath(label).suffix.lower()
            if suffix in suffixes or label in sources:  # a source that is a file is chosen by name
                yield label
            else:
                passed_over.append((suffix or "none", label))

    labels = Labels(usable())
    if not all(a <= b for a, b in pairwise(map(label_parts, labels))):  # links come last
        labels = Labels(sorted(labels, key=label_parts))
    holding = {label.partition("/")[0] for label in labels} if ONLY not in sources else {ONLY}
    for name, source in sources.items():
        holds = Counter(kind for kind, label in passed_over if _is_of(label, name))
        is_elsewhere = KNOWN in holds and len(labels)
        if not is_elsewhere and not (len(labels) and name in holding):
            endings = " or ".join(sorted(suffixes))
            inside = describe_passed_over(holds) or "no file at all"
            raise UserError(f"no {endings} file in {source.path}: it holds {inside}")
    named = defaultdict(list)
    for kind, label in passed_over:
        if not any(source.is_ours and _is_of(label, name) for name, source in sources.items()):
            named[kind].append(label)
    return labels, dict(named)


def label_parts(label: str) -> list[str]:
    """Return what labels are ordered by."""
    return label.split("/")


def _is_of(label: str, name: str) -> bool:
    """Tell whether a label belongs to the source of that name."""
    return name == ONLY or label.partition("/")[0] == name


def _walk(places: Mapping[str, Path], passed_over: list[tuple[str, str]]) -> Iterator[str]:
    """Yield the labels of all files at and below some places, given by name.

    The kind and the label of what is passed over are added to `passed_over`. Links are followed
    when all else is found, so that every file has its own name if it has one at any place; folders
    found before are not entered again, so that links form no endless loop.
    """
    known = set()  # files and folders by device and number
    pending = [(str(path), name) for name, path in reversed([*places.items()])]
    links: list[tuple[str, str]] = []
    while pending or links:
        is_link = not pending
        path, label = links.pop() if is_link else pending.pop()
        try:
            status = os.stat(path)  # noqa: PTH116  a Path for each of millions takes memory
        except OSError:
            passed_over.append((BROKEN_LINK if is_link else UNREADABLE, label))
            continue
        place = status.st_dev << 64 | status.st_ino
        if place in known:
            passed_over.append((KNOWN, label))
            continue
        known.add(place)
        if stat.S_ISREG(status.st_mode):
            yield label
        elif not stat.S_ISDIR(status.st_mode):
            passed_over.append((SPECIAL, label))
        else:
            try:
                with os.scandir(path) as entries:
                    children = sorted(entries, key=lambda entry: entry.name, reverse=True)
            except OSError:
                passed_over.append((UNREADABLE, label))
                continue
            inside = "" if label == ONLY else f"{label}/"
            for child in children:
                if child.name.startswith("."):
                    passed_over.append((HIDDEN, inside + child.name))
                else:
                    waiting = links if child.is_symlink() else pending
                    waiting.append((child.path, inside + child.name))
