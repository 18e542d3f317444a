"""Reading a prompt, and the draw of the first token after it: a pass against a step per token.

Legend: B rows, P prompt tokens, F fields.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from seqgen.benchmark.draws import Draws
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import Subject, sums_of
from seqgen.benchmark.timing import LIBRARY, Clock, Variant
from seqgen.decoding.decoder import Decoder
from seqgen.model.recurrent_model import RecurrentModel
from seqgen.model.state import State
from seqgen.native import has_bfloat16

VARIANTS = (
    LIBRARY,
    "prefill-stepped",
    "prefill-parallel",
    "prefill-parallel-bf16",
    "full-parallel",
)
THROUGH_ALL_LAYERS = 4 * BFLOAT16_TOLERANCE
Prefilled = tuple[tuple[Tensor, ...], State]
Read = Callable[[Tensor], Prefilled]  # prompts [B, P, F]


@torch.no_grad()
def check(subject: Subject, clock: Clock, *, batch: int, position: int) -> None:
    """Compare logits and sums of the ways on one prompt."""
    tokens = subject.random_tokens(batch, position)
    logits, state = _parallel(subject.decoder("recurrent"), tokens)

    def compare(name: str, other: Prefilled, tolerance: float | None = None) -> None:
        check_equal(name, other[0], "prefill-parallel", logits, tolerance=tolerance)
        for part in ("S", "Z"):
            got, expected = (getattr(x, part) for x in (other[1], state))
            what = f"the state of {name} ({part})"
            check_equal(what, [got], "the parallel one", [expected], tolerance=tolerance)

    full, _ = _parallel(subject.full_preallocated, tokens)
    check_equal("full-parallel", full, "full-recomputed", subject.recompute(tokens))
    compare(LIBRARY, _by_library(subject, tokens))
    compare("prefill-stepped", _stepped(subject, tokens))
    if not _why_not_rounded(subject, clock):
        rounded = _parallel(subject.rounded, tokens)
        compare("prefill-parallel-bf16", rounded, tolerance=THROUGH_ALL_LAYERS)


@torch.no_grad()
def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time reading `position` tokens, to the first one drawn."""
    tokens, draws = subject.random_tokens(batch, position), Draws(subject, batch)
    reason = _why_not_rounded(subject, clock)
    late = "" if clock.patient else "skipped: as slow as the library, and this is a quick run"

    def first(name: str, read: Read, *, note: str = "", dtype: str = "float32") -> Variant:
        run = lambda _: draws.finish(read(tokens)[0])  # noqa: E731
        return Variant(name, None if note else run, note=note, dtype=dtype)

    variants = [
        first(LIBRARY, partial(_by_library, subject)),
        first("prefill-stepped", partial(_stepped, subject), note=late),
        first("prefill-parallel", partial(_parallel, subject.decoder("recurrent"))),
        first(
            "prefill-parallel-bf16",
            lambda tokens: _parallel(subject.rounded, tokens),
            note=reason,
            dtype="bf16",
        ),
        first("full-parallel", partial(_parallel, subject.full_preallocated)),
    ]
    return clock.records(
        variants, measure="prefill", batch=batch, position=position, tokens=batch * position
    )


def _why_not_rounded(subject: Subject, clock: Clock) -> str:
    """Say why prefill in bf16 is not measured, or nothing."""
    if subject.device.type != "cpu" or has_bfloat16() or clock.patient:
        return ""
    return "skipped: this CPU has no bfloat16 instructions, and this is a quick run"


def _parallel(decoder: Decoder | RecurrentModel, tokens: Tensor) -> Prefilled:
    B, P, _ = tokens.shape
    return decoder.prefill(tokens, torch.full((B,), P, device=tokens.device))


def _stepped(subject: Subject, tokens: Tensor) -> Prefilled:
    state = subject.recurrent.initial_state(len(tokens))
    for token in tokens.unbind(1):
        logits, state = subject.recurrent.step(token, state)
    return logits, state


def _by_library(subject: Subject, tokens: Tensor) -> Prefilled:
    """Step with the library's stack, which adds to one set of sums throughout."""
    state = subject.recurrent.initial_state(len(tokens))
    layers = sums_of(state)
    for token in tokens.unbind(1):
        x, recent, origins = subject.embed(token.unsqueeze(1), state)
        hidden, layers = subject.library_recurrent(x.squeeze(1), layers)
        logits = subject.model.heads(hidden)
        state = State((), recent[:, 1:], state.position + 1, origins[:, 0])
    sums = tuple(torch.stack(part) for part in zip(*layers, strict=True))
    return logits, replace(state, attention=sums)
