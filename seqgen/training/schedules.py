"""Learning-rate schedules: the share of the peak at each step."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from seqgen.config import FALLING, TrainConfig

Schedule = Callable[[int], float]


def build_schedule(kind: str, *, warmup_steps: int, ends: Sequence[int], final: float) -> Schedule:
    """Return a function from step (0-based) to the share of the peak learning rate.

    All rise linearly over `warmup_steps`. Then `cosine` and `linear` fall to `final` at the first
    of `ends`, do the same again until each further end, and stay at `final` after the last;
    `inverse-sqrt` falls with the root of the step, `constant` stays, and both have no end.
    """
    after_warmup: dict[str, Callable[[int, float], float]] = {
        "cosine": lambda step, done: final + (1 - final) * (1 + math.cos(math.pi * done)) / 2,
        "linear": lambda step, done: final + (1 - final) * (1 - done),
        "inverse-sqrt": lambda step, done: math.sqrt(max(warmup_steps, 1) / (step + 1)),
        "constant": lambda step, done: 1.0,
    }
    if kind not in after_warmup:
        raise ValueError(f"unknown schedule {kind!r}; known are {', '.join(after_warmup)}")

    def schedule(step: int) -> float:
        begin, end = 0, ends[0]
        if kind in FALLING:
            if step >= ends[-1]:
                return final
            begin, end = next(cycle for cycle in pairwise((0, *ends)) if step < cycle[1])
        step -= begin
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = (step - warmup_steps) / max(end - begin - warmup_steps, 1)
        return after_warmup[kind](step, done)

    return schedule


def schedule_of(config: TrainConfig) -> Schedule:
    """Build the schedule of a configuration."""
    return build_schedule(
        config.schedule,
        warmup_steps=config.warmup_steps,
        ends=config.schedule_ends,
        final=config.final_learning_rate,
    )


def describe_schedule(config: TrainConfig) -> str:
    """Say in a line how the learning rate changes from the first step to the last."""
    peak, final = config.learning_rate, config.learning_rate * config.final_learning_rate
    said, then = f"learning rate: {peak:g}, ", ""
    if config.warmup_steps:
        said, then = f"learning rate: up to {peak:g} in {config.warmup_steps:,} steps, ", "then "
    if config.schedule == "constant":
        return f"{said}{then}constant"
    if config.schedule == "inverse-sqrt":
        return f"{said}{then}falling with the square root of the step"
    first, *later = config.schedule_ends
    parts = [f"{said}{then}falling to {final:g} at step {first:,} ({config.schedule})"]
    parts += [f"repeated until step {end:,}" for end in later]
    if config.schedule_ends[-1] < config.max_steps:
        parts.append(f"{final:g} after that")
    if config.schedule_ends[-1] > config.max_steps:
        share = schedule_of(config)(config.max_steps)
        parts.append(f"stopped at step {config.max_steps:,}, at {peak * share:.2g}")
    return ", ".join(parts)
