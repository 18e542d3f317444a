"""Compares two sets of pieces, measure by measure, and which differences are more than chance.

Legend: m generated pieces, n real pieces, h bins of a histogram.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import wasserstein_distance

from seqgen.data.corpora import Progress, tracked
from seqgen.evaluation.generated import GeneratedFile
from seqgen.evaluation.music.definitions import GROWING, MEASURES, Measure, measure
from seqgen.evaluation.music.notes import opening
from seqgen.midi import MidiFile

RESAMPLES = 500
LEVELS = (2.5, 97.5)  # percent: intervals and baselines hold 95% of the resamples
LEAST_BASELINE = 0.01  # real pieces that are all alike are taken to be so far apart
KNOWN = ("name", "kind", "aspect", "title", "plain", "unit", "meaning", "source")  # of a measure
USUAL = 0.25  # the quantile of what cut pieces last that openings do: most cut ones reach it
Measured = dict[str, Any]  # a `Value` of one piece for each name in `MEASURES`
Distance = Callable[[np.ndarray, np.ndarray], float]


def measure_sets(
    generated: Sequence[GeneratedFile], real: Sequence[MidiFile], *, progress: Progress
) -> tuple[list[Measured], list[Measured], int | None]:
    """Measure what can be read of a generated set, and real pieces.

    Where generated pieces were cut, what grows with length is measured in openings of all pieces,
    of the number of bars that is returned; cut pieces that are shorter have no value for it.
    """
    made = [(p.token_midi, p.ended_by_itself) for p in generated if p.token_midi is not None]
    told = tracked(made, "measuring generated pieces", progress)
    ours: list[Measured] = [measure(midi, ended_by_itself=ended) for midi, ended in told]
    heard = tracked(real, "measuring real pieces", progress)
    theirs: list[Measured] = [measure(midi) for midi in heard]
    # Whole bars of the cut pieces: the last one may be a part of a bar.
    cut = [m for m in ours if m["ended_by_itself"] is False and m["n_notes"]]
    whole = [max(m["n_bars"] - 1, 1) for m in cut]
    if not whole:
        return ours, theirs, None
    n_bars = int(np.quantile(whole, USUAL))
    ours = [_of_opening(m, midi, n_bars) for m, (midi, _) in zip(ours, made, strict=True)]
    theirs = [_of_opening(m, midi, n_bars) for m, midi in zip(theirs, real, strict=True)]
    return ours, theirs, n_bars


def _of_opening(measured: Measured, midi: MidiFile, n_bars: int) -> Measured:
    """The measures of a piece with those of its opening where they grow with length."""
    if measured["n_bars"] <= n_bars:
        is_short = measured["ended_by_itself"] is False and measured["n_bars"] < n_bars
        return measured | dict.fromkeys(GROWING) if is_short else measured
    of_opening = measure(opening(midi, n_bars=n_bars))
    return measured | {name: of_opening[name] for name in GROWING}


def compare_music(
    generated: Sequence[Measured],
    real: Sequence[Measured],
    *,
    seed: int,
    of: str,
    opening_bars: int | None,
) -> dict:
    """The record of all measures, the furthest from real pieces first.

    `of` says which pieces are the real ones. `opening_bars` is the number of first bars in which
    measures that grow with length were taken, because pieces were cut; then length itself is no
    aspect of the music.
    """
    rows = [row for row in compare(generated, real, seed=seed) if row["name"] != "ended_by_itself"]
    rows.sort(key=lambda row: (row["verdict"] != "beyond", -(row["times"] or 0.0)))
    for row in rows:
        row["in_openings"] = bool(opening_bars) and row["name"] in GROWING
        if opening_bars is not None and row["aspect"] == "length":  # it is as the limit says
            row["aspect"] = None
    ended = [m["ended_by_itself"] for m in generated if m["ended_by_itself"] is not None]
    return {
        "generated_pieces": len(generated),
        "real_pieces": len(real),
        "real": of,
        "opening_bars": opening_bars,
        "ended_by_themselves": sum(ended) / len(ended) if ended else None,
        "comparisons": rows,
    }


def compare(
    generated: Sequence[Measured],
    real: Sequence[Measured],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[dict]:
    """Compare two sets of pieces in all measures; the same seed gives the same numbers.

    Pieces without a value for a measure are left out of it. Returns a row of the record for each,
    with what is known of the measure, in which

    - `distance` is, for numbers, the Wasserstein-1 distance of the two distributions in standard
      deviations of the real one; for histograms, the total variation of the two mean histograms,
      which is the share of notes that would have to move;
    - `interval` comes from drawing both sets again (bootstrap over pieces);
    - `baseline` is the low, middle and high distance of real pieces from the other real pieces, as
      many as were generated or half of them (`baseline_pieces`);
    - `times` is the distance over the high end of the baseline, a scale that all measures share;
    - `verdict` is "beyond" when the interval lies above the baseline, else "within".

    None stands where pieces are too few.
    """
    rng, rows = np.random.default_rng(seed), []
    for of in MEASURES.values():
        a, b = (
            np.array([m[of.name] for m in pieces if m[of.name] is not None], dtype=float)
            for pieces in (generated, real)
        )  # [·(, h)]
        row: dict[str, Any] = {key: getattr(of, key) for key in KNOWN}
        row |= {"generated": _summary(of, a), "real": _summary(of, b), "baseline_pieces": 0}
        row |= dict.fromkeys(("distance", "interval", "baseline", "times", "verdict"))
        rows.append(row)
        if not (len(a) and len(b)):
            continue
        distance = _distance_for(of, a, b)
        found = row["distance"] = distance(a, b)
        if min(len(a), len(b)) > 1:
            pairs = ((rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(resamples))
            drawn = [distance(*pair) for pair in pairs]
            # Drawing again adds noise, by which a distance tends to grow. So the resampled
            # distances are moved until the one found is their median.
            low, high = np.percentile(drawn, LEVELS) - np.median(drawn) + found
            row["interval"] = max(0.0, float(low)), float(high)
        if size := min(len(a), len(b) // 2):
            mixed = (rng.permutation(b) for _ in range(resamples))
            among = [distance(x[:size], x[size:]) for x in mixed]
            low, middle, high = np.percentile(among, (LEVELS[0], 50, LEVELS[1])).tolist()
            row |= {"baseline": (low, middle, high), "baseline_pieces": size}
            row["times"] = found / max(high, LEAST_BASELINE)
            if row["interval"]:
                row["verdict"] = "beyond" if row["interval"][0] > high else "within"
    return rows


def _summary(of: Measure, values: np.ndarray) -> dict:
    """A measure over the pieces that have a value; a histogram is averaged bin by bin."""
    is_number = len(values) and of.kind == "scalar"
    mean = values.mean(axis=0).tolist() if len(values) else None
    median = float(np.median(values)) if is_number else None
    return {"n_pieces": len(values), "mean": mean, "median": median}


def _distance_for(of: Measure, a: np.ndarray, b: np.ndarray) -> Distance:
    """The distance of a measure, with a scale that stays the same in all resamples."""
    if of.kind == "histogram":
        return lambda x, y: float(np.abs(x.mean(axis=0) - y.mean(axis=0)).sum() / 2)
    # Real pieces that are all alike have no spread: then it is that of both sets together.
    spreads = [float(values.std()) for values in (b, np.concatenate([a, b]))]
    scale = next((spread for spread in spreads if spread > 1e-9), 1.0)
    return lambda x, y: float(wasserstein_distance(x, y)) / scale
