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
# Models that differ in all that a step depends on.
CHOICES = [
    {},
    {"feature_map": "relu", "activation": "relu", "conv_width": 0},
    {"feature_map": "dpfp", "conv_width": 1, "d_model": 48, "n_heads": 3},
    {"feature_map": "hedgehog", "positions": "bars", "decay": "fixed", "decay_range": [1.0, 6.0]},
    {"positions": "sinusoidal", "d_model": 36, "n_heads": 3, "d_ff": 50},
    {"decay": "learned", "decay_range": [0.5, 9.0], "heads_without_decay": 1},
    {"positions": "learned", "max_positions": 20, "n_layers": 3, "d_model": 160, "n_heads": 2},
]
