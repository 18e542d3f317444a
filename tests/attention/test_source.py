"""Attention to a source equals its formula, and the library's own."""

import pytest
import torch
from fast_transformers.attention import LinearAttention
from fast_transformers.masking import FullMask, LengthMask

from seqgen.attention.naive import source_loop
from seqgen.attention.registered import feature_map_factory
from seqgen.attention.source import attend, source_sums

B, T, U, H, K, V = 3, 5, 7, 2, 4, 6
LENGTHS = torch.tensor([U, 1, 4])


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((B, T, H, K), (B, U, H, K), (B, U, H, V))
    return [torch.rand(s, generator=generator, dtype=torch.float64) for s in shapes]


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_sums_give_what_the_weights_give_with_gradients(lengths):
    q, k, v = (x.requires_grad_() for x in inputs())
    out = attend(q, *source_sums(k, v, lengths))
    slow = source_loop(q, k, v, lengths=lengths)
    assert (out - slow).abs().max() < 1e-12
    weights = torch.rand_like(out)
    fast, expected = (torch.autograd.grad((x * weights).sum(), (q, k, v)) for x in (out, slow))
    assert all((a - b).abs().max() < 1e-12 for a, b in zip(fast, expected, strict=True))


def test_padded_keys_add_nothing_whatever_they_hold():
    q, k, v = inputs()
    alone = [
        attend(q[b : b + 1], *source_sums(k[b : b + 1, :n], v[b : b + 1, :n]))
        for b, n in enumerate(LENGTHS.tolist())
    ]
    k[1, 1:] = 1e9
    v[2, 4:] = 1e9
    padded = attend(q, *source_sums(k, v, LENGTHS))
    assert (padded - torch.cat(alone)).abs().max() < 1e-12


def test_the_library_computes_the_same():
    q, k, v = (x.float() for x in inputs())
    library = LinearAttention(K, feature_map_factory("relu"))
    masks = FullMask(T, U), LengthMask(torch.full((B,), T)), LengthMask(LENGTHS, max_len=U)
    theirs = library(q, k, v, *masks)
    features = library.feature_map.activation_function
    ours = attend(features(q), *source_sums(features(k), v, LENGTHS))
    assert (ours - theirs).abs().max() < 1e-6
