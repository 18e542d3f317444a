"""Stops a run whose loss or gradient is no longer a number."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.errors import UserError


@dataclass(frozen=True)
class _Pending:
    """A number on its way from a GPU, which is there once the event has happened."""

    value: Tensor
    arrived: torch.cuda.Event
    error: UserError


class DivergenceCheck:
    """Checks a number of each step.

    On a GPU a number is looked at when the next one comes, or by `finish`: the host would otherwise
    wait in each step for all that was launched before.
    """

    def __init__(self, learning_rate: float):
        self._learning_rate = learning_rate
        self._pending: _Pending | None = None

    def check(self, what: str, value: Tensor, *, step: int, sources: Sequence[str]) -> None:
        """Check a scalar tensor.

        Raises:
            UserError: it, or on a GPU the one before, is not finite.
        """
        self.finish()
        error = self._error(what, step, sources)
        if value.is_cuda:
            there = torch.empty((), dtype=value.dtype, pin_memory=True)
            there.copy_(value.detach(), non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
            self._pending = _Pending(there, arrived, error)
        elif not torch.isfinite(value):
            raise error

    def finish(self) -> None:
        """Check what is pending: before anything is kept that could have been spoilt.

        Raises:
            UserError: it is not finite.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.arrived.synchronize()
            if not torch.isfinite(pending.value):
                raise pending.error

    def _error(self, what: str, step: int, sources: Sequence[str]) -> UserError:
        files = ", ".join(sorted(set(sources))[:8])
        return UserError(
            f"the {what} is not a number at step {step} (files in the batch: {files}): begin a new "
            f"run, from this one's best model by train.init_from=RUN if it has one, with a lower "
            f"train.learning_rate (now {self._learning_rate:g}), more train.warmup_steps or a "
            f"lower train.grad_clip"
        )
