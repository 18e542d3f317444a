"""N-gram models: the baseline that the loss of a neural model is compared with.

An order-n model reads the n-1 ids before a target. With c(u, w) the count of w after context u,
c(u) their sum over w, T(u) the number of distinct w seen after u, u' the context without its oldest
id, and N the vocabulary size:

    p_n(w | u) = (c(u, w) + e_n T(u) p_{n-1}(w | u')) / (c(u) + e_n T(u)),    p_0(w) = 1 / N

With e_n = 1 this is method C of Witten and Bell, "The zero-frequency problem", IEEE Transactions
on Information Theory 37(4), 1991, interpolated as in Chen and Goodman, "An empirical study of
smoothing techniques for language modeling", Computer Speech and Language 13(4), 1999. The escapes
e_n are fitted on whole training pieces left out of the counts, after Jelinek and Mercer's deleted
interpolation, 1980: a piece repeats itself, so counts promise more for other pieces than they keep.
Closed-form discounts cannot know that: on MIDI tokens, modified Kneser-Ney is behind from order 3.

Legend: T positions, F fields.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from seqgen.data.shards import PreparedData, StoredPiece
from seqgen.data.splits import TRAIN
from seqgen.evaluation.piece_sets import turn_by_turn

NAMES = {1: "unigram", 2: "bigram", 3: "trigram", 4: "4-gram", 5: "5-gram"}
MAX_TRAINING_TOKENS = 3_000_000  # counts hardly gain from more, and take memory
DEVELOPMENT_STRIDE = 10  # every tenth training piece fits the escapes, then joins the counts
# Nearest to 1 first, so that development pieces that cannot tell keep Witten and Bell's own value.
ESCAPES = tuple(2.0 ** (power / 2) for power in sorted(range(-12, 25), key=abs))


@dataclass(frozen=True)
class Score:
    """Likelihood of held-out pieces: nats per target token, and bits per unit without specials."""

    name: str
    nats_per_token: float
    bits_per_unit: float


def ngram_scores(data: PreparedData, held_out: Sequence[StoredPiece]) -> list[Score]:
    """Score held-out pieces of a corpus with the n-gram models of its training split."""
    pieces = [data.read(piece) for piece in held_out]
    targets = np.concatenate([ids[1:] for ids in pieces])
    is_material = ~np.isin(targets[:, 0], data.tokenizer.vocabulary.special_ids)
    units = max(sum(piece.units for piece in held_out), 1)
    scores = []
    for name, curves in ngram_curves(data, pieces).items():
        nats = np.concatenate(curves).sum(axis=1)
        bits = float(nats[is_material].sum()) / math.log(2)
        scores.append(Score(name, float(nats.mean()), bits / units))
    return scores


def ngram_curves(data: PreparedData, pieces: Sequence[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Score pieces [T, F] with the n-gram models of the training split of `data`.

    A compound token is scored field by field, each field by its own history: weaker than an n-gram
    model of whole tokens would be if these came back as often as their fields do. Fields that mean
    nothing cost nothing. Returns by name of the model, for each piece, nats [T - 1, F].
    """
    training = training_ids(data)
    fields = [
        ngram_losses(
            (ids[:, f] for ids in training),
            (ids[:, f] for ids in pieces),
            vocab_size=size,
        )[0]
        for f, size in enumerate(data.tokenizer.vocabulary.sizes)
    ]
    nats = np.stack(fields, axis=-1)  # [max_order, targets, F]
    nats *= data.tokenizer.vocabulary.uses[np.concatenate([ids[1:, 0] for ids in pieces])]
    ends = np.cumsum([len(ids) - 1 for ids in pieces])[:-1]
    return {name: np.split(nats[n - 1], ends) for n, name in NAMES.items()}


def training_ids(data: PreparedData) -> list[np.ndarray]:
    """What n-gram models count: training pieces [T, F] in all variants, up to the limit."""
    return [data.read(piece, variant=variant) for piece, variant in _chosen(data)]


def counted_tokens(data: PreparedData) -> dict[str, int]:
    """How many `tokens` of the training split n-gram models count, `of` how many it has."""
    counted = sum(piece.variants[variant][1] for piece, variant in _chosen(data))
    total = sum(length for piece in data.of_split(TRAIN) for _, length in piece.variants)
    return {"tokens": counted, "of": total}


def _chosen(data: PreparedData) -> list[tuple[StoredPiece, int]]:
    """All pieces as they are, then all of them shifted, and so on, up to the limit.

    In order of their hash: names go by collection and composer, so that the first ones by name
    would be one part of a corpus.
    """
    chosen: list[tuple[StoredPiece, int]] = []
    room = MAX_TRAINING_TOKENS
    for piece, variant in turn_by_turn(data.of_split(TRAIN).by_hash()):
        room -= piece.variants[variant][1]
        if chosen and room < 0:
            break
        chosen.append((piece, variant))
    return chosen


def ngram_losses(
    train: Iterable[np.ndarray],
    held_out: Iterable[np.ndarray],
    *,
    vocab_size: int,
    max_order: int = max(NAMES),
) -> tuple[np.ndarray, list[float]]:
    """Count the training pieces and score the held-out ones with every order up to `max_order`.

    Each array is one piece's ids [T], in [0, vocab_size). As for the neural model, the first id of
    a piece is context only; every later id is a target. Contexts never cross pieces, so early
    targets have short ones. Takes about 150 MB for each million tokens.

    Returns negative log-likelihoods of the targets of all held-out pieces, laid end to end
    [max_order, n_targets], and the escapes e_1 to e_max_order, fitted on training pieces.
    """
    pieces, scored = ([piece for piece in x if len(piece)] for x in (train, held_out))
    development = pieces[::DEVELOPMENT_STRIDE]
    counted = [piece for i, piece in enumerate(pieces) if i % DEVELOPMENT_STRIDE]
    ids, positions = _lay_out([*counted, *development, *scored], vocab_size, max_order=max_order)
    n_counted, n_train = (sum(len(piece) - 1 for piece in x) for x in (counted, pieces))

    nats, escapes = [], []
    p_development = p_held_out = np.full(1, 1 / vocab_size)  # p_0, broadcast over the targets
    ranks = np.zeros_like(ids)  # number of the n ids that end at each position; n = 0 here
    for _ in range(max_order):
        contexts = ranks[positions - 1]
        ranks = np.unique(np.roll(ranks, 1) * (ids.max() + 1) + ids, return_inverse=True)[1]
        grams = ranks[positions]
        rehearsal = _look_up(contexts[:n_train], grams[:n_train], n_counted=n_counted)
        # The escape under which development pieces are most likely.
        trials = [_interpolate(*rehearsal, p_development, escape=e) for e in ESCAPES]
        best = int(np.argmax([np.log(p).sum() for p in trials]))
        p_development = trials[best]
        counts = _look_up(contexts, grams, n_counted=n_train)
        p_held_out = _interpolate(*counts, p_held_out, escape=ESCAPES[best])
        nats.append(-np.log(p_held_out))
        escapes.append(ESCAPES[best])
    return np.stack(nats), escapes


def _look_up(
    contexts: np.ndarray, grams: np.ndarray, *, n_counted: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the first `n_counted` targets and look the others up; ranks are [n_targets].

    Returns for each scored target w in its context u: c(u, w), c(u) and T(u), all [n_scored].
    """
    seen, seen_grams = contexts[:n_counted], grams[:n_counted]
    of_gram = np.bincount(seen_grams, minlength=grams.max() + 1)
    of_context = np.bincount(seen, minlength=contexts.max() + 1)
    context_of_gram = np.zeros_like(of_gram)
    context_of_gram[seen_grams] = seen
    distinct = np.bincount(context_of_gram[of_gram > 0], minlength=len(of_context))
    scored = contexts[n_counted:]
    return of_gram[grams[n_counted:]], of_context[scored], distinct[scored]


def _interpolate(
    gram: np.ndarray, context: np.ndarray, distinct: np.ndarray, lower: np.ndarray, *, escape: float
) -> np.ndarray:
    """p_n of the scored targets from `lower`, their p_{n-1}; equal where the context is unseen."""
    escaped = escape * distinct + (context == 0)
    return (gram + escaped * lower) / (context + escaped)


def _lay_out(
    pieces: Sequence[np.ndarray], vocab_size: int, *, max_order: int
) -> tuple[np.ndarray, np.ndarray]:
    """All pieces end to end, and the positions of their targets.

    Before each piece stand enough fillers for the longest context of its first target. They are an
    id of their own, so a context that would reach past the beginning is unseen in every other one.
    """
    n_fillers = max(0, max_order - 2)
    parts, targets, start = [], [], 0
    for i, piece in enumerate(pieces):
        parts += [np.full(n_fillers, vocab_size + i), piece.astype(np.int64)]
        start += n_fillers
        targets.append(np.arange(start + 1, start + len(piece)))
        start += len(piece)
    return np.concatenate(parts), np.concatenate(targets)
