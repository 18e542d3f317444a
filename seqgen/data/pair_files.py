"""Files in pairs: NAME.source.EXT and NAME.target.EXT in one folder, or each line of two such."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from seqgen.data.corpora import Corpus
from seqgen.data.splits import content_hash
from seqgen.errors import FileRejected, UserError
from seqgen.files import atomic_folder, locked
from seqgen.tasks.pairs import partner_of

SIDES = ("source", "target")


def without_partners(corpus: Corpus) -> Corpus:
    """Return a corpus that lists each pair once, by its source.

    Files without a partner stay: whoever reads them says what is wrong with them.
    """
    targets = {target for _, target in _pairs(corpus)}
    labels = {file: label for file, label in corpus.labels.items() if file not in targets}
    return replace(corpus, labels=labels)


def lines_as_files(corpus: Corpus, cache: Path) -> Corpus:
    """Return a corpus of a pair of files for each line of the pairs of a corpus.

    They are written into a folder of `cache` once. Files without a partner stay.

    Raises:
        UserError: two files have different numbers of lines.
    """
    labels = dict(without_partners(corpus).labels)
    for source, target in _pairs(corpus):
        name = labels.pop(source)
        sides = [file.read_bytes().splitlines() for file in (source, target)]
        n_lines = [len(lines) for lines in sides]
        if n_lines[0] != n_lines[1]:
            raise UserError(
                f"data.pairs=lines: {source} has {n_lines[0]:,} lines and {target} has "
                f"{n_lines[1]:,}: each line of one belongs to the same line of the other"
            )
        folder = cache / f"lines-{content_hash(str(sides).encode())[:8]}"
        with locked(folder.with_name(f".{folder.name}.lock"), if_held=lambda holder: None):
            if not folder.is_dir():
                _write(folder, list(zip(*sides, strict=True)))
        for number, both in enumerate(zip(*sides, strict=True), start=1):
            if any(line.strip() for line in both):  # empty lines on both sides stand for nothing
                labels[_place(folder, number, "source")] = f"{name}:{number}"
    return replace(corpus, labels=labels)


def _pairs(corpus: Corpus) -> Iterator[tuple[Path, Path]]:
    """Yield the source and the target of each pair of a corpus."""
    for file in corpus.files:
        try:
            partner = partner_of(file)
        except FileRejected:
            continue
        if partner in corpus.labels and file.stem.endswith(".source"):
            yield file, partner


def _write(folder: Path, pairs: list[tuple[bytes, ...]]) -> None:
    with atomic_folder(folder) as temporary:
        for number, both in enumerate(pairs, start=1):
            for side, line in zip(SIDES, both, strict=True):
                place = _place(temporary, number, side)
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(line + b"\n")  # as an editor would end the file


def _place(folder: Path, number: int, side: str) -> Path:
    """Return where the line of a side is written, a thousand to a folder."""
    return folder / f"{number // 1000:04d}" / f"{number:07d}.{side}.txt"
