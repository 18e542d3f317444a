"""Files in pairs: NAME.source.EXT and NAME.target.EXT in one folder, or each line of two such."""

from bisect import bisect_left
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from seqgen.data.corpora import Corpus, Labels, label_parts, line_path
from seqgen.data.splits import content_hash
from seqgen.errors import FileRejected, UserError
from seqgen.files import atomic_folder, locked
from seqgen.tasks.pairs import partner_of

SIDES = ("source", "target")


def without_partners(corpus: Corpus) -> Corpus:
    """Return a corpus that lists each pair once, by its source.

    Files without a partner stay: whoever reads them says what is wrong with them.
    """
    labels = (one for one in corpus.labels if _partner(corpus, one, side="target") is None)
    return replace(corpus, labels=Labels(labels))


def lines_as_files(corpus: Corpus, cache: Path) -> Corpus:
    """Return a corpus of a pair of files for each line of the pairs of a corpus.

    They are written into a folder of `cache` once. Files without a partner stay.

    Raises:
        UserError: two files have different numbers of lines.
    """
    folders: dict[str, str] = {}
    told: list[Labels] = []
    for source in corpus.labels:
        target = _partner(corpus, source, side="source")
        if target is None:
            continue
        files = [corpus.path(label) for label in (source, target)]
        sides = [file.read_bytes().splitlines() for file in files]
        n_lines = [len(lines) for lines in sides]
        if n_lines[0] != n_lines[1]:
            raise UserError(
                f"data.pairs=lines: {files[0]} has {n_lines[0]:,} lines and {files[1]} has "
                f"{n_lines[1]:,}: each line of one belongs to the same line of the other"
            )
        folder = (cache / f"lines-{content_hash(str(sides).encode())[:8]}").resolve()
        with locked(folder.with_name(f".{folder.name}.lock"), if_held=lambda holder: None):
            if not folder.is_dir():
                _write(folder, list(zip(*sides, strict=True)))
        folders[source] = str(folder)
        told.append(
            Labels(
                f"{source}:{number}"
                for number, both in enumerate(zip(*sides, strict=True), start=1)
                if any(line.strip() for line in both)  # else both stand for nothing
            )
        )
    others = (one for one in without_partners(corpus).labels if one not in folders)
    return replace(corpus, labels=Labels(chain(others, *told)), lines=folders)


def _partner(corpus: Corpus, label: str, *, side: str) -> str | None:
    """Return the label of the other file of a pair; None where there is none in the corpus.

    `side` is the one that the file must be of.
    """
    if not PurePosixPath(label).stem.endswith(f".{side}"):
        return None
    try:
        partner = str(PurePosixPath(label).with_name(partner_of(corpus.path(label)).name))
    except FileRejected:
        return None
    place = bisect_left(corpus.labels, label_parts(partner), key=label_parts)
    return partner if partner in corpus.labels[place : place + 1] else None


def _write(folder: Path, pairs: list[tuple[bytes, ...]]) -> None:
    with atomic_folder(folder) as temporary:
        for number, both in enumerate(pairs, start=1):
            for side, line in zip(SIDES, both, strict=True):
                place = line_path(temporary, number, side)
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(line + b"\n")  # as an editor would end the file
