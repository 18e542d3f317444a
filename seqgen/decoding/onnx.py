"""The `onnx` decoder: the graph that export writes, run by onnxruntime on a CPU.

Legend: B rows, F fields, N_f vocabulary of a field.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqgen.decoding.decoder import Decoder, Logits
from seqgen.decoding.pool import SumsPool
from seqgen.errors import UserError
from seqgen.model.sequence_model import SequenceModel

PACKAGES = ("onnx", "onnxruntime")


def check_exportable(model: SequenceModel) -> None:
    """Raise UserError where a model has no graphs, or the packages are missing."""
    if model.config.attention != "causal-linear":
        raise UserError(
            f"model.attention={model.config.attention} has no ONNX graph, since its state would "
            f"grow with each step: train with model.attention=causal-linear"
        )
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} is missing: pip install 'seqgen[onnx]'")


def open_graph(content: bytes) -> Any:
    """Load a graph into an onnxruntime session with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class OnnxDecoder(Decoder):
    """Steps of the exported graph, for causal-linear attention; prompts are prefilled by torch.

    Attributes:
        session: of onnxruntime, with the graph of a step.
    """

    name = "onnx"
    supported_weights = ("float32", "int8")

    def __init__(self, model: SequenceModel, weights: str = "float32", **choices):
        """Build the graph and load it.

        Raises:
            UserError: the packages are missing, the model is on a GPU, it has softmax attention, or
                its sums are to decay from a position on.
        """
        super().__init__(model, weights, **choices)
        check_exportable(model)
        if self.device.type != "cpu":
            raise UserError("decoder onnx runs on a CPU: add --device cpu, or use the decoder cuda")
        if self.decay_after is not None:
            raise UserError(
                "decoder onnx has no sums that decay from a position on (--decay-after, or "
                "--endless with a model without model.decay): use another decoder"
            )
        from seqgen.decoding.onnx_graph import step_graph

        self.session = open_graph(step_graph(model, weights).SerializeToString())

    def open(self, n_slots: int) -> "OnnxPool":
        """Make room for the states of `n_slots` streams."""
        return OnnxPool(self, n_slots)


class OnnxPool(SumsPool):
    """States whose rows are handed to the graph and taken back."""

    def __init__(self, decoder: OnnxDecoder, n_slots: int):
        super().__init__(decoder.initial_state(n_slots))
        self._session, self._sizes = decoder.session, decoder.vocabulary.sizes
        self._limit = decoder.max_positions

    def advance(self, slots: Tensor, tokens: Tensor) -> Logits:
        """Give the streams in slots [B] their next tokens [B, F]; return logits [B, N_f] by field.

        ValueError for positions beyond the learned ones.
        """
        if not len(slots):
            return self.S.new_empty(0, sum(self._sizes)).split(self._sizes, dim=-1)
        last = int(self.position[slots].max())
        if self._limit is not None and last >= self._limit:
            raise ValueError(f"position {last} is beyond the {self._limit} learned ones")
        given: dict[str, np.ndarray] = {"tokens": tokens.numpy()}
        parts = [one.name for one in self._session.get_inputs() if one.name != "tokens"]
        for name in parts:
            rows = getattr(self, name)
            given[name] = (rows[:, slots] if name in ("S", "Z") else rows[slots]).numpy()
        outputs = [one.name for one in self._session.get_outputs()]
        values = dict(zip(outputs, self._session.run(outputs, given), strict=True))
        for name in parts:
            rows, new = getattr(self, name), torch.from_numpy(values[f"new_{name}"])
            if name in ("S", "Z"):
                rows[:, slots] = new
            else:
                rows[slots] = new
        return torch.from_numpy(values["logits"]).split(self._sizes, dim=-1)
