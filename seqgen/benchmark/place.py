"""A place where steps are timed: so many rows, after so many tokens, with a draw or without.

Legend: B rows, T positions, F fields.
"""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from seqgen.benchmark.draws import Draws, NoDraws
from seqgen.benchmark.subject import Subject
from seqgen.benchmark.timing import Variant
from seqgen.decoding.pool import Pool
from seqgen.model.state import State

LEFT_OUT = ("torch-bf16", "torch-int8", "native-bf16", "native-int8")  # of a quick run
WARM_UP = {"cuda": 3}  # calls: a graph is recorded in the second one and replayed in the third


@dataclass(frozen=True)
class Place:
    """What all variants of a place begin from.

    Attributes:
        tokens: [B, T + 1, F]; the last ones are those of the step.
        state: after T tokens.
        draws: what is done with logits.
        patient: whether long calls and preparations are waited for.
    """

    subject: Subject
    tokens: Tensor
    state: State
    draws: Draws | NoDraws
    patient: bool

    @property
    def last(self) -> Tensor:
        """What the step takes, [B, F]."""
        return self.tokens[:, -1]

    @property
    def position(self) -> int:
        """Tokens before the step."""
        return self.tokens.shape[1] - 1

    def pooled(self, name: str, pool: Pool, *, dtype: str, grows: bool) -> Variant:
        """Make a variant of steps of a pool that stands here, warmed up."""
        begin = partial(pool.write, self.draws.slots, self.state)
        begin()
        # Learned positions end, so that such a stream begins anew before each step.
        prepare = begin if self.subject.limit else lambda: None
        for _ in range(WARM_UP.get(self.subject.device.type, 1)):
            prepare()
            self.draws.advance(pool, self.last)
        run = lambda _: self.draws.advance(pool, self.last)  # noqa: E731
        return Variant(name, run, prepare, dtype=dtype, grows=grows)


def why_not(subject: Subject, name: str, *, patient: bool) -> str:
    """Say why a decoder is not measured, or nothing."""
    if name in LEFT_OUT and not patient:
        return "skipped: making it ready takes long, and this is a quick run"
    return subject.why_not(name)
