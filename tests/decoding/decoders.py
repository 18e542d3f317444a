"""The decoders that streams are tested on: each is made from a `SequenceModel`."""

from functools import partial
from importlib.util import find_spec

from seqgen.attention.kinds import KINDS
from seqgen.decoding import ReferenceDecoder
from seqgen.decoding.fused import TorchDecoder
from seqgen.decoding.native import NativeDecoder
from seqgen.decoding.onnx import PACKAGES, OnnxDecoder
from seqgen.native import why_missing

EXACT = [ReferenceDecoder, TorchDecoder]
DECODERS = list(EXACT)  # of causal-linear models
if not why_missing():
    EXACT.append(NativeDecoder)
    DECODERS += [NativeDecoder, partial(NativeDecoder, weights="w8a8")]
if all(map(find_spec, PACKAGES)):
    EXACT.append(OnnxDecoder)
    DECODERS.append(OnnxDecoder)
# Kinds of attention, each with the exact decoders that support it.
PAIRS = [
    *((kind, ReferenceDecoder) for kind in KINDS),
    *(("causal-linear", build) for build in EXACT[1:]),
]
