"""What is asked of a model beyond going on: controls, rewritten bars, added parts.

Legend: T positions.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from seqgen.api.prompts import Prompt
from seqgen.checkpoint import LoadedModel
from seqgen.decoding import Decoder, Step, generate
from seqgen.decoding.generation import NEVER
from seqgen.decoding.guided import Guidance
from seqgen.errors import FileRejected, UserError
from seqgen.evaluation.asked import ControlCheck, check_asked
from seqgen.midi import ANY_SIZE, open_midi
from seqgen.midi.timing import bars_and_beats
from seqgen.sampling import Sampling
from seqgen.tasks import Teller, accompany, continuation, infill, known_tasks
from seqgen.tasks.asking import (
    SAME,
    as_before,
    asks,
    describe_part,
    find_parts,
    no_wish,
    read_wishes,
)
from seqgen.tasks.bars import Passage
from seqgen.tasks.controls import MEASURED_BARS, Wish
from seqgen.tasks.request import Request, Writing
from seqgen.tokenizers import Edit, Original, Tokenizer

KEPT = ("key", "instruments")  # by continuations, unless something else is asked
GUIDANCE = 2.0  # where something is asked for; measured in docs/experiments.md
TRIES = 4  # of a bar of which something is asked
VARIED = 0.3  # share of bars that are written anew where a file is varied
DEFAULT_CONTEXT = 512  # tokens, for a model folder that does not record its own
Asked = Mapping[str, str | None]  # what is asked for, by control, in words


class Check(Protocol):
    """Measures a written file."""

    def __call__(self, path: Path, row: int) -> list[ControlCheck]:
        """Return what was asked of the file of a row, and what came."""


@dataclass(frozen=True)
class Editing:
    """What is to be changed in a file: bars that are rewritten, or parts that are added.

    Attributes:
        path: of the file, which itself stays as it is.
        rewrite: the bars, as in "9-16" or "9"; None: parts are added to all.
        tracks: the parts that are rewritten, as in "piano, bass"; None: all.
        add: the parts that are added, as in "bass, drums".
        amount: the share of these bars that is written anew, each bar of each part drawn for
            itself; the others stay.
    """

    path: str
    rewrite: str | None = None
    tracks: str | None = None
    add: str | None = None
    amount: float = 1.0


@dataclass(frozen=True)
class Asking:
    """What is asked of a model, one row after the other.

    Attributes:
        prompts: what each file begins with, in tokens.
        requests: what the model is given.
        free: the same requests without what is asked for, which guidance compares with.
        check: measures a written file; called with its path and row.
    """

    prompts: list[Prompt]
    requests: list[Request]
    free: list[Request]
    check: Check


def trained_context(loaded: LoadedModel) -> int:
    """Return how many tokens the windows had that a model was trained with."""
    return loaded.record.get("context_length") or DEFAULT_CONTEXT


def keeping(tokenizer: Tokenizer, asked: Asked) -> Asked:
    """Return what is asked of a continuation, with "same" for what is kept by default (`KEPT`).

    What is asked already stays, also that a control is left open ("-").
    """
    if not tokenizer.config.marks:
        return asked
    known = Teller(tokenizer).controls.names
    kept = {name: SAME for name in KEPT if name in known and asked.get(name) is None}
    return {**asked, **kept}


def check_guidance(
    asked: Asked, guidance: float | None, tries: int | None, *, dash: str = ""
) -> None:
    """Refuse guidance and tries of bars where nothing is asked for that they act on.

    `dash` stands before their names in messages.

    Raises:
        UserError: nothing is asked for, or nothing of single bars.
    """
    if guidance not in (None, 1) and not asks(asked):
        raise UserError(
            f"{dash}guidance weighs what is asked for: ask for a key or another control too"
        )
    if tries not in (None, 1) and not asks({name: asked.get(name) for name in MEASURED_BARS}):
        raise UserError(
            f"{dash}tries is how often a bar is drawn until it has the chord or density that is "
            f"asked of it: ask for chords or a density too"
        )


def guidance_of(given: float | None, asked: Asked) -> float:
    """Return the guidance that is given, or else `GUIDANCE` where something is asked for."""
    if given is not None:
        return given
    return GUIDANCE if asks(asked) else 1.0


def plan_pieces(
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    asked: Asked,
    *,
    metre: str | None = None,
    bars: int | None = None,
    tempo: float | None = None,
) -> Asking:
    """Return what a model is given for pieces of which something is asked.

    Args:
        tokenizer: of the model.
        prompts: what they begin with.
        asked: controls in words, such as {"key": "Am"}; "same": as in the prompt's last bars; "-":
            left open.
        metre: the time signature of all new bars, such as "3/4".
        bars: how many new bars.
        tempo: that pieces begin with, if one is asked for; the prompts have it already.

    Raises:
        UserError: the run has not learned what is asked for.
    """
    teller = _teller(tokenizer)
    head = _head(teller, metre)
    # Without its length too, a stream would not know that the last bar is the last.
    length = read_wishes(teller.controls, {}, bars)
    wishes, requests, free = [], [], []
    for prompt in prompts:
        ids = prompt.ids[:-1] if (prompt.ids[-1] == tokenizer.bar).all() else prompt.ids
        piece = teller.reader.read(ids)
        words = as_before(teller.controls, asked, piece.bars)
        wish = read_wishes(teller.controls, words, bars)
        parts = wish(0).get("instruments")
        names = [name for name, text in words.items() if text is not None]
        options: dict[str, Any] = {"head": head, "n_bars": bars, "parts": parts}
        wishes.append((words, wish))
        request = continuation.request(teller, piece, wish, names=names, **options)
        requests.append(_reviewed(request, teller, words, wish))
        free.append(continuation.request(teller, piece, length, **options))
    told = [
        replace(
            prompt,
            ids=request.prompt,
            original=_longer(prompt.original, len(request.prompt)),
        )
        for prompt, request in zip(prompts, requests, strict=True)
    ]

    def check(path: Path, row: int) -> list[ControlCheck]:
        clock = prompts[row].clock
        words, wish = wishes[row]
        begin = clock.bar_start if prompts[row].file and clock else 0.0
        return check_asked(
            path, words, wish, levels=levels, begin=begin, bars=bars, metre=metre, tempo=tempo
        )

    levels = tokenizer.config.levels
    return Asking(told, requests, free, check)


def plan_edit(
    tokenizer: Tokenizer,
    editing: Editing,
    asked: Asked,
    *,
    n_rows: int,
    seed: int,
    context_length: int,
) -> Asking:
    """Return what a model is given for changes in a file.

    Args:
        tokenizer: of the model.
        editing: the file, and what is to be changed.
        asked: controls in words, of the new bars; "same": as in the bars before them, or else as in
            the last of the file; "-": left open.
        n_rows: how many answers there will be.
        seed: of what is drawn here: the bars that vary.
        context_length: tokens that the model was trained with.

    Raises:
        UserError: the file has no such bars or parts, or the run has not learned the task.
    """
    task = "accompany" if editing.add is not None else "infill"
    if task not in known_tasks(tokenizer.config):
        option = "--add" if task == "accompany" else "--rewrite and --vary"
        raise UserError(
            f"{option}: this run has not learned to {task}; train one with "
            f"data.tasks={{continue: 0.5, {task}: 0.5}}"
        )
    if not 0 < editing.amount <= 1:
        raise UserError(f"--amount {editing.amount:g} is a share of the bars: above 0, at most 1")
    teller = _teller(tokenizer)
    path = Path(editing.path)
    ids = _read(path, tokenizer)
    piece = teller.reader.read(ids)
    first, last = _bars(editing, piece)
    parts = _parts(editing, teller, piece)
    asked = as_before(teller.controls, asked, piece.bars[:first] or piece.bars)
    wish = read_wishes(teller.controls, asked, None)
    lines = np.cumsum([0.0, *(bar.quarters for bar in piece.bars)]).tolist()
    _check_bars(path, {first: lines[first], last: lines[last]})
    starts = np.flatnonzero(ids[:, 0] == teller.bar)
    clock = tokenizer.clock(tempo=tokenizer.tempo(path))
    assert clock is not None  # tokens of music have one
    for token in ids[: starts[first]]:
        clock.feed(token)
    what = f"bars {first + 1} to {last}" if last > first + 1 else f"bar {last}"
    names = "all parts" if parts == teller.parts else "; ".join(map(describe_part, parts))
    about = f"{what} of {len(piece.bars)}, {names}"
    rng = np.random.default_rng(seed)
    prompts, requests, free = [], [], []
    for _ in range(n_rows):
        written = _written(parts, last - first, editing.amount, rng)
        ask: Callable[[Wish], Request] = partial(
            infill.request, teller, piece, first, last, written, room=context_length
        )
        if task == "accompany":
            ask = partial(accompany.request, teller, piece, parts)
        request = ask(wish)
        # In its file the first bar stands behind those before it, and not behind what is given.
        own = request.prompt[_first_bar(request, teller) :]
        edit = Edit(
            path,
            tuple(
                (part, lines[first + k], lines[first + k + 1])
                for k, some in enumerate(written)
                for part in some
            ),
        )
        before = np.concatenate([ids[: starts[first]], own])
        prompts.append(Prompt(str(path), before, None, clock, first, about, (), edit))
        requests.append(_reviewed(request, teller, asked, wish))
        free.append(ask(no_wish))

    def check(path: Path, row: int) -> list[ControlCheck]:
        begin, end = lines[first], lines[last]
        levels = tokenizer.config.levels
        return check_asked(path, asked, wish, levels=levels, begin=begin, end=end)

    return Asking(prompts, requests, free, check)


def answer(
    decoder: Decoder,
    tokenizer: Tokenizer,
    asking: Asking,
    *,
    sampling: Sampling,
    max_tokens: int,
    seed: int,
    guidance: float = 1.0,
    tries: int | None = None,
) -> Iterator[Step]:
    """Yield the tokens of an answer to each request, as `generate` does: those drawn, and given.

    `Step.ended` lists the rows whose bars are all written.

    Args:
        decoder, tokenizer: of the model.
        asking: the requests.
        sampling, max_tokens, seed: of the draws.
        guidance: how much what is asked for weighs, see `decoding.guided`; 1: as the model has
            learned it.
        tries: how often a bar is drawn at most until it is what is asked of it; the best is taken;
            None: `TRIES` times.
    """
    writings, settings = begin_answers(tokenizer, asking, sampling, tries=tries)
    steps = generate(
        decoder,
        [request.prompt for request in asking.requests],
        guidance=guide_answers(asking, guidance),
        sampling=settings,
        max_tokens=max_tokens,
        rules=writings,
        seed=seed,
    )
    for step in steps:
        whole = (row for row in step.finished if row in step.ended or writings[row].is_whole)
        yield replace(step, ended=tuple(whole))


def begin_answers(
    tokenizer: Tokenizer, asking: Asking, sampling: Sampling, *, tries: int | None = None
) -> tuple[list[Writing], list[Sampling]]:
    """Return the rule that each answer follows while it is drawn, and the settings of its draws."""
    tries = TRIES if tries is None else tries
    if tries < 1:
        raise UserError(f"tries {tries}: must be 1 or more")
    bar = Teller(tokenizer).bar
    both = zip(asking.requests, asking.free, strict=True)
    writings = [Writing(request, free, bar, tries=tries) for request, free in both]
    settings = [
        replace(
            sampling,
            logit_bias=(*sampling.logit_bias, *((i, NEVER) for i in request.forbidden)),
        )
        for request in asking.requests
    ]
    return writings, settings


def guide_answers(asking: Asking, scale: float) -> list[Guidance | None]:
    """Return what the draws of each answer are compared with; None, nothing, with a scale of 1."""
    return [None if scale == 1 else Guidance(free.prompt, scale) for free in asking.free]


def _reviewed(request: Request, teller: Teller, asked: Asked, wish: Wish) -> Request:
    """Return a request of which bars are measured, if something is asked of single ones."""
    if not asks({name: asked.get(name) for name in MEASURED_BARS}):
        return request

    def review(number: int, written: np.ndarray) -> float:
        return teller.review(wish, number, np.concatenate([request.prompt, written]))

    return replace(request, review=review)


def _longer(original: Original | Edit | None, n_tokens: int) -> Original | Edit | None:
    """Return the file that a prompt is from, where the prompt has so many tokens."""
    if isinstance(original, Original):
        return replace(original, n_tokens=n_tokens)
    return original


def _read(path: Path, tokenizer: Tokenizer) -> np.ndarray:
    """Return a file as tokens [T, 1] from BOS on."""
    try:
        ids = tokenizer.encode(path)
    except FileRejected as rejected:
        raise UserError(f"--edit {rejected.name}: {rejected.reason}") from None
    bos = tokenizer.vocabulary.special_token(tokenizer.vocabulary.bos_id)[None]
    return np.concatenate([bos, ids])


def _written(
    parts: Sequence[str], n_bars: int, amount: float, rng: np.random.Generator
) -> list[list[str]]:
    """Draw for each bar the parts that are written anew; a share of all, one at least."""
    n = n_bars * len(parts)
    chosen = np.zeros(n, dtype=bool)
    chosen[rng.permutation(n)[: max(round(amount * n), 1)]] = True
    return [
        [part for k, part in enumerate(parts) if chosen[number * len(parts) + k]]
        for number in range(n_bars)
    ]


def _first_bar(request: Request, teller: Teller) -> int:
    """Return where in a prompt the first bar of what is asked for begins."""
    bars = np.flatnonzero(request.prompt[:, 0] == teller.bar)
    return int(bars[-request.begun])


def _teller(tokenizer: Tokenizer) -> Teller:
    """Return what tells bars with marks; UserError where the tokens have none."""
    if not tokenizer.config.marks:
        raise UserError(
            "this run has learned to continue and nothing else; for keys, chords and other "
            "controls train one with data.controls=[all]"
        )
    return Teller(tokenizer)


def _head(teller: Teller, metre: str | None) -> list[int]:
    """Return the ids of a time signature that all bars have."""
    if metre is None:
        return []
    known = list(teller.metres) or ["4/4"]
    if metre not in known:
        raise UserError(f"--metre {metre}: this run knows {', '.join(known)}")
    return [teller.metres[metre]] if metre in teller.metres else []


def _bars(editing: Editing, piece: Passage) -> tuple[int, int]:
    """Return the bars that are written, from 0 on: the first, and the one after the last."""
    n = len(piece.bars)
    if editing.rewrite is None:
        return 0, n
    found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+))?\s*", editing.rewrite)
    if found is None:
        raise UserError(f"bars {editing.rewrite!r}: write bars as in 9-16, or 9 for one")
    first, last = int(found[1]), int(found[2] or found[1])
    if not 1 <= first <= last <= n:
        raise UserError(f"bars {editing.rewrite}: {editing.path} has bars 1 to {n}")
    return first - 1, last


def _parts(editing: Editing, teller: Teller, piece: Passage) -> list[str]:
    """Return the parts that are written."""
    playing = {part for bar in piece.bars for part in bar.music}
    there = [part for part in teller.parts if part in playing]
    if editing.add is not None:
        absent = [part for part in teller.parts if part not in playing]
        try:
            return find_parts(editing.add, absent, option="--add")
        except UserError:
            known = find_parts(
                editing.add, teller.parts, option="--add"
            )  # or there is no such part
        part = next(part for part in known if part in playing)
        raise UserError(
            f"--add: the file has {describe_part(part)} already; to write it anew, use "
            f"--rewrite 1-{len(piece.bars)} --tracks {part}"
        )
    if editing.tracks is None:
        return teller.parts
    if teller.parts == [""]:
        raise UserError("--tracks: this run tells all tracks as one part; leave it out")
    return find_parts(editing.tracks, there, option="--tracks")


def _check_bars(path: Path, lines: Mapping[int, float]) -> None:
    """Raise UserError where bars of the file, by number, begin elsewhere than in the tokens."""
    midi = open_midi(path, ANY_SIZE)  # the tokenizer has read it within its limits
    ticks = {number: quarters * midi.ticks_per_beat for number, quarters in lines.items()}
    starts, _ = bars_and_beats(midi, round(max(ticks.values())) + 2)
    for number, tick in ticks.items():
        if number >= len(starts) or abs(starts[number] - tick) > 1:
            raise UserError(
                f"--edit {path}: its bars are not those that this run counts; train one whose "
                f"tokens have time signatures (tokenizer.use_time_signatures=true)"
            )
