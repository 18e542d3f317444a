"""Decoding: prompts and a model in, streams of tokens out."""

from seqgen.decoding.choose import build_decoder, choose_decoder
from seqgen.decoding.decoder import Decoder
from seqgen.decoding.engine import Engine, EngineFull
from seqgen.decoding.generation import Continuation, Step, continuations, generate
from seqgen.decoding.reference import ReferenceDecoder
from seqgen.decoding.search import Candidate, beam_search, best_of
from seqgen.decoding.session import Session
from seqgen.decoding.stream import Stream

__all__ = [
    "Candidate",
    "Continuation",
    "Decoder",
    "Engine",
    "EngineFull",
    "ReferenceDecoder",
    "Session",
    "Step",
    "Stream",
    "beam_search",
    "best_of",
    "build_decoder",
    "choose_decoder",
    "continuations",
    "generate",
]
