"""The choice of a decoder: by name, or the fastest tested one that is available."""

from seqgen.decoding.cuda import CudaDecoder
from seqgen.decoding.decoder import Decoder
from seqgen.decoding.fused import TorchDecoder
from seqgen.decoding.native import FORMATS, NativeDecoder
from seqgen.decoding.native import why_not as why_not_native
from seqgen.decoding.onnx import OnnxDecoder
from seqgen.decoding.reference import ReferenceDecoder
from seqgen.errors import UserError
from seqgen.model.sequence_model import SequenceModel

DECODERS: dict[str, type[Decoder]] = {
    "reference": ReferenceDecoder,
    "torch": TorchDecoder,
    "native": NativeDecoder,
    "cuda": CudaDecoder,
    "onnx": OnnxDecoder,
}
AUTO = "auto"
WEIGHTS = tuple(FORMATS)  # each decoder supports some of them


def build_decoder(
    model: SequenceModel,
    decoder: str = AUTO,
    *,
    weights: str = "float32",
    decay_after: int | None = None,
    prefill: str = "float32",
) -> Decoder:
    """Prepare a model to generate on the device where it is.

    Args:
        model: its weights are read now; later training does not change the decoder.
        decoder: one of `DECODERS`, or auto: `choose_decoder` says which.
        weights: number format of the matrices, one of `WEIGHTS`; float32 is exact.
        decay_after: position from which the sums decay (`seqgen.attention.decay`); None: never.
        prefill: number format of the prefill, float32 or bf16.

    Raises:
        UserError: there is no such decoder, or it does not support the model, weights or device.
    """
    if decoder != AUTO and decoder not in DECODERS:
        known = ", ".join((AUTO, *DECODERS))
        raise UserError(f"there is no decoder {decoder}; known are {known}")
    if weights not in WEIGHTS:
        raise UserError(f"weights = {weights}: known are {', '.join(WEIGHTS)}")
    name = decoder
    if decoder == AUTO:
        name, reason = choose_decoder(model, weights)
        if weights not in DECODERS[name].supported_weights:
            supported = ", ".join(DECODERS[name].supported_weights)
            raise UserError(
                f"weights = {weights}: the {name} decoder ({reason}) supports {supported}"
            )
    supporting, setting = _supporting(model)
    if name not in supporting:
        raise UserError(
            f"decoder {name}: {setting} is not supported: use the decoder {supporting[-1]}"
        )
    return DECODERS[name](model, weights, decay_after=decay_after, prefill=prefill)


def choose_decoder(model: SequenceModel, weights: str = "float32") -> tuple[str, str]:
    """Return the fastest tested decoder for a model on its device, and the reason."""
    supporting, setting = _supporting(model)
    if len(supporting) < len(DECODERS):
        return supporting[-1], f"{setting} has no faster decoder"
    if model.config.attention != "causal-linear":
        return "reference", f"model.attention={model.config.attention} has no other decoder"
    if next(model.parameters()).device.type == "cuda":
        if weights in CudaDecoder.supported_weights:
            return "cuda", "CUDA graphs of the fastest steps on this GPU"
        return "torch", f"not cuda: it does not support weights={weights}"
    reason = why_not_native(model, weights)
    if reason:
        return "torch", f"not native: {reason}"
    return "native", "compiled for this processor"


def _supporting(model: SequenceModel) -> tuple[list[str], str]:
    """Return the decoders that may support a model, and the setting that excludes the others."""
    config = model.config
    if config.kind != "decoder":
        return ["reference"], f"model.kind={config.kind}"
    if config.positions == "bar-numbers":
        fastest = ["torch"] if config.attention == "causal-linear" else []
        return ["reference", *fastest], f"model.positions={config.positions}"
    return list(DECODERS), ""
