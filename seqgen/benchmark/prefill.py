"""Reading a prompt: one parallel pass against one step per token.

Legend: B rows, P prompt tokens, F fields.
"""

import torch
from torch import Tensor

from seqgen.benchmark.equality import check_equal
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import Subject, sums_of
from seqgen.benchmark.timing import LIBRARY, Clock, Variant
from seqgen.model.state import State

VARIANTS = (LIBRARY, "prefill-stepped", "prefill-parallel")
Prefilled = tuple[tuple[Tensor, ...], State]


@torch.no_grad()
def check(subject: Subject, *, batch: int, position: int) -> None:
    """Compare logits and sums of the three ways on one prompt."""
    tokens = subject.random_tokens(batch, position)
    logits, state = _parallel(subject, tokens)
    for name, way in ((LIBRARY, _by_library), ("prefill-stepped", _stepped)):
        other_logits, other = way(subject, tokens)
        check_equal(name, other_logits, "prefill-parallel", logits)
        check_equal(f"the state of {name}", (other.S, other.Z), "the parallel", (state.S, state.Z))


@torch.no_grad()
def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time reading `position` tokens."""
    tokens = subject.random_tokens(batch, position)
    variants = [
        Variant(LIBRARY, lambda _: _by_library(subject, tokens)),
        Variant("prefill-stepped", lambda _: _stepped(subject, tokens)),
        Variant("prefill-parallel", lambda _: _parallel(subject, tokens)),
    ]
    return clock.records(
        variants, measure="prefill", batch=batch, position=position, tokens=batch * position
    )


def _parallel(subject: Subject, tokens: Tensor) -> Prefilled:
    B, P, _ = tokens.shape
    return subject.recurrent.prefill(tokens, torch.full((B,), P, device=tokens.device))


def _stepped(subject: Subject, tokens: Tensor) -> Prefilled:
    state = subject.recurrent.initial_state(len(tokens))
    for token in tokens.unbind(1):
        logits, state = subject.recurrent.step(token, state)
    return logits, state


def _by_library(subject: Subject, tokens: Tensor) -> Prefilled:
    """Step with the library's stack, which adds to one set of sums throughout."""
    state = subject.recurrent.initial_state(len(tokens))
    recent, position = state.recent, state.position
    layers = sums_of(state)
    for token in tokens.unbind(1):
        x, recent = subject.model.embed(token.unsqueeze(1), position.unsqueeze(1), recent)
        hidden, layers = subject.library_recurrent(x.squeeze(1), layers)
        logits = subject.model.heads(hidden)
        recent, position = recent[:, 1:], position + 1
    sums = tuple(torch.stack(part) for part in zip(*layers, strict=True))
    return logits, State(sums, recent, position)
