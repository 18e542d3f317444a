"""Decoding: a prompt and a recurrent model in, a stream of tokens out."""

from seqgen.decoding.generation import Decoder, Step, generate

__all__ = ["Decoder", "Step", "generate"]
