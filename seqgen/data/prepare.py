"""From source files to prepared data: gate, tokenize in parallel, split by file, write, report."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from seqgen.config import FILES, LINES, DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data.corpora import Corpus, Progress, open_corpus
from seqgen.data.duplicates import find_duplicates
from seqgen.data.encoding import Job, Readers, Work
from seqgen.data.pair_files import lines_as_files, without_partners
from seqgen.data.report import (
    count_files,
    explain_choices,
    name_groups,
    say_nothing_usable,
    sum_accounts,
)
from seqgen.data.shards import (
    FORMAT,
    INDEX,
    REPORT,
    TOKENIZER,
    TOKENS,
    Piece,
    PreparedData,
    TokenWriter,
    index_pieces,
    read_index,
)
from seqgen.data.splits import TRAIN, content_hash, split_of, split_pieces
from seqgen.errors import FileRejected, UserError
from seqgen.files import atomic_folder, checksums, locked, sweep, write_json, write_record
from seqgen.tasks import (
    BarReader,
    check_known,
    check_possible,
    has_tasks,
    level_borders,
    open_pairs,
    pair_examiner,
    with_marks,
)
from seqgen.tokenizers import (
    Encoded,
    Shift,
    Sketch,
    Tokenizer,
    build_tokenizer,
    load_tokenizer,
    modality,
    settled,
)
from seqgen.vocabulary import Vocabulary

# Settings that do not change what comes out; of tasks, the names do.
PLACES = {"source", "prepared_dir", "workers", "tasks"}
MAX_BPE_PIECES = 2000  # merges hardly change beyond this many
MAX_LEVEL_PIECES = 2000  # nor do the levels of controls
SMALL = 24  # training files up to which any other may have to become one


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
    progress: Progress | None = None,
) -> Preparation:
    """Prepare the data of a source, unless that was done before.

    Args:
        config: source, splits and augmentation.
        limits: limits for each file.
        tokenizer_config: builds the tokenizer, unless one is given; what it leaves open is chosen
            from the files.
        tokenizer: a finished tokenizer (fine-tuning uses the run's own).
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
    fingerprint = _hash([settings, _listing(corpus)])
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
            if tokenizer is None:
                tokenizer_config, chosen = _settle(
                    tokenizer_config, corpus, limits, readers, progress
                )
                if has_tasks(config):
                    tokenizer_config = with_marks(settled(tokenizer_config), config)
                tokenizer = build_tokenizer(tokenizer_config, limits)
            else:
                check_known(tokenizer.config, config)
            _build(
                folder,
                corpus,
                config,
                limits,
                tokenizer,
                readers,
                n_merged=tokenizer_config.bpe_vocab_size if learns_merges else None,
                chosen=chosen,
                fingerprint=fingerprint,
                progress=progress,
            )
    return Preparation(PreparedData(folder), built=True)


def _build(
    folder: Path,
    corpus: Corpus,
    config: DataConfig,
    limits: LimitsConfig,
    tokenizer: Tokenizer,
    readers: Readers,
    *,
    n_merged: int | None,
    chosen: dict[str, str],
    fingerprint: str,
    progress: Progress | None,
) -> None:
    """Write prepared data atomically.

    `n_merged`: vocabulary size with merged tokens; `chosen`: settings chosen from the corpus, and
    why.
    """
    if config.pairs is not None:
        open_pairs(config.pairs, tokenizer)  # refuses parts that there are not
    hashes = {file: content_hash(_read(file, limits)) for file in corpus.files}
    shares = {"validation": config.validation, "test": config.test}
    with atomic_folder(folder) as temporary:
        (temporary / TOKENIZER).mkdir()
        tokenizer.save(temporary / TOKENIZER)
        encoded = readers.read(
            _jobs(hashes, corpus, config, shares),
            partial(_examiner, temporary / TOKENIZER, limits, config.pairs),
            tell=partial(progress or _silent, "tokenizing files"),
        )
        written = _write(
            temporary, zip(hashes, encoded, strict=True), corpus, hashes, tokenizer.vocabulary
        )
        tokens, pieces = written.tokens, written.pieces
        found = find_duplicates(written.sketches) if config.group_duplicates else {}
        groups = [
            piece.file  # a published split holds whatever is like it
            if piece.file in corpus.splits
            else found.get(piece.file_hash, piece.file_hash)
            for piece in pieces
        ]
        duplicates = name_groups(pieces, groups)
        if len(set(groups)) == 1 and config.pairs in (FILES, LINES):
            raise UserError(
                f"{corpus.name} holds one pair, of which nothing can be held out: give two or more"
            )
        if len(set(groups)) == 1:  # it will be cut, and no part may quote another
            tokens, pieces = _write_out(temporary, tokens, pieces, tokenizer)
        pieces = split_pieces(pieces, groups, tokens, tokenizer, shares, published=corpus.splits)
        if tokenizer.config.marks and not tokenizer.config.levels:
            levels = _levels(tokens, pieces, tokenizer)
            settings = tokenizer.config.model_copy(update={"levels": levels})
            tokenizer = build_tokenizer(settings, limits)
            tokenizer.save(temporary / TOKENIZER)
        if n_merged is not None:
            tokens, pieces, tokenizer = _merge(temporary, tokens, pieces, tokenizer, n_merged)
            tokenizer.save(temporary / TOKENIZER)
        report = count_files(corpus, pieces, written.skipped, tokenizer.unit)
        report["near_duplicates"] = duplicates
        report["tokens"] = explain_choices(tokenizer, chosen)
        report |= sum_accounts(written.accounts)
        write_json(temporary / REPORT, report)
        index = _index(tokens, pieces, tokenizer) | {
            "sources": corpus.sources,
            "fingerprint": fingerprint,
            "files": checksums(temporary),
            "n_skipped": len(written.skipped),
        }
        write_record(temporary / INDEX, index, format=FORMAT)


def _index(tokens: np.ndarray, pieces: Sequence[Piece], tokenizer: Tokenizer) -> dict:
    """Return what the index says of tokens [·, F], the pieces in them, and their tokenizer."""
    return {
        "tokenizer": tokenizer.fingerprint(),
        "content": _content(pieces, tokenizer),
        "dtype": tokens.dtype.name,
        "n_fields": tokens.shape[1],
        "n_tokens": tokens.shape[0],
        "unit": tokenizer.unit,
        "pieces": list(index_pieces(pieces)),
    }


def _settle(
    tokenizer_config: TokenizerConfig,
    corpus: Corpus,
    limits: LimitsConfig,
    readers: Readers,
    progress: Progress | None,
) -> tuple[TokenizerConfig, dict[str, str]]:
    """Choose from the files what the configuration of the tokens leaves open, and say why."""
    made_by = modality(tokenizer_config.type)
    if not made_by.is_open(tokenizer_config):
        return tokenizer_config, {}
    found = readers.read(
        [(file,) for file in corpus.files],
        partial(_surveyor, tokenizer_config.type, limits),
        tell=partial(progress or _silent, "looking at files"),
    )
    surveys = [one for one in found if not isinstance(one, FileRejected)]
    if not surveys:
        return tokenizer_config, {}  # whoever tokenizes the files says what is wrong with them
    return made_by.choose(tokenizer_config, surveys)


def _surveyor(type: str, limits: LimitsConfig) -> Work:
    return partial(modality(type).survey, limits=limits)


def _examiner(folder: Path, limits: LimitsConfig, pairs: str | None) -> Work:
    tokenizer = load_tokenizer(folder, limits)
    return tokenizer.examine if pairs is None else pair_examiner(pairs, tokenizer)


def _silent(*_: object) -> None:
    """Takes the place of progress that nobody wants to see."""


def _jobs(
    hashes: dict[Path, str], corpus: Corpus, config: DataConfig, shares: dict[str, float]
) -> list[Job]:
    """Choose the variants of each file: several where it may be for training.

    Which files are is settled when it is known which are usable, and which are near-duplicates.
    """
    splits = {
        file: corpus.splits.get(corpus.label(file)) or split_of(h, **shares)
        for file, h in hashes.items()
    }
    training = {file for file, split in splits.items() if split == TRAIN}
    if len(training) <= SMALL or config.group_duplicates:
        training = set(hashes)
    return [(file, _shifts(config) if file in training else [Shift()]) for file in hashes]


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
        pieces: one for each file, all for training so far.
        skipped: files that cannot be used, and why.
        accounts: what became of each file in tokens, by its name.
        sketches: by the hash of a file's content.
    """

    tokens: np.ndarray
    pieces: list[Piece]
    skipped: list[dict]
    accounts: dict[str, dict]
    sketches: dict[str, Sketch]


def _write(
    folder: Path,
    encoded: Iterable[tuple[Path, Encoded | FileRejected]],
    corpus: Corpus,
    hashes: dict[Path, str],
    vocabulary: Vocabulary,
) -> _Written:
    """Write the tokens of all files; UserError where no file is usable."""
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    eos = vocabulary.special_token(vocabulary.eos_id)[None]
    pieces, skipped, accounts, sketches = [], [], {}, {}
    with TokenWriter(folder / TOKENS, max_id=max(vocabulary.sizes) - 1) as writer:
        for file, result in encoded:
            name = corpus.label(file)
            if isinstance(result, FileRejected):
                skipped.append({"file": name, "kind": result.kind, "reason": result.reason})
                continue
            places = tuple(writer.append(bos, ids, eos) for ids in result.variants)
            pieces.append(Piece(name, TRAIN, hashes[file], result.units, places))
            accounts[name] = result.account
            if result.sketch is not None:
                sketches[hashes[file]] = result.sketch
    if not pieces:
        raise UserError(say_nothing_usable(corpus, skipped))
    return _Written(writer.written(), pieces, skipped, accounts, sketches)


def _write_out(
    folder: Path, tokens: np.ndarray, pieces: list[Piece], tokenizer: Tokenizer
) -> tuple[np.ndarray, list[Piece]]:
    """Replace quotes by the music that they stand for."""
    if not tokenizer.config.quotes:
        return tokens, pieces

    def change(ids: np.ndarray) -> np.ndarray:
        return np.concatenate([ids[:1], tokenizer.write_out(ids[1:-1]), ids[-1:]])

    return _rewrite(folder, tokens, pieces, change, max_id=max(tokenizer.vocabulary.sizes) - 1)


def _merge(
    folder: Path, tokens: np.ndarray, pieces: Sequence[Piece], tokenizer: Tokenizer, size: int
) -> tuple[np.ndarray, list[Piece], Tokenizer]:
    """Learn merged tokens from the training pieces as they are in the end; merge those of all."""
    learned_from = [piece.variants[0] for piece in pieces if piece.split == TRAIN]
    tokenizer = tokenizer.train(
        (tokens[offset : offset + length] for offset, length in learned_from[:MAX_BPE_PIECES]),
        vocab_size=size,
    )
    max_id = max(tokenizer.vocabulary.sizes) - 1
    return *_rewrite(folder, tokens, pieces, tokenizer.merge, max_id=max_id), tokenizer


def _rewrite(
    folder: Path,
    tokens: np.ndarray,
    pieces: Sequence[Piece],
    change: Callable[[np.ndarray], np.ndarray],
    *,
    max_id: int,
) -> tuple[np.ndarray, list[Piece]]:
    """Write what `change` makes of the tokens of each piece and variant in place of these."""
    path = folder / f"changed-{TOKENS}"
    with TokenWriter(path, max_id=max_id) as writer:
        pieces = [
            replace(
                piece,
                variants=tuple(
                    writer.append(change(tokens[offset : offset + length]))
                    for offset, length in piece.variants
                ),
            )
            for piece in pieces
        ]
    tokens = writer.written()
    path.replace(folder / TOKENS)
    return tokens, pieces


def _levels(
    tokens: np.ndarray, pieces: Sequence[Piece], tokenizer: Tokenizer
) -> dict[str, list[float]]:
    """Find the levels of controls in the training pieces as they are."""
    reader = BarReader(tokenizer)
    learned_from = [piece.variants[0] for piece in pieces if piece.split == TRAIN]
    return level_borders(
        reader.read(tokens[offset : offset + length].astype(np.int64))
        for offset, length in learned_from[:MAX_LEVEL_PIECES]
    )


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


def _listing(corpus: Corpus) -> list[tuple[str, int, int]]:
    return [(corpus.label(f), f.stat().st_size, f.stat().st_mtime_ns) for f in corpus.files]


def _content(pieces: Sequence[Piece], tokenizer: Tokenizer) -> str:
    """What two preparations share if and only if they give the same batches."""
    return _hash([tokenizer.fingerprint(), list(index_pieces(pieces))])


def _read(file: Path, limits: LimitsConfig) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(limits.max_file_bytes + 1)
    except OSError:
        return b""  # the gate will say what is wrong with it
