"""One training step: forward, loss, backward, AdamW.

The variants differ in the attention of their layers alone, which holds no parameters: it is put
into one and the same model before each timed step.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from seqgen.benchmark.attention import NOT_BUILT
from seqgen.benchmark.equality import check_equal
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import FULL_TYPE, LIBRARY_TYPE, Subject, too_large
from seqgen.benchmark.timing import LIBRARY, Clock, Variant
from seqgen.config import TrainConfig
from seqgen.model.loss import token_nats
from seqgen.model.sequence_model import SequenceModel
from seqgen.model.stack import build_parallel, inner_attentions
from seqgen.training.optimizers import build_optimizer

VARIANTS = (LIBRARY, "causal-linear", "full")


@torch.no_grad()
def check(subject: Subject, *, batch: int, position: int) -> None:
    """Compare our model with the same one on the library's attention."""
    if not subject.has_library_kernel:
        return
    model, attentions = _setting(subject)
    model.eval()
    tokens = subject.random_tokens(batch, position)
    ours = model(tokens)
    _put(model, attentions[LIBRARY])
    check_equal("causal-linear", ours, LIBRARY, model(tokens))


def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time a step on windows of `position` targets."""
    model, attentions = _setting(subject)
    optimizer = build_optimizer(model, TrainConfig(learning_rate=1e-4))
    tokens = subject.random_tokens(batch, position + 1)
    notes = {
        LIBRARY: "" if subject.has_library_kernel else NOT_BUILT,
        # Each layer keeps its scores for the backward pass, and makes them twice on the way.
        "full": too_large((subject.config.n_layers + 2) * subject.score_bytes(position, batch)),
    }
    variants = [
        Variant(
            name,
            None if notes.get(name) else _step(model, optimizer, tokens),
            prepare=lambda chosen=chosen: _put(model, chosen),
            note=notes.get(name, ""),
        )
        for name, chosen in attentions.items()
    ]
    # AdamW makes its moments at the first step; a variant whose only call that is would look slow.
    for variant in variants:
        if variant.run is not None:
            variant.prepare()
            _step(model, optimizer, tokens[:, :9])(None)
    return clock.records(
        variants, measure="training", batch=batch, position=position, tokens=batch * position
    )


def _setting(subject: Subject) -> tuple[SequenceModel, dict[str, list[nn.Module]]]:
    """Copy the model, to be changed, and make the attentions of each variant."""
    model = copy.deepcopy(subject.model).train()
    attentions = {
        LIBRARY: _attentions(subject, LIBRARY_TYPE),
        "causal-linear": inner_attentions(model.stack),
        "full": _attentions(subject, FULL_TYPE),
    }
    return model, attentions


def _attentions(subject: Subject, attention_type: str) -> list[nn.Module]:
    with torch.device("meta"):  # only the attentions are used, which hold no tensors
        stack = build_parallel(subject.arguments(attention_type))
    return inner_attentions(stack.train())


def _put(model: SequenceModel, attentions: list[nn.Module]) -> None:
    for layer, attention in zip(model.stack.layers, attentions, strict=True):
        layer.attention.inner_attention = attention.train(model.training)


def _step(
    model: SequenceModel, optimizer: torch.optim.Optimizer, tokens: Tensor
) -> Callable[[object], None]:
    def step(_: object) -> None:
        optimizer.zero_grad()
        logits = model(tokens[:, :-1])
        token_nats(logits, tokens[:, 1:]).mean().backward()
        optimizer.step()

    return step
