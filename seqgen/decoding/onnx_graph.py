"""A model as ONNX graphs, from its matrices: one recurrent step, and a prefill that repeats it.

Both take and give the parts of a state as they are in `State`, under these names: S, Z, position
and, as far as the model has them, recent, origin and held; what they give is called new_S and so
on. Sums decay where the model's heads do.

Legend: L layers, B rows, T positions, F fields, H heads, d width of a head, K key width, V value
width, D model width, W convolution width, M outputs of a matrix, N ids of all fields, G groups of
marks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from seqgen.attention.feature_maps import RELU_SHIFT
from seqgen.decoding.fused import EPS
from seqgen.decoding.linear import LEVELS, TINY, quantize_rows
from seqgen.decoding.matrices import LayerWeights, Matrix, Norm, read_weights
from seqgen.model.positions import AnchoredPositions, LearnedPositions, Positions, frequencies
from seqgen.model.sequence_model import SequenceModel

OPSET, IR = 17, 8  # LayerNormalization is new in 17; older runtimes and browsers read IR 8
WEIGHTS = ("float32", "int8")
NORM_EPS = 1e-5  # of torch's layer norm

State = dict[str, str]  # the value that holds each part of a state


def step_graph(model: SequenceModel, weights: str = "float32") -> onnx.ModelProto:
    """Return a graph of one step.

    Inputs: tokens int64 [B, F], and the state. Outputs: logits [B, N] of all fields side by side,
    before any field of the next token is known; and the new state. B is free.

    Args:
        model: with causal-linear attention.
        weights: "float32"; or "int8": weights in 8 bits with a scale for each output, activations
            in 7 with a scale for each row: with 8, sums of two products would not fit into 16 bits,
            in which some processors add them.
    """
    graph = _Graph(model, weights)
    state = {name: name for name in graph.parts}
    logits, new = graph.step("tokens", state)
    inputs = [_info("tokens", TensorProto.INT64, ["rows", graph.n_fields]), *graph.infos("")]
    outputs = [graph.logits_info(graph.named(logits, "logits")), *graph.infos("new_", new)]
    return graph.finish("step", inputs, outputs)


def prefill_graph(model: SequenceModel, weights: str = "float32") -> onnx.ModelProto:
    """Return a graph that takes whole prompts: the step, repeated for each position.

    Inputs: tokens int64 [B, T, F], each row padded at its end with any ids; lengths int64 [B], 1 to
    T; and the state. Outputs: as of `step_graph`, after each row's last token. B and T are free.
    """
    graph = _Graph(model, weights)
    body = graph.inside()
    before = {name: f"before_{name}" for name in graph.parts}
    logits, new = body.step("tokens_now", before)
    is_row = body.op("Less", "now", "lengths")  # [B]
    chosen = {
        name: body.named(
            body.op("Where", body.shaped(is_row, graph.rows_at(name)), new[name], before[name]),
            f"after_{name}",
        )
        for name in graph.parts
    }
    kept = body.named(
        body.op("Where", body.shaped(is_row, [-1, 1]), logits, "before_logits"), "after_logits"
    )
    later = body.named(body.op("Add", "now", body.const(1)), "later")
    inner = helper.make_graph(
        body.nodes,
        "position",
        [
            _info("now", TensorProto.INT64, []),
            graph.logits_info("before_logits"),
            *graph.infos("before_"),
            _info("tokens_now", TensorProto.INT64, ["rows", graph.n_fields]),
        ],
        [
            _info(later, TensorProto.INT64, []),
            graph.logits_info(kept),
            *graph.infos("after_", chosen),
        ],
    )
    by_position = graph.op("Transpose", "tokens", perm=[1, 0, 2])
    rows = graph.op("Shape", "lengths")
    shape = graph.op("Concat", rows, graph.const([graph.n_logits]), axis=0)
    nothing = graph.op("Expand", graph.const(0.0), shape)
    outputs = ["steps", "logits", *(f"new_{name}" for name in graph.parts)]
    graph.nodes.append(
        helper.make_node(
            "Scan",
            [graph.const(0), nothing, *graph.parts, by_position],
            outputs,
            body=inner,
            num_scan_inputs=1,
        )
    )
    inputs = [
        _info("tokens", TensorProto.INT64, ["rows", "positions", graph.n_fields]),
        _info("lengths", TensorProto.INT64, ["rows"]),
        *graph.infos(""),
    ]
    return graph.finish("prefill", inputs, [graph.logits_info("logits"), *graph.infos("new_")])


@dataclass(frozen=True)
class _Part:
    """A part of a state: its type, its shape, and which dimension counts rows."""

    type: int
    shape: tuple[str | int, ...]
    rows: int = 0


class _Graph:
    """Nodes and constants of a graph; `op` adds a node and returns the name of its result."""

    def __init__(self, model: SequenceModel, weights: str):
        config, vocabulary = model.config, model.vocabulary
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: list[str] = []  # all that were given; shared with the graphs inside
        self._read, self._config = read_weights(model), config
        self._positions: Positions = model.positions
        self._holds = vocabulary.holds
        held = model.held
        self._held_output = None if held is None else held.rows()[1]
        self.n_fields, self.n_logits = len(vocabulary.sizes), sum(vocabulary.sizes)
        H, d = config.n_heads, config.d_model // config.n_heads
        self._sizes = (H, d)
        K = d * (2 if config.feature_map in ("dpfp", "hedgehog") else 1)
        rows, W, G = "rows", config.conv_width, self._holds.shape[1]
        real, whole = TensorProto.FLOAT, TensorProto.INT64
        self.parts = {
            "S": _Part(real, (config.n_layers, rows, H, K, d), 1),
            "Z": _Part(real, (config.n_layers, rows, H, K), 1),
            "position": _Part(whole, (rows,)),
        }
        if W > 1:
            self.parts["recent"] = _Part(real, (rows, W - 1, config.d_model))
        if isinstance(self._positions, AnchoredPositions):
            self.parts["origin"] = _Part(whole, (rows,))
        if G:
            self.parts["held"] = _Part(whole, (rows, G))

    # --- building blocks ---

    def inside(self) -> "_Graph":
        """Return a graph for a body: it has nodes of its own and the constants of this one."""
        body = object.__new__(_Graph)
        body.__dict__.update(self.__dict__)
        body.nodes = []
        return body

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result and return its name."""
        name = self._name(kind.lower())
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def named(self, value: str, name: str) -> str:
        """Give a value a name that others know."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        return name

    def const(self, value: Any, type: Any = None) -> str:
        """Keep a constant: numbers, an array or a tensor; floats are float32 and others int64."""
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        array = np.asarray(array)
        default = np.float32 if array.dtype.kind == "f" else np.int64
        array = array.astype(type or (array.dtype if array.dtype.kind == "b" else default))
        name = self._name("constant")
        self._constants[name] = numpy_helper.from_array(array.copy(order="C"), name)
        return name

    def shaped(self, value: str, shape: Sequence[int]) -> str:
        """Reshape; 0 keeps a dimension."""
        return self.op("Reshape", value, self.const(np.array(shape)))

    def infos(self, prefix: str, values: State | None = None) -> list[onnx.ValueInfoProto]:
        """Describe the parts of a state as inputs, or its `values` as outputs, so named."""
        if values is not None:
            for name in self.parts:
                if values[name] != f"{prefix}{name}":
                    self.named(values[name], f"{prefix}{name}")
        return [
            _info(f"{prefix}{name}", part.type, list(part.shape))
            for name, part in self.parts.items()
        ]

    def logits_info(self, name: str) -> onnx.ValueInfoProto:
        """Describe logits [B, N]."""
        return _info(name, TensorProto.FLOAT, ["rows", self.n_logits])

    def rows_at(self, name: str) -> list[int]:
        """Return a shape with -1 where a part has its rows and 1 elsewhere."""
        part = self.parts[name]
        return [-1 if i == part.rows else 1 for i in range(len(part.shape))]

    def finish(
        self,
        name: str,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
    ) -> onnx.ModelProto:
        """Return the whole, checked."""
        constants = list(self._constants.values())
        graph = helper.make_graph(self.nodes, name, inputs, outputs, initializer=constants)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR, producer_name="seqgen"
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _name(self, kind: str) -> str:
        self._names.append(kind)
        return f"{kind}_{len(self._names)}"

    # --- the model ---

    def step(self, tokens: str, state: State) -> tuple[str, State]:
        """Take tokens [B, F]; return logits [B, N] and the new state."""
        new = {}
        ids = [self.op("Gather", tokens, self.const(f), axis=1) for f in range(self.n_fields)]
        x = self._sum(
            self.op("Gather", self.const(table), column)
            for table, column in zip(self._read.tables, ids, strict=True)
        )
        if "recent" in state:
            raw = self.op("Unsqueeze", x, self.const([1]))
            context = self.op("Concat", state["recent"], raw, axis=1)  # [B, W, D]
            new["recent"] = self.op(
                "Slice", context, self.const([1]), self.const([2**31]), self.const([1])
            )
        else:
            context = x
        if self._read.short_convolution is not None:
            x = self.op(
                "Add", x, self._linear(self.shaped(context, [0, -1]), self._read.short_convolution)
            )
        if "held" in state:
            sets = self.op("Gather", self.const(self._holds), ids[0])  # [B, G]
            is_open = self.op("Less", sets, self.const(0))
            new["held"] = self.op("Where", is_open, state["held"], sets)
            x = self.op("Add", x, self._marks(self._read.held, new["held"]))
        x = self._place(x, ids[0], state, new)
        new["position"] = self.op("Add", state["position"], self.const(1))
        sums: list[tuple[str, str]] = []
        for i, layer in enumerate(self._read.layers):
            S, Z = (self.op("Gather", state[name], self.const(i), axis=0) for name in ("S", "Z"))
            x = self._layer(x, layer, S, Z, sums)
        for name, values in zip(("S", "Z"), zip(*sums, strict=True), strict=True):
            new[name] = self.op(
                "Concat", *(self.op("Unsqueeze", x, self.const([0])) for x in values), axis=0
            )
        x = self._norm(x, self._read.norm)
        if self._held_output is not None:  # a fraction of the size of `held_logits`
            x = self.op("Add", x, self._marks(self._held_output, new["held"]))
        return self._linear(x, self._read.lm_head), new

    def _layer(
        self, x: str, layer: LayerWeights, S: str, Z: str, sums: list[tuple[str, str]]
    ) -> str:
        """Run a layer on x [B, D] with sums S [B, H, K, V] and Z [B, H, K]; append the new ones."""
        H, d = self._sizes
        qkv = self.shaped(self._linear(x, layer.qkv), [-1, 3, H, d])
        q, k, v = (self.op("Gather", qkv, self.const(i), axis=1) for i in range(3))  # [B, H, d]
        q, k = self._features(q), self._features(k)
        if layer.decay is not None:
            S = self.op("Mul", S, self.const(layer.decay.view(1, H, 1, 1)))
            Z = self.op("Mul", Z, self.const(layer.decay.view(1, H, 1)))
        outer = self.op(
            "Mul",
            self.op("Unsqueeze", k, self.const([3])),
            self.op("Unsqueeze", v, self.const([2])),
        )
        S, Z = self.op("Add", S, outer), self.op("Add", Z, k)
        sums.append((S, Z))
        row = self.op("Unsqueeze", q, self.const([2]))  # [B, H, 1, K]
        weight = self.op("MatMul", row, self.op("Unsqueeze", Z, self.const([3])))  # [B, H, 1, 1]
        out = self.op(
            "Div", self.op("MatMul", row, S), self.op("Add", weight, self.const(float(EPS)))
        )
        out = self._linear(self.shaped(out, [-1, H * d]), layer.out)
        x = self._norm(self.op("Add", x, out), layer.attention_norm)
        y = self._linear(self._activate(self._linear(x, layer.up)), layer.down)
        return self._norm(self.op("Add", x, y), layer.feed_forward_norm)

    def _features(self, x: str) -> str:
        """Map queries or keys [B, H, d] to features [B, H, K], as `FEATURE_MAPS` does."""
        name = self._config.feature_map
        if name == "elu+1":
            below = self.op("Exp", self.op("Min", x, self.const(0.0)))
            return self.op("Add", below, self.op("Relu", x))
        if name == "relu":
            return self.op("Add", self.op("Relu", x), self.const(RELU_SHIFT))
        if name == "dpfp":
            both = self.op("Relu", self.op("Concat", x, self.op("Neg", x), axis=-1))
            K = 2 * self._sizes[1]
            turned = self.op("Gather", both, self.const((np.arange(K) - 1) % K), axis=-1)
            return self.op("Mul", both, turned)
        if name == "hedgehog":
            ways = (x, self.op("Neg", x))
            return self.op("Concat", *(self.op("Softmax", way, axis=-1) for way in ways), axis=-1)
        raise ValueError(f"feature map {name} has no ONNX form")

    def _place(self, x: str, first: str, state: State, new: State) -> str:
        """Add the encoding of each row's position to x [B, D]; `first` is the first field [B]."""
        positions, index = self._positions, state["position"]
        if isinstance(positions, AnchoredPositions):
            is_anchor = self.op("Gather", self.const(positions.is_anchor), first)
            begins = self.op("Or", is_anchor, self.op("Equal", index, self.const(0)))
            new["origin"] = self.op("Where", begins, index, state["origin"])
            index = self.op("Sub", index, new["origin"])
        if isinstance(positions, LearnedPositions):
            table = self.const(positions.rows())
            return self.op("Add", x, self.op("Gather", table, index))
        if type(positions) is Positions:
            return x
        real = self.op("Cast", self.shaped(index, [-1, 1]), to=TensorProto.FLOAT)
        angles = self.op("Mul", real, self.const(frequencies(self._config.d_model)[None]))
        waves = self.op("Concat", self.op("Sin", angles), self.op("Cos", angles), axis=1)
        return self.op("Add", x, waves)

    def _marks(self, table: torch.Tensor | None, held: str) -> str:
        """Add up the rows of a table for the marks in force [B, G]."""
        rows = self.op("Gather", self.const(table), held)
        return self.op("ReduceSum", rows, self.const([1]), keepdims=0)

    def _linear(self, x: str, matrix: Matrix) -> str:
        """Multiply x [B, K] -> [B, M]."""
        bias = self.const(matrix.bias)
        if self.weights == "float32":
            return self.op("Gemm", x, self.const(matrix.weight), bias, transB=1)
        weight, scale = quantize_rows(matrix.weight.detach())
        largest = self.op("ReduceMax", self.op("Abs", x), axes=[1], keepdims=1)  # [B, 1]
        largest = self.op("Max", largest, self.const(float(TINY)))
        rounded = self.op(
            "Round", self.op("Mul", self.op("Div", x, largest), self.const(float(LEVELS)))
        )
        shifted = self.op("Add", rounded, self.const(float(LEVELS + 1)))
        product = self.op(
            "MatMulInteger",
            self.op("Cast", shifted, to=TensorProto.UINT8),
            self.const(weight.T.contiguous(), np.int8),
            self.const(LEVELS + 1, np.uint8),
        )
        real = self.op("Cast", product, to=TensorProto.FLOAT)
        y = self.op("Mul", real, self.const(scale / LEVELS))
        return self.op("Add", self.op("Mul", y, largest), bias)

    def _norm(self, x: str, norm: Norm) -> str:
        weight, bias = self.const(norm.weight), self.const(norm.bias)
        return self.op("LayerNormalization", x, weight, bias, epsilon=NORM_EPS)

    def _activate(self, x: str) -> str:
        if self._config.activation == "relu":
            return self.op("Relu", x)
        share = self.op("Erf", self.op("Div", x, self.const(sqrt(2.0))))
        half = self.op("Mul", x, self.const(0.5))
        return self.op("Mul", half, self.op("Add", share, self.const(1.0)))

    def _sum(self, values: Any) -> str:
        first, *others = values
        for other in others:
            first = self.op("Add", first, other)
        return first


def _info(name: str, type: int, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, type, shape)
