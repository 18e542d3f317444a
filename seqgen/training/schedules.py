"""Learning-rate schedules: the share of the peak at each step."""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def build_schedule(kind: str, *, warmup_steps: int, total_steps: int, final: float) -> Schedule:
    """Return a function from step (0-based) to the share of the peak learning rate.

    All rise linearly over `warmup_steps`. Then `cosine` and `linear` fall to `final` at
    `total_steps` and stay there, `inverse-sqrt` falls with the root of the step, `constant` stays.
    """

    def progress(step: int) -> float:
        return min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)

    after_warmup: dict[str, Schedule] = {
        "cosine": lambda step: final + (1 - final) * (1 + math.cos(math.pi * progress(step))) / 2,
        "linear": lambda step: final + (1 - final) * (1 - progress(step)),
        "inverse-sqrt": lambda step: math.sqrt(max(warmup_steps, 1) / (step + 1)),
        "constant": lambda step: 1.0,
    }
    if kind not in after_warmup:
        raise ValueError(f"unknown schedule {kind!r}; known are {', '.join(after_warmup)}")

    def schedule(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return after_warmup[kind](step)

    return schedule
