"""From source files to prepared data: survey, tokenize, split by file, write, report.

What grows with the number of files lies in arrays or on disk; no object is kept for each.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from seqgen.config import FILES, LINES, DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data.corpora import Corpus, Progress, open_corpus
from seqgen.data.duplicates import find_duplicates
from seqgen.data.encoding import Readers
from seqgen.data.examine import Sketches, Surveying, Tokenized, Tokenizing, tokenizer_files
from seqgen.data.pair_files import lines_as_files, without_partners
from seqgen.data.passes import LocalEngine, Pass, PassEngine, run_pass, to_shards
from seqgen.data.report import (
    MOST_NAMED,
    count_files,
    explain_choices,
    name_groups,
    say_nothing_usable,
)
from seqgen.data.shards import (
    FORMAT,
    HASH,
    INDEX,
    NAMES,
    PIECES,
    REPORT,
    TOKENIZER,
    TOKENS,
    VARIANTS,
    Pieces,
    PreparedData,
    StoredPiece,
    TableWriter,
    TokenWriter,
    make_table,
    open_table,
    read_index,
)
from seqgen.data.splits import SPLITS, TRAIN, assign, cut
from seqgen.errors import UserError
from seqgen.files import (
    atomic_folder,
    checksums,
    json_ready,
    locked,
    sweep,
    write_json,
    write_record,
)
from seqgen.tasks import (
    BarReader,
    check_known,
    check_possible,
    has_tasks,
    level_borders,
    open_pairs,
    with_marks,
)
from seqgen.tokenizers import (
    Shift,
    Tokenizer,
    add_accounts,
    build_tokenizer,
    modality,
    settled,
    total_account,
)
from seqgen.vocabulary import Vocabulary

# Settings that do not change what comes out; of tasks, the names do.
PLACES = {"source", "prepared_dir", "workers", "tasks"}
MAX_BPE_PIECES = 2000  # merges hardly change beyond this many
MAX_LEVEL_PIECES = 2000  # nor do the levels of controls
SMALL = 100  # files up to which any may have to become a training file
AT_A_TIME = 1000  # pieces that are rewritten together
LISTING, DUPLICATES = "files.jsonl", "near-duplicates.jsonl"  # beside the report, which counts
SKETCHES = "sketches.bin"  # of all pieces; see `Sketches`


@dataclass(frozen=True)
class Preparation:
    """Prepared data, and whether they were made by this call."""

    data: PreparedData
    built: bool


def prepare(
    config: DataConfig,
    limits: LimitsConfig,
    tokenizer_config: TokenizerConfig,
    *,
    tokenizer: Tokenizer | None = None,
    engine: PassEngine | None = None,
    progress: Progress | None = None,
) -> Preparation:
    """Prepare the data of a source, unless that was done before.

    A preparation that was killed goes on where it was, as long as files and settings are the same.

    Args:
        config: source, splits and augmentation.
        limits: limits for each file.
        tokenizer_config: builds the tokenizer, unless one is given; what it leaves open is chosen
            from the files.
        tokenizer: a finished tokenizer (fine-tuning uses the run's own).
        engine: reads the files; None: processes of this machine. The result is the same.
        progress: told what is being done, how many of it, of how many.

    Raises:
        UserError: no usable file, or the folder holds something else.
    """
    if tokenizer is None:
        check_possible(tokenizer_config, config)
    made_by = tokenizer.fingerprint() if tokenizer else tokenizer_config.model_dump()
    learns_merges = tokenizer is None and tokenizer_config.bpe_vocab_size is not None
    suffixes = (tokenizer or build_tokenizer(tokenizer_config, limits)).suffixes
    base = Path(config.prepared_dir)
    corpus = open_corpus(config.source, suffixes, cache=base / "corpora", progress=progress)
    settings = [
        FORMAT,
        corpus.sources,
        config.model_dump(exclude=PLACES),
        sorted(config.tasks),
        limits.model_dump(),
        made_by,
    ]
    # Other sources and settings have their own folder; new or changed files make one stale.
    folder = base / f"{corpus.name}-{tokenizer_config.type}-{_hash(settings)[:8]}"
    states = _states(corpus)
    fingerprint = _hash([settings, states])
    if config.pairs == LINES:
        if (tokenizer or build_tokenizer(tokenizer_config, limits)).clock() is not None:
            raise UserError("data.pairs=lines is for text: use files, or parts of one file")
        corpus = lines_as_files(corpus, base / "corpora")
    elif config.pairs == FILES:
        corpus = without_partners(corpus)
    if _is_current(folder, corpus, fingerprint):
        return Preparation(PreparedData(folder), built=False)

    def wait(holder: str) -> None:
        if progress:
            progress(f"waiting for {holder}, which prepares the same data", 0, 1)

    with locked(base / f".{folder.name}.lock", if_held=wait):
        if _is_current(folder, corpus, fingerprint):  # built by the process that was waited for
            return Preparation(PreparedData(folder), built=False)
        sweep(base)
        chosen: dict[str, str] = {}
        with Readers(limits, workers=config.workers) as readers:
            reading = _Reading(
                engine or LocalEngine(readers),
                corpus,
                # The file of a pair that is not listed counts, too.
                settings if config.pairs is None else fingerprint,
                states if config.pairs is None else _states(corpus),
                base / f".{folder.name}.shards",
                progress or _silent,
            )
            if tokenizer is None:
                tokenizer_config, chosen = _settle(tokenizer_config, limits, reading)
                if has_tasks(config):
                    tokenizer_config = with_marks(settled(tokenizer_config), config)
                tokenizer = build_tokenizer(tokenizer_config, limits)
            else:
                check_known(tokenizer.config, config)
            _build(
                folder,
                reading,
                config,
                limits,
                tokenizer,
                n_merged=tokenizer_config.bpe_vocab_size if learns_merges else None,
                chosen=chosen,
                fingerprint=fingerprint,
            )
        shutil.rmtree(reading.folder)
    return Preparation(PreparedData(folder), built=True)


@dataclass(frozen=True)
class _Reading:
    """How the files of a corpus are read, and where results are kept until all are there.

    Attributes:
        engine: reads the files.
        settings: whatever results depend on, besides the state of the files of each shard.
        states: of the files of each shard.
        folder: of results.
    """

    engine: PassEngine
    corpus: Corpus
    settings: object
    states: Sequence[str]
    folder: Path
    progress: Progress

    def run(self, work: Pass, what: str) -> Iterator[Any]:
        """Yield what a pass makes of each shard, in order; `what` tells passes apart."""
        keys = [_hash([self.settings, what, state]) for state in self.states]
        self.folder.mkdir(exist_ok=True)
        tell = partial(self.progress, what)
        return run_pass(self.engine, work, self.corpus.labels, keys, self.folder, tell=tell)


def _settle(
    tokenizer_config: TokenizerConfig, limits: LimitsConfig, reading: _Reading
) -> tuple[TokenizerConfig, dict[str, str]]:
    """Choose from the files what the configuration of the tokens leaves open, and say why."""
    made_by = modality(tokenizer_config.type)
    if not made_by.is_open(tokenizer_config):
        return tokenizer_config, {}
    work = Surveying(reading.corpus.places, limits, tokenizer_config.type)
    return made_by.choose(tokenizer_config, reading.run(work, "looking at files"))


def _silent(*_: object) -> None:
    """Takes the place of progress that nobody wants to see."""


def _build(
    folder: Path,
    reading: _Reading,
    config: DataConfig,
    limits: LimitsConfig,
    tokenizer: Tokenizer,
    *,
    n_merged: int | None,
    chosen: dict[str, str],
    fingerprint: str,
) -> None:
    """Write prepared data atomically.

    `n_merged`: vocabulary size with merged tokens; `chosen`: settings chosen from the corpus, and
    why.
    """
    if config.pairs is not None:
        open_pairs(config.pairs, tokenizer)  # refuses parts that there are not
    corpus = reading.corpus
    shares = {"validation": config.validation, "test": config.test}
    vocabulary = tokenizer.vocabulary
    work = Tokenizing(
        corpus.places,
        corpus.splits,
        limits,
        config.pairs,
        tokenizer_files(tokenizer),
        max(vocabulary.sizes) - 1,
        vocabulary.special_token(vocabulary.bos_id)[None],
        vocabulary.special_token(vocabulary.eos_id)[None],
        _shifts(config),
        shares,
        all_may_train=config.group_duplicates or len(corpus.labels) <= SMALL,
        sketched=config.group_duplicates,
    )
    with atomic_folder(folder) as temporary:
        written = _write(temporary, reading.run(work, "tokenizing files"), reading, vocabulary)
        tokens, pieces = written.tokens, Pieces(open_table(temporary))
        sketches = partial(Sketches, reading.folder / SKETCHES, written.sizes)
        groups = _groups(
            pieces, corpus.splits, sketches if config.group_duplicates else None, reading.folder
        )
        n_groups, n_grouped = _write_groups(temporary / DUPLICATES, pieces, groups)
        is_one = not corpus.splits and bool((groups == groups[0]).all())
        if is_one and config.pairs in (FILES, LINES):
            raise UserError(
                f"{corpus.name} holds one pair, of which nothing can be held out: give two or more"
            )
        if is_one:  # it will be cut, and no part may quote another
            tokens, pieces = _write_out(temporary, tokens, pieces, tokenizer)
            pieces = _replaced(temporary, _cut(pieces, tokens, tokenizer, shares))
        else:
            pieces = _split(temporary, pieces, groups, shares, corpus.splits)
        (temporary / TOKENIZER).mkdir()
        if tokenizer.config.marks and not tokenizer.config.levels:
            levels = _levels(tokens, pieces, tokenizer)
            config_with_levels = tokenizer.config.model_copy(update={"levels": levels})
            tokenizer = build_tokenizer(config_with_levels, limits)
        if n_merged is not None:
            tokens, pieces, tokenizer = _merge(temporary, tokens, pieces, tokenizer, n_merged)
        tokenizer.save(temporary / TOKENIZER)
        report = count_files(corpus, pieces, written.skipped, written.kinds, tokenizer.unit)
        report["near_duplicates"] = {"groups": n_groups, "files": n_grouped}
        report["tokens"] = explain_choices(tokenizer, chosen)
        if written.account["notes"]:
            report["account"] = total_account([written.account])
        write_json(temporary / REPORT, report)
        files = checksums(temporary)
        index = {
            "tokenizer": tokenizer.fingerprint(),
            # What two preparations share if and only if they give the same batches.
            "content": _hash(
                [tokenizer.fingerprint(), *(files[name] for name in (PIECES, VARIANTS, NAMES))]
            ),
            "dtype": tokens.dtype.name,
            "n_fields": tokens.shape[1],
            "n_tokens": tokens.shape[0],
            "unit": tokenizer.unit,
            "n_pieces": len(pieces),
            "sources": corpus.sources,
            "fingerprint": fingerprint,
            "files": files,
            "n_skipped": written.kinds.total(),
        }
        write_record(temporary / INDEX, index, format=FORMAT)


def _shifts(config: DataConfig) -> list[Shift]:
    """The variants of a training piece, the unchanged one first."""
    transposes = sorted(range(-config.transpose, config.transpose + 1), key=abs)
    velocities = [0, config.velocity, -config.velocity] if config.velocity else [0]
    return [Shift(t, v) for v in velocities for t in transposes]


@dataclass(frozen=True)
class _Written:
    """The tokens of all files, and what is known of these.

    Attributes:
        tokens: [·, F].
        skipped: the first files that cannot be used, and why.
        kinds: of all that cannot be used.
        account: of all that can; see `add_accounts`.
        sizes: of the sketches [P, 2]; see `Sketches`.
    """

    tokens: np.ndarray
    skipped: list[dict]
    kinds: Counter[str]
    account: dict
    sizes: np.ndarray


def _write(
    folder: Path, shards: Iterable[Tokenized], reading: _Reading, vocabulary: Vocabulary
) -> _Written:
    """Write tokens, pieces and sketches of all files; UserError where no file is usable."""
    skipped: list[dict] = []
    kinds: Counter[str] = Counter()
    account, sizes = add_accounts([]), []
    with (
        TokenWriter(folder / TOKENS, max_id=max(vocabulary.sizes) - 1) as writer,
        TableWriter(folder) as table,
        (folder / LISTING).open("w") as lines,
        (reading.folder / SKETCHES).open("wb") as sketches,
    ):
        for shard in shards:
            offset, _ = writer.append(shard.tokens)
            table.append(shard.table, offset=offset)
            lines.write(shard.lines)
            shard.sketches.tofile(sketches)
            sizes.append(shard.sizes)
            skipped += shard.skipped[: MOST_NAMED - len(skipped)]
            kinds.update(entry["kind"] for entry in shard.skipped)
            account = add_accounts([account, shard.account])
    if kinds.total() == len(reading.corpus.labels):
        shutil.rmtree(reading.folder)
        raise UserError(say_nothing_usable(reading.corpus, skipped, kinds))
    return _Written(writer.written(), skipped, kinds, account, np.concatenate(sizes))


def _groups(
    pieces: Pieces,
    published: Mapping[str, str],
    sketches: Callable[[np.ndarray], Sketches] | None,
    folder: Path,
) -> np.ndarray:
    """Return for each piece the number of the one that stands for its group [P].

    Copies of one file are a group, and so are near-duplicates where there are sketches. A published
    split holds whatever is like it.
    """
    distinct, firsts, which = np.unique(
        pieces.column("file_hash"), return_index=True, return_inverse=True
    )
    leaders = np.arange(len(distinct))
    if sketches:
        found = find_duplicates(sketches(firsts), folder)
        # The end of a hash says nothing about its beginning, which decides the split: with the
        # smallest hash of each group, too many would be held out.
        ends = np.ascontiguousarray(distinct).view(np.uint8).reshape(-1, HASH.itemsize)[:, ::-1]
        order = np.argsort(np.ascontiguousarray(ends).view(HASH)[:, 0])[::-1]
        leaders[found[order]] = order  # the last one stays
        leaders = leaders[found]
    groups = firsts[leaders[which]]
    if published:
        for number in range(len(pieces)):
            if pieces.file(number) in published:
                groups[number] = number
    return groups


def _write_groups(path: Path, pieces: Pieces, groups: np.ndarray) -> tuple[int, int]:
    """Write the names of near-duplicates, a group a line; return how many groups and files."""
    n_groups = n_files = 0
    with path.open("w") as file:
        for names in name_groups(pieces, groups):
            file.write(json.dumps(json_ready(names)) + "\n")
            n_groups += 1
            n_files += len(names)
    return n_groups, n_files


def _split(
    folder: Path,
    pieces: Pieces,
    groups: np.ndarray,
    shares: dict[str, float],
    published: Mapping[str, str],
) -> Pieces:
    """Give every piece its published split; of the others, those of one group the same."""
    hashes = pieces.column("file_hash")[groups]
    splits = np.zeros(len(pieces), dtype=np.uint8)
    is_free = np.ones(len(pieces), dtype=bool)
    if published:
        for number in range(len(pieces)):
            split = published.get(pieces.file(number))
            if split:
                splits[number], is_free[number] = SPLITS.index(split), False
    if is_free.any():
        splits[is_free] = assign(hashes[is_free], **shares)
    rows = cast(np.memmap, open_table(folder, mode="r+").rows)
    rows["split"] = splits
    rows["n_variants"][splits != SPLITS.index(TRAIN)] = 1
    rows.flush()
    return Pieces(open_table(folder))


def _cut(
    pieces: Pieces, tokens: np.ndarray, tokenizer: Tokenizer, shares: dict[str, float]
) -> Iterator[StoredPiece]:
    """Cut each distinct piece of a corpus that is one group into parts."""
    _, firsts = np.unique(pieces.column("file_hash"), return_index=True)
    for piece in pieces[np.sort(firsts)]:
        yield from cut(piece, tokens, tokenizer, shares)


def _write_out(
    folder: Path, tokens: np.ndarray, pieces: Pieces, tokenizer: Tokenizer
) -> tuple[np.ndarray, Pieces]:
    """Replace quotes by the music that they stand for."""
    if not tokenizer.config.quotes:
        return tokens, pieces

    def change(ids: np.ndarray) -> np.ndarray:
        return np.concatenate([ids[:1], tokenizer.write_out(ids[1:-1]), ids[-1:]])

    return _rewrite(folder, tokens, pieces, change, max_id=max(tokenizer.vocabulary.sizes) - 1)


def _merge(
    folder: Path, tokens: np.ndarray, pieces: Pieces, tokenizer: Tokenizer, size: int
) -> tuple[np.ndarray, Pieces, Tokenizer]:
    """Learn merged tokens from the training pieces as they are in the end; merge those of all."""
    tokenizer = tokenizer.train(_read(tokens, pieces, MAX_BPE_PIECES), vocab_size=size)
    max_id = max(tokenizer.vocabulary.sizes) - 1
    return *_rewrite(folder, tokens, pieces, tokenizer.merge, max_id=max_id), tokenizer


def _rewrite(
    folder: Path,
    tokens: np.ndarray,
    pieces: Pieces,
    change: Callable[[np.ndarray], np.ndarray],
    *,
    max_id: int,
) -> tuple[np.ndarray, Pieces]:
    """Write what `change` makes of the tokens of each piece and variant in place of these."""
    path = folder / f"changed-{TOKENS}"
    with TokenWriter(path, max_id=max_id) as writer:

        def changed(piece: StoredPiece) -> StoredPiece:
            places = [
                writer.append(change(tokens[offset : offset + length]))
                for offset, length in piece.variants
            ]
            return replace(piece, variants=tuple(places))

        pieces = _replaced(folder, map(changed, pieces))
    tokens = writer.written()
    path.replace(folder / TOKENS)
    return tokens, pieces


def _replaced(folder: Path, pieces: Iterable[StoredPiece]) -> Pieces:
    """Write tables of these pieces in place of those in a folder."""
    changed = folder / "changed"
    changed.mkdir()
    pieces = iter(pieces)
    with TableWriter(changed) as table:
        while some := list(islice(pieces, AT_A_TIME)):
            table.append(make_table(some))
    for path in changed.iterdir():
        path.replace(folder / path.name)
    changed.rmdir()
    return Pieces(open_table(folder))


def _read(tokens: np.ndarray, pieces: Pieces, most: int) -> Iterator[np.ndarray]:
    """Yield the tokens of the first training pieces as they are in their files."""
    for piece in pieces.of_split(TRAIN)[:most]:
        offset, length = piece.variants[0]
        yield tokens[offset : offset + length]


def _levels(tokens: np.ndarray, pieces: Pieces, tokenizer: Tokenizer) -> dict[str, list[float]]:
    """Find the levels of controls in the training pieces as they are."""
    reader = BarReader(tokenizer)
    learned_from = _read(tokens, pieces, MAX_LEVEL_PIECES)
    return level_borders(reader.read(ids.astype(np.int64)) for ids in learned_from)


def _is_current(folder: Path, corpus: Corpus, fingerprint: str) -> bool:
    """Tell whether `folder` holds this data; refuse a folder that is not ours to replace."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if not (folder / INDEX).is_file():
        raise UserError(
            f"{folder} exists and is not prepared data: move it away, or set data.prepared_dir"
        )
    index = read_index(folder)
    if index["sources"] != corpus.sources:
        before, now = (" and ".join(s.values()) for s in (index["sources"], corpus.sources))
        raise UserError(
            f"{folder} was prepared from {before}, not from {now}: set data.prepared_dir to "
            f"another folder, or delete this one"
        )
    return index["fingerprint"] == fingerprint


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _states(corpus: Corpus) -> list[str]:
    """Return for each shard what changes with the names, sizes or times of its files."""
    return [
        _hash([_state(corpus, corpus.labels[number]) for number in shard])
        for shard in to_shards(len(corpus.labels))
    ]


def _state(corpus: Corpus, label: str) -> tuple[str, int, int]:
    status = corpus.path(label).stat()
    return label, status.st_size, status.st_mtime_ns
