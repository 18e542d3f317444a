"""Sampling: logits in, ids out."""

from seqgen.sampling.flags import Flags
from seqgen.sampling.memory import SamplerRow
from seqgen.sampling.sampler import Sampler
from seqgen.sampling.settings import Sampling

__all__ = ["Flags", "Sampler", "SamplerRow", "Sampling"]
