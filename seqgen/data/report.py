"""What became of the files of a corpus: counted for people, in report.json and on screen."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from seqgen.data.corpora import Corpus
from seqgen.data.shards import Piece
from seqgen.data.splits import SPLITS
from seqgen.tokenizers import Tokenizer, total_account

MOST_NAMED = 1000  # files of a kind that the report names of those passed over


def count_files(corpus: Corpus, pieces: list[Piece], skipped: list[dict], unit: str) -> dict:
    """Count files and, by split, pieces, tokens and units; name the files that were not used."""
    per_split = {
        split: {
            "pieces": sum(p.split == split for p in pieces),
            "tokens": sum(p.variants[0][1] for p in pieces if p.split == split),
            f"{unit}s": sum(p.units for p in pieces if p.split == split),
        }
        for split in SPLITS
    }
    return {
        "corpus": corpus.name,
        "files_seen": len(corpus.files),
        "files_used": len(corpus.files) - len(skipped),
        "files_skipped": len(skipped),
        "skipped_by_kind": dict(Counter(entry["kind"] for entry in skipped)),
        "splits": per_split,
        "skipped": skipped,
        "passed_over_by_kind": {kind: len(names) for kind, names in corpus.passed_over.items()},
        "passed_over": {kind: names[:MOST_NAMED] for kind, names in corpus.passed_over.items()},
    }


def name_groups(pieces: Sequence[Piece], groups: Sequence[str]) -> list[list[str]]:
    """Name the files of each group of several; copies of one file are a group, too."""
    members = defaultdict(list)
    for piece, group in zip(pieces, groups, strict=True):
        members[group].append(piece.file)
    return [files for files in members.values() if len(files) > 1]


def explain_choices(tokenizer: Tokenizer, chosen: dict[str, str]) -> dict[str, dict]:
    """Return the settings that were chosen from the corpus, each with its reason."""
    settings = tokenizer.config.model_dump()
    return {key: {"value": settings[key], "because": why} for key, why in chosen.items()}


def sum_accounts(accounts: dict[str, dict]) -> dict:
    """Return what became of the files in tokens, in sum and for each that has an account."""
    known = {name: account for name, account in accounts.items() if account}
    if not known:
        return {}
    each = {name: total_account([account]) for name, account in known.items()}
    return {"account": total_account(known.values()), "account_by_file": each}


def say_nothing_usable(corpus: Corpus, skipped: Sequence[dict]) -> str:
    """Say that no file of a corpus can be used, and why the first cannot."""
    kinds = Counter(entry["kind"] for entry in skipped)
    seen = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    first = skipped[0]
    return (
        f"no usable file in {' and '.join(corpus.sources.values())}: {len(skipped)} seen ({seen}); "
        f"the first, {first['file']}: {first['reason']}"
    )
