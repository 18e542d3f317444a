"""Sampling: logits in, ids out."""

from seqgen.sampling.sampler import Sampler, Sampling

__all__ = ["Sampler", "Sampling"]
