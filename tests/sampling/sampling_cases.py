"""A small grammar and short ways to draw."""

import numpy as np
import torch

from seqgen.sampling import Sampler
from seqgen.vocabulary import Field, Grammar, Vocabulary

BOS, A, B, END, NOWHERE = range(5)  # groups


def grammatical() -> Vocabulary:
    """Ids 3, 4 (A), then 5 (B, a whole unit), or 6 (A and B merged); nothing may follow 7."""
    follows = np.zeros((5, 5), dtype=int)
    for before, after in ((BOS, A), (A, B), (A, END), (B, A), (B, END), (B, NOWHERE)):
        follows[before, after] = 1
    grammar = Grammar(
        first=(BOS, BOS, END, A, A, B, A, NOWHERE),
        last=(BOS, BOS, END, A, A, B, B, NOWHERE),
        follows=tuple(tuple(bool(x) for x in row) for row in follows),
        units=(False, False, False, False, False, True, True, False),
    )
    return Vocabulary((Field("token", 8),), bos_id=1, eos_id=2, pad_id=0, grammar=grammar)


def bos(vocabulary: Vocabulary) -> np.ndarray:
    """The shortest prompt [1, F]."""
    return vocabulary.special_token(vocabulary.bos_id)[None]


def random_logits(vocabulary: Vocabulary, rows: int, step: int) -> list[torch.Tensor]:
    """Logits [rows, N_f] by field; row r of a step is the same however many rows there are."""
    generators = [torch.Generator().manual_seed(1000 * step + r) for r in range(rows)]
    return [
        torch.stack([2 * torch.randn(size, generator=g) for g in generators])
        for size in vocabulary.sizes
    ]


def draw(sampler: Sampler, logits, slots) -> torch.Tensor:
    """Prepare one draw and make it: ids [B, F]."""
    slots = list(slots)
    sampler.prepare(slots, 1)
    return sampler.draw(logits, torch.tensor(slots))


def draws(vocabulary, sampling, *, logits=None, n=1, seed=(0, 0), prompt=None) -> torch.Tensor:
    """Draw n tokens of one stream [n, F]; by the same logits, or by those of each step."""
    sampler = Sampler(vocabulary, 1)
    prompt = bos(vocabulary) if prompt is None else np.asarray(prompt)
    sampler.enter(0, sampling, seed=seed, prompt=prompt)
    steps = [random_logits(vocabulary, 1, i) if logits is None else logits for i in range(n)]
    return torch.cat([draw(sampler, step, [0]) for step in steps])
