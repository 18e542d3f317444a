"""One training step: forward, loss, backward, AdamW.

The variants differ in the attention of their layers, which holds no parameters and is put into one
and the same model before each timed step, in autocast, and in compilation. Nothing drops out: on a
CPU, softmax attention with dropout has no fused kernel. The peak of memory is that of one more step
of each, which is not timed.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.measures.attention import NOT_BUILT
from seqgen.benchmark.model import LIBRARY_LINEAR, SOFTMAX_TYPE, BenchmarkModel
from seqgen.benchmark.peak import kept_bytes, peak_bytes
from seqgen.benchmark.records import LIBRARY, Place, Record
from seqgen.benchmark.timing import Call, Timer, Variant
from seqgen.config import TrainConfig
from seqgen.model.loss import token_nats
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.stack import build_parallel, inner_attentions
from seqgen.training.optimizers import build_optimizer

OURS, SOFTMAX = "causal-linear", "softmax"
PROBE = 64  # positions of the pass from which the memory of longer ones is estimated
MARGIN = 1.5  # what is kept for the backward pass, times this, is estimated to be the peak
PART = 4  # a part is a step on windows of a fourth of the length


@dataclass(frozen=True)
class TrainingWay:
    """How one variant trains: with which attention, kernel and precision."""

    attention: str
    kernel: str = "auto"
    bfloat16: bool = False
    compiled: bool = False

    @property
    def dtype(self) -> str:
        """As it stands in the records."""
        return "bfloat16" if self.bfloat16 else "float32"


WAYS = {
    LIBRARY: TrainingWay(LIBRARY),
    OURS: TrainingWay(OURS),
    "compiled": TrainingWay(OURS, compiled=True),
    SOFTMAX: TrainingWay(SOFTMAX),
    "library-bf16": TrainingWay(LIBRARY, bfloat16=True),
    "causal-linear-bf16": TrainingWay(OURS, bfloat16=True),
    "compiled-bf16": TrainingWay(OURS, bfloat16=True, compiled=True),
    "softmax-bf16": TrainingWay(SOFTMAX, bfloat16=True),
}
PLAIN = TrainingWay(OURS, kernel="naive")


def ways(model: BenchmarkModel) -> dict[str, TrainingWay]:
    """List the variants that the device can run; compiling takes too long for a quick run."""
    return {
        name: way
        for name, way in WAYS.items()
        if (model.has_bfloat16 or not way.bfloat16) and not (model.quick and way.compiled)
    }


def why_not(model: BenchmarkModel, way: TrainingWay) -> str:
    """Return why a variant is not available here, or an empty string."""
    return NOT_BUILT if way.attention == LIBRARY and not model.has_library_kernel else ""


class Trainee:
    """A copy of the model, to be changed, with its optimizer and the attentions to choose from."""

    def __init__(self, model: BenchmarkModel, *, compiled: bool = False):
        config = model.config.model_copy(update={"dropout": 0.0})
        self.model = SequenceModel(config, model.model.vocabulary).to(model.device).train()
        self.model.load_state_dict(model.model.state_dict())
        self.optimizer = build_optimizer(self.model, TrainConfig(learning_rate=1e-4))
        self._attentions = {
            LIBRARY: [_Float32(layer) for layer in _attentions(model, LIBRARY_LINEAR)],
            OURS: inner_attentions(self.model.stack),
            SOFTMAX: _attentions(model, SOFTMAX_TYPE),
        }
        if compiled:  # pragma: no cover  (compiling takes minutes on a CPU)
            # Each with its own shapes: none shares with, or falls back because of, another.
            self.model.stack.compile(dynamic=False, isolate_recompiles=True)

    def forward(
        self, tokens: Tensor, way: TrainingWay, targets: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Score tokens [B, T, F] -> logits [B, T, N_f] with a variant's attention and precision."""
        chosen = self._attentions[way.attention]
        for layer, attention in zip(self.model.stack.layers, chosen, strict=True):
            layer.attention.inner_attention = attention.train(self.model.training)
        if way.attention == OURS:
            self.model.use_kernel(way.kernel)
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=way.bfloat16):
            return self.model(tokens, targets=targets)

    def step(self, tokens: Tensor, way: TrainingWay) -> None:
        """Take one optimizer step on windows [B, T + 1, F]."""
        self.optimizer.zero_grad()
        targets = tokens[:, 1:]
        logits = self.forward(tokens[:, :-1], way, targets)
        token_nats(logits, targets, uses=self.model.uses).mean().backward()
        self.optimizer.step()

    @property
    def nbytes(self) -> int:
        """Bytes kept between steps: parameters and the optimizer's moments."""
        moments = (x for state in self.optimizer.state.values() for x in state.values())
        held = (*self.model.parameters(), *self.model.buffers(), *moments)
        return sum(x.nbytes for x in held if isinstance(x, Tensor))

    def peak(self, tokens: Tensor, way: TrainingWay) -> int:
        """Take a step, and return the most bytes that it held, with what stays between steps."""
        self.optimizer.zero_grad()  # what was there before a step is not its own
        needed = peak_bytes(lambda: self.step(tokens, way), tokens.device)
        return self.nbytes + needed

    def estimate(self, tokens: Tensor, way: TrainingWay) -> int:
        """Estimate the bytes of a step from a shorter pass: all that it keeps grows evenly."""
        part = tokens[:1, :PROBE]
        kept = kept_bytes(lambda: self.forward(part, way), self.model.parameters())
        gradients = sum(x.nbytes for x in self.model.parameters())
        rows, length = tokens.shape[:2]
        return gradients + int(MARGIN * kept * rows * length / part.shape[1])


class _Float32(nn.Module):
    """The library's kernel takes float32 only: under autocast its inputs are cast by hand."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention = attention

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *masks: object) -> Tensor:
        with torch.autocast(v.device.type, enabled=False):
            return self.attention(q.float(), k.float(), v.float(), *masks).to(v.dtype)


@torch.no_grad()
def check(model: BenchmarkModel, *, batch: int, position: int) -> None:
    """Compare logits: with the plainest of our kernels, and of softmax with its recomputation."""
    trainee = Trainee(model)
    trainee.model.eval()
    tokens = model.random_tokens(batch, position)
    linear, softmax = trainee.forward(tokens, PLAIN), model.recompute(tokens)
    for name, way in ways(model).items():
        if way.compiled or why_not(model, way):
            continue
        got = [scores.float() for scores in trainee.forward(tokens, way)]
        tolerance = 4 * BFLOAT16_TOLERANCE if way.bfloat16 else None  # through all layers
        if way.attention == SOFTMAX:
            last = [scores[:, -1] for scores in got]
            check_equal(name, last, "softmax-recomputed", softmax, tolerance=tolerance)
        else:
            check_equal(name, got, "the naive kernel", linear, tolerance=tolerance)


def measure(model: BenchmarkModel, timer: Timer, place: Place) -> list[Record]:
    """Time a step on windows of `position` targets, and find the peak of its memory (`bytes`)."""
    plain, trainees = Trainee(model), {}
    tokens = model.random_tokens(place.batch, place.position + 1)

    def open_step(name: str, way: TrainingWay) -> Call:
        """Warmed up by the part: AdamW makes its moments at the first step."""
        trainee = trainees[name] = Trainee(model, compiled=True) if way.compiled else plain
        part = None if way.compiled else -(-place.position // PART)  # a part would be compiled too
        if way.compiled:  # pragma: no cover  (compiling takes minutes on a CPU)
            trainee.step(tokens, way)
        return Call(
            lambda length: trainee.step(tokens[:, : length + 1], way),
            length=place.position,
            part=part,
        )

    variants = []
    for name, way in ways(model).items():
        # A compiled variant has a model, gradients and moments of its own.
        holds = 4 * plain.nbytes if way.compiled else 0
        note = why_not(model, way)
        needs = 0 if note else plain.estimate(tokens, way)
        variants.append(Variant(name, partial(open_step, name, way), holds, needs, note, way.dtype))
    records = timer.time(variants, place, tokens=place.tokens)
    return [
        replace(r, bytes=trainees[r.variant].peak(tokens, WAYS[r.variant])) if r.repeats else r
        for r in records
    ]


def _attentions(model: BenchmarkModel, attention_type: str) -> list[nn.Module]:
    with torch.device("meta"):  # only the attentions are used, which hold no tensors
        changed = {"dropout": 0.0, "attention_dropout": 0.0}
        stack = build_parallel(model.arguments(attention_type) | changed)
    return inner_attentions(stack.train())
