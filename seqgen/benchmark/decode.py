"""One decode step: the recurrent form against full attention, recomputed and cached.

Each call is whole: embedding, stack, heads. `position` tokens came before the one that is timed.
"""

import torch

from seqgen.benchmark.equality import check_equal
from seqgen.benchmark.records import Record
from seqgen.benchmark.subject import Subject, sums_of, too_large
from seqgen.benchmark.timing import LIBRARY, Clock, Variant

VARIANTS = (LIBRARY, "recurrent", "full-cached", "full-recomputed")


@torch.no_grad()
def check(subject: Subject, *, batch: int, position: int) -> None:
    """Compare each step after a real prompt with the parallel form at that position."""
    tokens = subject.random_tokens(batch, position + 1)
    prompt, last = tokens[:, :-1], tokens[:, -1]
    lengths = torch.full((batch,), position, device=subject.device)
    _, state = subject.recurrent.prefill(prompt, lengths)
    parallel = tuple(scores[:, -1] for scores in subject.model(tokens))
    recurrent, _ = subject.recurrent.step(last, state)
    check_equal("recurrent", recurrent, "the parallel form", parallel)
    library = subject.step(subject.library_recurrent, last, state, sums_of(state))
    check_equal(LIBRARY, library, "the parallel form", parallel)
    cached = subject.step(subject.full_recurrent, last, state, subject.cache_after(prompt))
    check_equal("full-cached", cached, "full-recomputed", subject.recompute(tokens))


@torch.no_grad()
def measure(subject: Subject, clock: Clock, *, batch: int, position: int) -> list[Record]:
    """Time one step after `position` tokens."""
    tokens = subject.random_tokens(batch, position + 1)
    last = tokens[:, -1]
    state = subject.state_at(position, batch)
    variants = [
        Variant(
            LIBRARY,
            lambda sums: subject.step(subject.library_recurrent, last, state, sums),
            prepare=lambda: sums_of(state),
        ),
        Variant("recurrent", lambda _: subject.recurrent.step(last, state)),
    ]

    # One layer's keys or values are copied at each step.
    reason = too_large(subject.cache_bytes(position, batch))
    if reason:
        variants.append(Variant("full-cached", None, note=reason))
    else:
        cache = subject.cache_at(position, batch)
        variants.append(
            Variant(
                "full-cached",
                lambda layers: subject.step(subject.full_recurrent, last, state, layers),
                prepare=lambda: [list(kv) for kv in cache],
            )
        )

    reason = too_large(3 * subject.score_bytes(position + 1, batch))  # products, masked, softmax
    run = None if reason else lambda _: subject.recompute(tokens)
    variants.append(Variant("full-recomputed", run, note=reason))
    return clock.records(variants, measure="decode", batch=batch, position=position, tokens=batch)
