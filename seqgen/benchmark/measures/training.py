"""One training step: forward, loss, backward, AdamW.

The variants differ in the attention of their layers, which holds no parameters and is put into one
and the same model before each timed step, in autocast, and in compilation. Nothing drops out: on a
CPU, softmax attention with dropout has no fused kernel. The peak of memory is that of one more step
of each, which is not timed.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.measures.attention import NOT_BUILT
from seqgen.benchmark.peak import kept_bytes, peak_bytes
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import FULL_TYPE, LIBRARY_TYPE, Subject
from seqgen.benchmark.timing import LIBRARY, Clock, Variant, attempt
from seqgen.config import TrainConfig
from seqgen.model.loss import token_nats
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.stack import build_parallel, inner_attentions
from seqgen.native import has_bfloat16
from seqgen.training.optimizers import build_optimizer

OURS, FULL = "causal-linear", "full"
NO_BFLOAT16 = "not here: this CPU has no bfloat16 instructions"
PROBE = 64  # positions of the pass from which the memory of longer ones is foreseen
MARGIN = 1.5  # what is kept for the backward pass, times this, is foreseen to be the peak


@dataclass(frozen=True)
class Way:
    """How one variant trains: with which attention, kernel and precision."""

    attention: str
    kernel: str = "auto"
    bfloat16: bool = False
    compiled: bool = False


WAYS = {
    LIBRARY: Way(LIBRARY),
    OURS: Way(OURS),
    "chunked": Way(OURS, kernel="chunked"),
    "compiled": Way(OURS, compiled=True),
    FULL: Way(FULL),
    "library-bf16": Way(LIBRARY, bfloat16=True),
    "causal-linear-bf16": Way(OURS, bfloat16=True),
    "compiled-bf16": Way(OURS, bfloat16=True, compiled=True),
    "full-bf16": Way(FULL, bfloat16=True),
}
VARIANTS = tuple(WAYS)
PLAIN = Way(OURS, kernel="naive")


class Trainee:
    """A copy of the model, to be changed, with its optimizer and the attentions to choose from."""

    def __init__(self, subject: Subject, *, compiled: bool = False):
        config = subject.config.model_copy(update={"dropout": 0.0})
        self.model = SequenceModel(config, subject.model.vocabulary).to(subject.device).train()
        self.model.load_state_dict(subject.model.state_dict())
        self.optimizer = build_optimizer(self.model, TrainConfig(learning_rate=1e-4))
        self._attentions = {
            LIBRARY: [_Float32(layer) for layer in _attentions(subject, LIBRARY_TYPE)],
            OURS: inner_attentions(self.model.stack),
            FULL: _attentions(subject, FULL_TYPE),
        }
        if compiled:
            # Each with its own shapes: none shares with, or falls back because of, another.
            self.model.stack.compile(dynamic=False, isolate_recompiles=True)

    def become(self, way: Way) -> Way:
        """Put the attention of a variant into every layer; return the variant."""
        chosen = self._attentions[way.attention]
        for layer, attention in zip(self.model.stack.layers, chosen, strict=True):
            layer.attention.inner_attention = attention.train(self.model.training)
        if way.attention == OURS:
            self.model.use_kernel(way.kernel)
        return way

    def forward(self, tokens: Tensor, way: Way) -> tuple[Tensor, ...]:
        """Score tokens [B, T, F] -> logits [B, T, N_f], in the precision of a variant."""
        device = tokens.device.type
        with torch.autocast(device, torch.bfloat16) if way.bfloat16 else nullcontext():
            return self.model(tokens)

    def step(self, tokens: Tensor, way: Way) -> None:
        """Take one optimizer step on windows [B, T + 1, F]."""
        self.optimizer.zero_grad()
        token_nats(self.forward(tokens[:, :-1], way), tokens[:, 1:]).mean().backward()
        self.optimizer.step()

    @property
    def nbytes(self) -> int:
        """Bytes that stay from step to step: parameters and the optimizer's moments."""
        moments = (x for state in self.optimizer.state.values() for x in state.values())
        held = (*self.model.parameters(), *self.model.buffers(), *moments)
        return sum(x.nbytes for x in held if isinstance(x, Tensor))

    def peak(self, tokens: Tensor, way: Way) -> int:
        """Take a step, and return the most bytes that it held, with what stays between steps."""
        self.become(way)
        self.optimizer.zero_grad()  # what was there before a step is not its own
        needed = peak_bytes(lambda: self.step(tokens, way), tokens.device)
        return self.nbytes + needed

    def foresee(self, tokens: Tensor, way: Way) -> int:
        """Foresee the bytes of a step from a shorter pass: all that it keeps grows evenly."""
        self.become(way)
        part = tokens[:1, :PROBE]
        kept = kept_bytes(lambda: self.forward(part, way), self.model.parameters())
        gradients = sum(x.nbytes for x in self.model.parameters())
        rows, length = tokens.shape[:2]
        return gradients + int(MARGIN * kept * rows * length / part.shape[1])


class _Float32(nn.Module):
    """The library's kernel knows float32 only: under autocast its inputs are cast by hand."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention = attention

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *masks: object) -> Tensor:
        with torch.autocast(v.device.type, enabled=False):
            return self.attention(q.float(), k.float(), v.float(), *masks).to(v.dtype)


@torch.no_grad()
def check(subject: Subject, clock: Clock, *, batch: int, position: int) -> None:
    """Compare logits: with the plainest of our kernels, and of softmax with its recomputation."""
    trainee = Trainee(subject)
    trainee.model.eval()
    tokens = subject.random_tokens(batch, position)
    linear, softmax = trainee.forward(tokens, trainee.become(PLAIN)), subject.recompute(tokens)
    for name, way in WAYS.items():
        if _why_not(name, subject) or way.compiled:
            continue
        got = [scores.float() for scores in trainee.forward(tokens, trainee.become(way))]
        tolerance = 4 * BFLOAT16_TOLERANCE if way.bfloat16 else None  # through all layers
        if way.attention == FULL:
            last = [scores[:, -1] for scores in got]
            check_equal(name, last, "full-recomputed", softmax, tolerance=tolerance)
        else:
            check_equal(name, got, "the naive kernel", linear, tolerance=tolerance)


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time a step on windows of `position` targets, and find the peak of its memory (`bytes`)."""
    plain = Trainee(subject)
    tokens = subject.random_tokens(batch, position + 1)
    variants, trainees = [], {}
    for name, way in WAYS.items():
        note = _why_not(name, subject) or subject.too_large(plain.foresee(tokens, way))
        if way.compiled and not clock.patient:
            note = "skipped: compiling takes long, and this is a quick run"
        trainees[name] = Trainee(subject, compiled=True) if way.compiled and not note else plain
        make = partial(_variant, name, way, trainees[name], tokens, note=note)
        variants.append(attempt(name, make, dtype=_dtype(way)))
    records = clock.records(
        variants, measure="training", batch=batch, position=position, tokens=batch * position
    )
    return [_with_peak(record, trainees[record.variant], tokens) for record in records]


def _variant(name: str, way: Way, trainee: Trainee, tokens: Tensor, *, note: str) -> Variant:
    """Make a variant, warmed up: AdamW makes its moments at the first step, compiling takes one."""

    def prepare() -> None:
        trainee.become(way)

    run: Callable[[object], None] | None = None
    if not note:
        prepare()
        trainee.step(tokens if way.compiled else tokens[:, :9], way)
        run = lambda _: trainee.step(tokens, way)  # noqa: E731
    return Variant(name, run, prepare, note, _dtype(way))


def _with_peak(record: Record, trainee: Trainee, tokens: Tensor) -> Record:
    if not record.repeats:
        return record
    return replace(record, bytes=trainee.peak(tokens, WAYS[record.variant]))


def _dtype(way: Way) -> str:
    return "bfloat16" if way.bfloat16 else "float32"


def _why_not(name: str, subject: Subject) -> str:
    """Say why a variant cannot run here, or nothing."""
    way = WAYS[name]
    if way.attention == LIBRARY and not subject.has_library_kernel:
        return NOT_BUILT
    on_cpu = subject.device.type == "cpu"
    if way.bfloat16 and on_cpu and not has_bfloat16():
        return NO_BFLOAT16
    return ""


def _attentions(subject: Subject, attention_type: str) -> list[nn.Module]:
    with torch.device("meta"):  # only the attentions are used, which hold no tensors
        changed = {"dropout": 0.0, "attention_dropout": 0.0}
        stack = build_parallel(subject.arguments(attention_type) | changed)
    return inner_attentions(stack.train())
