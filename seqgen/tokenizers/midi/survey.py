"""What a corpus holds, and the settings of the tokens that can carry it.

Each file is surveyed by itself, in any process, and surveys are added up: that of a corpus grows
with the variety of its files and not with their number.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.midi import MidiFile, open_midi
from seqgen.tokenizers.midi.metres import metres_of
from seqgen.tokenizers.midi.parts import DRUMS, role
from seqgen.tokenizers.midi.settings import LACKING, TEMPO_STEP, can_quote, settled

NEEDED_BY = (
    ("use_time_signatures", "time_signatures"),
    ("use_tempos", "tempo_range"),
    ("quotes", "quote_bars"),
)
GRIDS = (4, 6, 8, 12, 24)  # positions per beat that are tried
CAUGHT = 0.97  # share of onsets that must lie on a grid
OFF_GRID = 1 / 64  # of a beat: so far off an onset is still on the grid
OFF_GRID_SECONDS = 0.01
SAME_TEMPO = 0.01
SAME_VELOCITY = 8
SOME_NOTES = 0.02  # share of notes below which velocities and bends are not carried
COMMON_ROLE = 0.2  # share of files with several tracks of a program that must have a role
MOST_NUMBERED = 8  # tracks of one program in a piece that stay apart
FEWEST_NOTE_BEATS, MAX_NOTE_BEATS = 4, 64  # that tokens can tell
REPEATED = 0.15  # share of notes in bars that repeat earlier ones, from which on these are quoted
FEWEST_QUOTE_BARS, MOST_QUOTE_BARS = 64, 512  # that quotes reach back
REACHED = 0.99  # share of the repeated notes that quotes must reach
SPARE_BARS = 16  # beyond the longest file: bars cut short become bars of their own


@dataclass
class Survey:
    """What files hold, as far as settings depend on it.

    Attributes:
        n_files: how many there are.
        tracks: a program ("0" to "127", or "drums") with the roles of its tracks in one file, by
            the number of files that have just these.
        metres: time signatures, as "9/8", by the number of files that have them.
        tempos: of notes, in quarter notes per minute, by number of notes.
        velocities: by number of notes.
        off_grid: for each grid, how many onsets are off it.
        lengths: of notes in beats, rounded up, by number of notes.
        n_notes: in all files.
        pedalled: files in which the pedal is pressed.
        bends: notes under a bend.
        bars: of the longest file, up to its last note or release of a pedal.
        repeats: notes in bars that equal an earlier bar of their part, by how many bars ago the
            nearest was; for each grid, with velocities and without, and for all pitched tracks told
            as one part and each track by itself: (grid, velocities, one).
    """

    n_files: int = 0
    tracks: Counter[tuple[str, tuple[str, ...]]] = field(default_factory=Counter)
    metres: Counter[str] = field(default_factory=Counter)
    tempos: Counter[float] = field(default_factory=Counter)
    velocities: Counter[int] = field(default_factory=Counter)
    off_grid: Counter[int] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    n_notes: int = 0
    pedalled: int = 0
    bends: int = 0
    bars: int = 0
    repeats: dict[tuple[int, bool, bool], Counter[int]] = field(default_factory=dict)


def add_surveys(surveys: Iterable[Survey]) -> Survey:
    """Return the survey of all files of some surveys."""
    total = Survey()
    for one in surveys:
        total.n_files += one.n_files
        total.n_notes += one.n_notes
        total.pedalled += one.pedalled
        total.bends += one.bends
        total.bars = max(total.bars, one.bars)
        for name in ("tracks", "metres", "tempos", "velocities", "off_grid", "lengths"):
            getattr(total, name).update(getattr(one, name))
        for kind, distances in one.repeats.items():
            total.repeats.setdefault(kind, Counter()).update(distances)
    return total


def survey_file(path: Path, limits: LimitsConfig) -> Survey:
    """Survey one file; FileRejected where the gate refuses it."""
    midi = open_midi(path, limits)
    metres, _ = metres_of(midi, None)
    notes = np.array(
        [(n.start, n.end, n.velocity) for track in midi.instruments for n in track.notes]
    )
    beats = _beats(midi, metres, notes[:, 0])  # ticks per beat at each onset, and since which tick
    starts = (notes[:, 0] - beats[:, 1]) / beats[:, 0]
    lengths = np.ceil((notes[:, 1] - notes[:, 0]) / beats[:, 0] - OFF_GRID).astype(int)
    tempos = _tempos(midi, notes[:, 0])
    seconds = beats[:, 0] / midi.ticks_per_beat * 60 / tempos  # of a beat
    off_grid = {}
    for grid in GRIDS:
        error = np.abs(starts - np.round(starts * grid) / grid)
        off = (error > OFF_GRID) & (error * seconds > OFF_GRID_SECONDS)
        off_grid[grid] = int(off.sum())
    releases = [pedal.end for track in midi.instruments for pedal in track.pedals]
    last = max(int(notes[:, 0].max()), *releases, 0)
    roles: dict[str, list[str]] = defaultdict(list)
    for track in midi.instruments:
        roles[DRUMS if track.is_drum else str(track.program)].append(role(track.name))
    return Survey(
        n_files=1,
        tracks=Counter((program, tuple(names)) for program, names in roles.items()),
        metres=Counter({f"{numerator}/{denominator}" for _, numerator, denominator in metres}),
        tempos=_counted(np.round(tempos, 2)),
        velocities=_counted(notes[:, 2]),
        off_grid=Counter(off_grid),
        lengths=_counted(np.clip(lengths, 1, MAX_NOTE_BEATS)),
        n_notes=len(notes),
        pedalled=int(any(track.pedals for track in midi.instruments)),
        bends=_bent_notes(midi),
        bars=_n_bars(midi, metres, last),
        repeats=_repeats(midi, metres),
    )


def choose_settings(
    config: TokenizerConfig, surveys: Iterable[Survey]
) -> tuple[TokenizerConfig, dict[str, str]]:
    """Set what a configuration leaves open, so that tokens carry what the files hold.

    Returns:
        The settled configuration, and for each setting that was chosen why, in a few words.
        Without any survey, the configuration as it is.
    """
    all_files = add_surveys(surveys)
    if not all_files.n_files:
        return config, {}
    parts, why_parts = _parts(all_files)
    if config.parts is not None and config.parts != parts["parts"]:
        names = [name for name, _ in _programs(all_files)]
        parts = {"parts": config.parts, "part_names": names[:1] if config.parts == "one" else names}
        why_parts = f"as set: {config.parts}"
    found: dict[str, tuple[object, str]] = {
        "parts": (parts["parts"], why_parts),
        "part_names": (parts["part_names"], f"{len(parts['part_names'])} in the corpus"),
    }
    found |= _metres(all_files) | _tempo_settings(all_files) | _velocity_settings(all_files)
    found |= _time_settings(all_files) | _controls(all_files)
    found |= _quotes(config, all_files, {key: value for key, (value, _) in found.items()})
    for key in LACKING.get(config.type, ()):
        found[key] = (False, f"{config.type} has no such tokens")
    if config.type == "structured":
        found["max_note_beats"] = (MAX_NOTE_BEATS, "structured tells rests by one token each")
    if config.type == "octuple":
        bars = all_files.bars
        found["max_bars"] = (min(bars + SPARE_BARS, 10_000), f"the longest file has {bars}")
    chosen = {key: value for key, value in found.items() if getattr(config, key) is None}
    settings = config.model_copy(update={key: value for key, (value, _) in chosen.items()})
    settings = settled(settings)
    unused = {name for key, name in NEEDED_BY if not getattr(settings, key)}
    return settings, {key: why for key, (_, why) in chosen.items() if key not in unused}


def _programs(survey: Survey) -> list[tuple[str, int]]:
    """Programs by how many tracks have them, the commonest first, drums last."""
    counts: Counter[str] = Counter()
    for (program, names), n_files in survey.tracks.items():
        counts[program] += len(names) * n_files
    return sorted(counts.items(), key=lambda entry: (entry[0] == DRUMS, -entry[1], entry[0]))


def _parts(survey: Survey) -> tuple[dict, str]:
    """Which parts a piece may have: by program, and by role or number where there are several."""
    programs = _programs(survey)
    names, with_roles = [], []
    for program, _ in programs:
        roles = _roles(program, survey)
        with_roles += [f"{program}.{one}" for one in roles]
        tracks = [labels for kind, labels in survey.tracks if kind == program]
        most = max(len(labels) - len(set(labels) & set(roles)) for labels in tracks)
        numbers = range(1, min(most, MOST_NUMBERED) + 1)
        names += [f"{program}.{one}" for one in roles]
        names += [program if k == 1 else f"{program}.{k}" for k in numbers]
    if len(programs) == 1 and not with_roles and programs[0][0] != DRUMS:
        return {"parts": "one", "part_names": [programs[0][0]]}, "one instrument"
    n_drums = sum(n for (program, _), n in survey.tracks.items() if program == DRUMS)
    why = f"{len(programs)} instruments" if len(programs) > 1 else "one instrument"
    if n_drums:
        why += f", drums in {n_drums} files"
    if with_roles:
        why += f", {len(with_roles)} roles by track name"
    return {"parts": "tracks", "part_names": names}, why


def _roles(program: str, survey: Survey) -> list[str]:
    """Track names that tell several tracks of one program apart, in a fair share of the files."""
    several = 0
    counts: Counter[str] = Counter()
    for (kind, labels), n_files in survey.tracks.items():
        if kind == program and len(labels) > 1 and len(set(labels)) == len(labels):
            several += n_files
            for label in labels:
                counts[label] += n_files * any(map(str.isalpha, label))
    needed = max(2, COMMON_ROLE * several)
    return [label for label, n in counts.most_common() if n >= needed]


def _metres(survey: Survey) -> dict[str, tuple[object, str]]:
    kinds = [metre for metre, _ in survey.metres.most_common()]
    others = [metre for metre in kinds if metre != "4/4"]
    why = "all in 4/4" if not others else f"{len(kinds)} metres: {_some(kinds)}"
    return {"time_signatures": (kinds, why), "use_time_signatures": (bool(others), why)}


def _tempo_settings(survey: Survey) -> dict[str, tuple[object, str]]:
    values, weights = _values(survey.tempos)
    median = _median(values, weights)
    low, high = float(values.min()), float(values.max())
    vary = high / low > 1 + SAME_TEMPO
    why = f"{low:g} to {high:g} quarter notes per minute" if vary else f"all at {median:g}"
    commonest = float(values[weights.argmax()])
    steps = (_tempo_steps(low / commonest), _tempo_steps(high / commonest))
    spread = [round(commonest * TEMPO_STEP**n, 3) for n in steps]  # the commonest is among them
    return {
        "use_tempos": (vary, why),
        "tempo_range": (spread, why),
        "tempo": (min(max(median, 10.0), 500.0), "the median"),
    }


def _tempo_steps(ratio: float) -> int:
    """Return how many steps of tempo tokens reach a tempo that is so many times another one."""
    steps = math.log(ratio) / math.log(TEMPO_STEP)
    return math.floor(steps) if steps < 0 else math.ceil(steps)


def _velocity_settings(survey: Survey) -> dict[str, tuple[object, str]]:
    values, weights = _values(survey.velocities)
    median = int(_median(values, weights))
    other = weights[np.abs(values - median) > SAME_VELOCITY].sum() / weights.sum()
    vary = bool(other > SOME_NOTES)
    why = f"{other:.0%} of notes are louder or softer than {median}"
    return {"use_velocities": (vary, why), "velocity": (median, "the median")}


def _time_settings(survey: Survey) -> dict[str, tuple[object, str]]:
    on = {g: 1 - survey.off_grid[g] / survey.n_notes for g in GRIDS}
    beats = {int(metre.split("/")[1]) for metre in survey.metres}
    grids = [g for g in GRIDS if all(g * beat % 4 == 0 for beat in beats)]
    grid = next((g for g in grids if on[g] >= CAUGHT), GRIDS[-1])
    why = f"catch {on[grid]:.1%} of the onsets"
    if grid != GRIDS[0]:
        why += f", {GRIDS[0]} only {on[GRIDS[0]]:.1%}"
    longest = max(*survey.lengths, FEWEST_NOTE_BEATS)
    ends = (
        f"the longest note has {longest}" if longest < MAX_NOTE_BEATS else "some notes are longer"
    )
    return {
        "positions_per_beat": (grid, why),
        "max_note_beats": (longest, ends),
    }


def _controls(survey: Survey) -> dict[str, tuple[object, str]]:
    bent = survey.bends / survey.n_notes
    return {
        "use_sustain_pedals": (
            survey.pedalled > SOME_NOTES * survey.n_files,
            f"pressed in {survey.pedalled} of {survey.n_files} files",
        ),
        "use_pitch_bends": (bent > SOME_NOTES, f"{bent:.1%} of notes are bent"),
    }


def _quotes(
    config: TokenizerConfig, survey: Survey, found: dict[str, object]
) -> dict[str, tuple[object, str]]:
    """Whether bars are quoted, where the other settings are `found` or configured."""
    settings = config.model_copy(
        update={key: value for key, value in found.items() if getattr(config, key) is None}
    )
    grid = next(g for g in GRIDS if g >= (settings.positions_per_beat or 0))
    kind = (grid, bool(settings.use_velocities), settings.parts == "one")
    distances = survey.repeats[kind]
    share = distances.total() / survey.n_notes
    far = FEWEST_QUOTE_BARS
    if distances:
        ends = np.cumsum([distances[n] for n in sorted(distances)])
        reached = sorted(distances)[np.searchsorted(ends, REACHED * ends[-1])]
        far = min(max(reached, FEWEST_QUOTE_BARS), MOST_QUOTE_BARS)
    why = f"{share:.0%} of notes lie in bars that repeat an earlier one of their part"
    if not can_quote(config):
        return {"quotes": (False, f"{config.type} has no such tokens")}
    if survey.n_files == 1:
        return {"quotes": (False, "an only file is cut in three, and quotes would reach across")}
    return {
        "quotes": (share >= REPEATED, why),
        "quote_bars": (far, f"reach {REACHED:.0%} of the repeated notes"),
    }


def _repeats(
    midi: MidiFile, metres: Sequence[tuple[int, int, int]]
) -> dict[tuple[int, bool, bool], Counter[int]]:
    """Count notes in repeated bars as `Survey.repeats` has them."""
    tracks = [
        np.array([(n.start, n.end, n.pitch, n.velocity) for n in track.notes])
        for track in midi.instruments
    ]
    pitched = [
        notes
        for notes, track in zip(tracks, midi.instruments, strict=True)
        if not track.is_drum and len(notes)
    ]
    voices = {False: [notes for notes in tracks if len(notes)], True: []}
    if pitched:
        voices[True] = [np.concatenate(pitched)]
    return {
        (grid, velocities, one): _added(
            _repeated(notes, midi, metres, grid, velocities=velocities) for notes in voices[one]
        )
        for grid in GRIDS
        for velocities in (False, True)
        for one in (False, True)
    }


def _repeated(
    notes: np.ndarray,
    midi: MidiFile,
    metres: Sequence[tuple[int, int, int]],
    grid: int,
    *,
    velocities: bool,
) -> Counter[int]:
    """Count the notes [n, 4] (start, end, pitch, velocity) of one part in repeated bars."""
    firsts = np.array([tick for tick, _, _ in metres])
    index = np.searchsorted(firsts, notes[:, 0], side="right") - 1
    step = np.array([4 * midi.ticks_per_beat / (d * grid) for _, _, d in metres])
    n_steps = np.array([n * grid for _, n, _ in metres])  # of a bar
    places = np.rint((notes[:, 0] - firsts[index]) / step[index]).astype(int)
    lengths = np.rint((notes[:, 1] - notes[:, 0]) / step[index]).astype(int)
    before = np.rint(np.diff(firsts) / (step * n_steps)[:-1])
    bars = np.cumsum([0, *before]).astype(int)[index] + places // n_steps[index]
    loudness = notes[:, 3] // SAME_VELOCITY * velocities
    n_steps = n_steps[index]
    columns = [places % n_steps, notes[:, 2], np.maximum(lengths, 1), loudness, n_steps]
    content = np.stack(columns, axis=1)
    order = np.lexsort((*content.T, bars))
    content, bars = content[order], bars[order]
    numbers, starts = np.unique(bars, return_index=True)
    known: dict[bytes, int] = {}
    distances: Counter[int] = Counter()
    for number, start, stop in zip(
        numbers.tolist(), starts.tolist(), [*starts[1:].tolist(), len(bars)], strict=True
    ):
        key = content[start:stop].tobytes()
        if key in known:
            distances[number - known[key]] += stop - start
        known[key] = number
    return distances


def _beats(
    midi: MidiFile, metres: Sequence[tuple[int, int, int]], onsets: np.ndarray
) -> np.ndarray:
    """For each onset, the ticks of a beat and the tick that its metre begins at [notes, 2]."""
    table = np.array([(4 * midi.ticks_per_beat / d, tick) for tick, _, d in metres])
    return table[np.searchsorted(table[:, 1], onsets, side="right") - 1]


def _tempos(midi: MidiFile, onsets: np.ndarray) -> np.ndarray:
    """The tempo at each onset, in quarter notes per minute."""
    changes = midi.tempo_changes
    index = np.searchsorted([change.time for change in changes], onsets, side="right") - 1
    return np.array([change.tempo for change in changes])[np.maximum(index, 0)]


def _n_bars(midi: MidiFile, metres: Sequence[tuple[int, int, int]], last: int) -> int:
    """Count bars up to the one that holds tick `last`."""
    bars = 0
    ends = [*(tick for tick, _, _ in metres[1:] if tick <= last), last + 1]
    for (start, numerator, denominator), end in zip(metres, ends, strict=False):
        bars += math.ceil((end - start) / (4 * midi.ticks_per_beat * numerator / denominator))
    return bars


def _bent_notes(midi: MidiFile) -> int:
    """Count notes that begin while their track is bent, or are bent while they sound."""
    bent = 0
    for track in midi.instruments:
        times = np.array([bend.time for bend in track.pitch_bends])
        values = np.array([bend.pitch for bend in track.pitch_bends])
        for note in track.notes if len(times) else ():
            first = max(np.searchsorted(times, note.start, side="right") - 1, 0)
            last = np.searchsorted(times, note.end)
            bent += bool(values[first:last].any())
    return bent


def _counted(values: np.ndarray) -> Counter:
    kinds, counts = np.unique(values, return_counts=True)
    return Counter(dict(zip(kinds.tolist(), counts.tolist(), strict=True)))


def _values(counts: Counter) -> tuple[np.ndarray, np.ndarray]:
    """Return values, and how often each occurs; both [n]."""
    return np.array(list(counts)), np.array(list(counts.values()))


def _added(counts: Iterable[dict]) -> Counter:
    total: Counter = Counter()
    for one in counts:
        total.update(one)
    return total


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _some(names: Sequence[str], n: int = 6) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
