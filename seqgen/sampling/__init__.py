"""Sampling: logits in, ids out."""

from seqgen.sampling.flags import Flags
from seqgen.sampling.sampler import Sampler
from seqgen.sampling.settings import Sampling
from seqgen.sampling.state import SamplerState

__all__ = ["Flags", "Sampler", "SamplerState", "Sampling"]
