"""Where files come from: a folder, one file, or a corpus described in datasets/."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from seqgen.data.chorales import build_chorales
from seqgen.errors import UserError

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
Progress = Callable[[str, int, int], None]  # what is done, how many of it, of how many


@dataclass(frozen=True)
class Corpus:
    """A named list of source files."""

    name: str
    root: Path
    files: tuple[Path, ...]

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
        tell = progress and (lambda done, total: progress("writing chorales", done, total))
        folder = build_chorales(cache / name, progress=tell)
    else:
        folder = described.parent / record["folder"]
        if not folder.is_dir():
            raise UserError(
                f"the files of {name} are not here: {described.parent / 'README.md'} says how to "
                f"get them, then put them in {folder} or name their folder by {option}FOLDER"
            )
    return _from_folder(name, folder, suffixes)


def _from_folder(name: str, folder: Path, suffixes: frozenset[str]) -> Corpus:
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )
    if not files:
        seen = sorted({file.suffix or file.name for file in folder.rglob("*") if file.is_file()})
        has = f"only {', '.join(seen[:8])} files" if seen else "no file at all"
        wanted = " or ".join(sorted(suffixes))
        raise UserError(f"no {wanted} file in {folder}: it holds {has}")
    return Corpus(name, folder, tuple(files))
