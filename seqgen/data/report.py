"""What became of the files of a corpus: counted for people, in report.json and on screen.

Legend: P pieces.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from seqgen.data.corpora import Corpus
from seqgen.data.shards import SPLITS, Pieces
from seqgen.tokenizers import Tokenizer

MOST_NAMED = 1000  # files of a kind, or groups, that the report names


def count_files(
    corpus: Corpus, pieces: Pieces, skipped: Sequence[dict], kinds: Counter[str], unit: str
) -> dict:
    """Count files and, by split, pieces, tokens and units; name the files that were not used.

    `skipped` are the first ones of them, `kinds` counts all.
    """
    per_split = {}
    for split in SPLITS:
        of_split = pieces.of_split(split)
        per_split[split] = {
            "pieces": len(of_split),
            "tokens": int(of_split.lengths.sum()),
            f"{unit}s": int(of_split.column("units").sum()),
        }
    return {
        "corpus": corpus.name,
        "files_seen": len(corpus.labels),
        "files_used": len(corpus.labels) - kinds.total(),
        "files_skipped": kinds.total(),
        "skipped_by_kind": dict(kinds),
        "splits": per_split,
        "skipped": list(skipped),
        "passed_over_by_kind": {kind: len(names) for kind, names in corpus.passed_over.items()},
        "passed_over": {kind: names[:MOST_NAMED] for kind, names in corpus.passed_over.items()},
    }


def name_groups(pieces: Pieces, groups: np.ndarray) -> Iterator[list[str]]:
    """Name the files of each group of several; copies of one file are a group, too.

    `groups` are the numbers of the groups of the pieces [P].
    """
    order = np.argsort(groups, kind="stable")
    _, firsts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    several = counts > 1
    firsts, counts = firsts[several], counts[several]
    for group in np.argsort(order[firsts]):
        members = order[firsts[group] : firsts[group] + counts[group]]
        yield [pieces.file(number) for number in members]


def explain_choices(tokenizer: Tokenizer, chosen: dict[str, str]) -> dict[str, dict]:
    """Return the settings that were chosen from the corpus, each with its reason."""
    settings = tokenizer.config.model_dump()
    return {key: {"value": settings[key], "because": why} for key, why in chosen.items()}


def say_nothing_usable(corpus: Corpus, skipped: Sequence[dict], kinds: Counter[str]) -> str:
    """Say that no file of a corpus can be used, and why the first cannot."""
    seen = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    first = skipped[0]
    return (
        f"no usable file in {' and '.join(corpus.sources.values())}: {kinds.total()} seen "
        f"({seen}); the first, {first['file']}: {first['reason']}"
    )
