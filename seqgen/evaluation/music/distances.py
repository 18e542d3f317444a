"""A set of pieces against another, measure by measure, and what of it is more than chance.

Legend: R resamples, m generated pieces, n data pieces, h bins. `shares` [pieces, R] are what part
of each resample every piece makes up; a column sums to 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from seqgen.evaluation.music.definitions import DEFINITIONS, Definition
from seqgen.evaluation.music.measures import Measures, Shares

LEVELS = (2.5, 97.5)  # percent: intervals and baselines hold 95% of the resamples
# From the values of two sets, and their shares, to the distances of all resamples [R].
Distance = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Summary:
    """One measure over the pieces of a set for which it has a value."""

    n_pieces: int
    mean: float | Shares | None  # a histogram is averaged bin by bin
    median: float | None  # None for histograms


@dataclass(frozen=True)
class Comparison:
    """One measure of the generated set against the data.

    `distance` is, for numbers, the Wasserstein-1 distance of the two distributions in standard
    deviations of the data; for histograms, the total variation of the two mean histograms, which is
    the share of notes that would have to move. `interval` comes from drawing both sets again
    (bootstrap over pieces). `baseline` is the low, middle and high distance of real pieces from the
    other real pieces, as many as were generated or half of them. `verdict` is "beyond" when the
    interval lies above the baseline, else "within". None stands where pieces are too few to tell.
    """

    name: str
    kind: Literal["scalar", "histogram"]
    unit: str
    generated: Summary
    data: Summary
    distance: float | None
    interval: tuple[float, float] | None
    baseline: tuple[float, float, float] | None
    baseline_pieces: int
    verdict: Literal["beyond", "within"] | None

    @property
    def definition(self) -> Definition:
        return DEFINITIONS[self.name]

    def to_json(self) -> dict:
        """The comparison with its definition, as JSON has it."""
        return {
            **asdict(self),
            "meaning": self.definition.meaning,
            "source": self.definition.source,
        }


def compare(
    generated: Sequence[Measures],
    data: Sequence[Measures],
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> list[Comparison]:
    """Compare two sets of pieces in all measures; the same seed gives the same numbers.

    Pieces without a value for a measure are left out of it.
    """
    draws = _Draws(seed, resamples)
    return [_compare_one(one, generated, data, draws=draws) for one in DEFINITIONS.values()]


class _Draws:
    """The random numbers of a comparison, the same for all measures that as many pieces have."""

    def __init__(self, seed: int, resamples: int) -> None:
        self._seed = seed
        self._resamples = resamples
        self._known: dict[tuple[int, int, int], np.ndarray] = {}

    def again(self, role: int, size: int) -> np.ndarray:
        """Shares of `size` pieces among as many drawn with replacement [size, R].

        `role` keeps two sets of the same size apart.
        """
        if (role, size, size) not in self._known:
            rng = np.random.default_rng([self._seed, role, size])
            counts = rng.multinomial(size, np.full(size, 1 / size), size=self._resamples)
            self._known[role, size, size] = np.ascontiguousarray(counts.T) / size
        return self._known[role, size, size]

    def some(self, size: int, total: int) -> np.ndarray:
        """Shares of `total` pieces in random choices of `size` of them [total, R]."""
        if (2, size, total) not in self._known:
            rng = np.random.default_rng([self._seed, 2, size, total])
            chosen = np.zeros((total, self._resamples))
            chosen[:size] = 1 / size
            self._known[2, size, total] = rng.permuted(chosen, axis=0)
        return self._known[2, size, total]


def _compare_one(
    definition: Definition,
    generated: Sequence[Measures],
    data: Sequence[Measures],
    *,
    draws: _Draws,
) -> Comparison:
    a, b = (_values(definition, pieces) for pieces in (generated, data))
    metric = _distance_for(definition, a, b)
    distance = interval = baseline = verdict = None
    size = min(len(a), len(b) // 2)
    if len(a) and len(b):
        distance = float(metric(a, b, _everyone(a), _everyone(b))[0])
    if min(len(a), len(b)) > 1:
        drawn = metric(a, b, draws.again(0, len(a)), draws.again(1, len(b)))
        interval = _around(distance, drawn)
    if size:
        chosen = draws.some(size, len(b))
        others = (1 - size * chosen) / (len(b) - size)
        among = metric(b, b, chosen, others)
        low, middle, high = np.percentile(among, (LEVELS[0], 50, LEVELS[1]))
        baseline = (float(low), float(middle), float(high))
    if interval and baseline:
        verdict = "beyond" if interval[0] > baseline[2] else "within"
    return Comparison(
        name=definition.name,
        kind=definition.kind,
        unit=definition.unit,
        generated=_summary(definition, a),
        data=_summary(definition, b),
        distance=distance,
        interval=interval,
        baseline=baseline,
        baseline_pieces=size,
        verdict=verdict,
    )


def _values(definition: Definition, pieces: Sequence[Measures]) -> np.ndarray:
    """The values of the pieces that have one, [·] or [·, h]."""
    values = [getattr(piece, definition.name) for piece in pieces]
    return np.array([value for value in values if value is not None], dtype=float)


def _everyone(values: np.ndarray) -> np.ndarray:
    """The shares of a set as it is [·, 1]."""
    return np.full((len(values), 1), 1 / len(values))


def _summary(definition: Definition, values: np.ndarray) -> Summary:
    if not len(values):
        return Summary(0, None, None)
    if definition.kind == "histogram":
        return Summary(len(values), tuple(values.mean(axis=0).tolist()), None)
    return Summary(len(values), float(values.mean()), float(np.median(values)))


def _distance_for(definition: Definition, a: np.ndarray, b: np.ndarray) -> Distance:
    """The distance of a measure, with a scale that stays the same in all resamples."""
    if definition.kind == "histogram":
        return _total_variation
    spreads = [float(v.std()) for v in (b, np.concatenate([a, b])) if len(v)]
    # Data that are all alike have no spread: then it is that of both sets together.
    scale = next((spread for spread in spreads if spread > 1e-9), 1.0)
    return lambda *sets: _wasserstein(*sets) / scale


def _wasserstein(
    a: np.ndarray, b: np.ndarray, shares_a: np.ndarray, shares_b: np.ndarray
) -> np.ndarray:
    """The area between the distribution functions of two weighted sets of numbers -> [R].

    On a line this is the Wasserstein-1 distance (Vallender 1974).
    """
    values = np.concatenate([a, b])
    order = np.argsort(values, kind="stable")
    between = np.concatenate([shares_a, -shares_b])[order]
    np.cumsum(between, axis=0, out=between)
    return np.diff(values[order]) @ np.abs(between[:-1])


def _total_variation(
    a: np.ndarray, b: np.ndarray, shares_a: np.ndarray, shares_b: np.ndarray
) -> np.ndarray:
    """Half the sum of the differences of two mean histograms -> [R]."""
    return np.abs(a.T @ shares_a - b.T @ shares_b).sum(axis=0) / 2


def _around(distance: float, drawn: np.ndarray) -> tuple[float, float]:
    """The interval of a distance by its resamples.

    Drawing again adds noise, by which a distance tends to grow. So the resampled distances are
    moved until the one found is their median.
    """
    low, high = np.percentile(drawn, LEVELS) - np.median(drawn) + distance
    return max(0.0, float(low)), float(high)
