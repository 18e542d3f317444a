"""What is written for a request: what the model is given, what ends it, and what becomes of it.

Legend: T positions, F fields.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from seqgen.api.form import Form, FormWriting, form_sampling
from seqgen.api.model import Model
from seqgen.api.picking import Picking
from seqgen.api.prompts import Prompt, Until, prompt_of, read_prompts
from seqgen.api.requests import (
    Asked,
    Editing,
    begin_answers,
    check_guidance,
    guidance_of,
    guide_answers,
    keeping,
    plan_edit,
    plan_pieces,
)
from seqgen.decoding.guided import Guidance
from seqgen.decoding.rules import Rule
from seqgen.errors import UserError
from seqgen.evaluation.asked import ControlCheck
from seqgen.sampling import Sampling
from seqgen.serving.music import NOTHING, Kept
from seqgen.serving.problems import Limits
from seqgen.serving.schemas import GenerateRequest, ShownPiece, VersionRequest
from seqgen.serving.settings import sampling_of
from seqgen.tasks.asking import asks
from seqgen.tokenizers import Edit

TOKENS_PER_BAR = 1024  # drawn at most, on average
FREE_TOKENS = 4096  # where no bars are asked for


@dataclass(frozen=True)
class Parent:
    """The version that is gone on from: its tokens [T, F], its piece, and its file."""

    ids: np.ndarray
    piece: ShownPiece
    path: Path


@dataclass(frozen=True)
class PlannedVersion:
    """One thing to be written.

    Attributes:
        start: what the model is given first [T, F].
        prompt: what the piece begins with, which is what the model is given, or an edited file.
        rule: what ends it.
        sampling, seed, number, max_tokens: of the draws.
        guidance: what the draws are compared with; None: nothing.
        kept: notes of the version before.
        check: measures the written file.
        from_bar: the bar line from which it is new.
    """

    start: np.ndarray
    prompt: Prompt
    rule: Rule
    sampling: Sampling
    seed: int
    number: int
    max_tokens: int
    guidance: Guidance | None = None
    kept: Kept = NOTHING
    check: Callable[[Path], list[ControlCheck]] = field(default=lambda path: [])
    from_bar: int | None = None


def plan_versions(
    model: Model, asked: VersionRequest, parent: Parent | None, seed: int, limits: Limits
) -> list[PlannedVersion]:
    """Return what is to be written for a request.

    Raises:
        UserError: the run has not learned it, the piece has no such bars or parts, or options
            exclude each other.
    """
    _check(asked, parent)
    n_rows = picking_of(asked).of
    if asked.form is not None:
        return _form(model, asked, n_rows, seed, limits)
    if asked.task != "continue":
        assert parent is not None
        return _edit(model, asked, parent, n_rows, seed, limits)
    prompt, from_bar, kept = _beginning(model, asked, parent)
    wanted: Asked = keeping(model.tokenizer, asked.asked) if prompt.bars else asked.asked
    if asks(wanted) or asked.metre is not None:
        prompts = [prompt] * n_rows
        return _asked(model, asked, wanted, prompts, from_bar, kept, seed, limits)
    return [
        PlannedVersion(
            prompt.ids,
            prompt,
            Until(prompt, asked.bars),
            sampling_of(asked.sampling),
            seed,
            number,
            most_tokens(asked.bars, limits),
            kept=kept,
            from_bar=from_bar,
        )
        for number in range(n_rows)
    ]


def picking_of(asked: VersionRequest) -> Picking:
    """Return how many are drawn for a request, and which of them are kept."""
    how, n, of = asked.pick, asked.samples, asked.alternatives
    return Picking.choose(how, n, of, asked.asked, tries=asked.tries)


def plan_piece(
    model: Model, asked: GenerateRequest, seed: int, limits: Limits
) -> tuple[list[PlannedVersion], Picking]:
    """Return what is to be written for a program: a piece from nothing, one of several."""
    if asked.stream and (asked.pick is not None or asked.alternatives not in (None, 1)):
        raise UserError(
            "a stream is drawn once, as it is told while it is written: leave out alternatives and "
            "pick, or stream"
        )
    names = ("bars", "sampling", "asked", "metre", "tempo", "guidance", "tries")
    same = {name: getattr(asked, name) for name in (*names, "alternatives", "pick")}
    if asked.stream:
        same["alternatives"] = 1
    version = VersionRequest(**same)
    return plan_versions(model, version, None, seed, limits), picking_of(version)


def _check(asked: VersionRequest, parent: Parent | None) -> None:
    """Raise UserError where parts of a request exclude each other."""
    if parent is None and asked.task != "continue":
        raise UserError(f"task {asked.task} changes bars of a version: give parent")
    if parent is None and asked.from_bar is not None:
        raise UserError("from_bar is a bar line of a parent: give parent, or leave it out")
    if asked.form is not None and (
        parent or asks(asked.asked) or asked.metre or asked.guidance not in (None, 1)
    ):
        raise UserError(
            "form lays out a whole piece: leave out parent, asked, metre and guidance beside it"
        )
    check_guidance(asked.asked, asked.guidance, asked.tries)
    if asked.task in ("rewrite", "vary") and asked.rewrite is None:
        raise UserError(f'task {asked.task} needs rewrite: the bars, such as "9-16"')
    if asked.task == "add" and not asked.add:
        raise UserError("task add needs add: the names of the parts that are added")


def most_tokens(bars: int | None, limits: Limits) -> int:
    """Return how many tokens are drawn at most for so many bars."""
    return min(limits.max_tokens, FREE_TOKENS if bars is None else bars * TOKENS_PER_BAR)


def _beginning(
    model: Model, asked: VersionRequest, parent: Parent | None
) -> tuple[Prompt, int | None, Kept]:
    """Return the prompt, the bar line that it ends at, and the notes before that."""
    if parent is None:
        [prompt] = read_prompts((), model.tokenizer, bars=None, tempo=asked.tempo)
        return prompt, None, NOTHING
    n_bars = len(parent.piece.bars) - 1
    from_bar = n_bars if asked.from_bar is None else asked.from_bar
    if from_bar > n_bars:
        raise UserError(f"from_bar {from_bar}: the version has bar lines from 0 to {n_bars}")
    tempo = asked.tempo or parent.piece.tempos[0].bpm
    prompt = prompt_of(parent.ids, model.tokenizer, path=parent.path, bars=from_bar, tempo=tempo)
    assert prompt.clock is not None
    until = prompt.clock.bar_start if model.tokenizer.bar is not None else prompt.clock.quarters
    return prompt, from_bar, Kept.of(parent.piece, until=until)


def _asked(
    model: Model,
    asked: VersionRequest,
    wanted: Asked,
    prompts: list[Prompt],
    from_bar: int | None,
    kept: Kept,
    seed: int,
    limits: Limits,
) -> list[PlannedVersion]:
    """Plan bars of which something is wanted: what is asked for, and what is kept."""
    asking = plan_pieces(
        model.tokenizer,
        prompts,
        wanted,
        metre=asked.metre,
        bars=asked.bars,
        tempo=asked.tempo,
    )
    sampling, most = sampling_of(asked.sampling), most_tokens(asked.bars, limits)
    rules, settings = begin_answers(model.tokenizer, asking, sampling, tries=asked.tries)
    guidance = guide_answers(asking, guidance_of(asked.guidance, asked.asked))
    return [
        PlannedVersion(
            request.prompt,
            asking.prompts[row],
            rules[row],
            settings[row],
            seed,
            row,
            most,
            guidance=guidance[row],
            kept=kept,
            check=partial(asking.check, row=row),
            from_bar=from_bar,
        )
        for row, request in enumerate(asking.requests)
    ]


def _edit(
    model: Model, asked: VersionRequest, parent: Parent, n_rows: int, seed: int, limits: Limits
) -> list[PlannedVersion]:
    """Plan bars that are written anew, or parts that are added."""
    editing = Editing(
        str(parent.path),
        None if asked.task == "add" else asked.rewrite,
        ",".join(asked.tracks) or None,
        ",".join(asked.add) if asked.task == "add" else None,
        asked.amount if asked.task == "vary" else 1.0,
    )
    asking = plan_edit(
        model.tokenizer,
        editing,
        dict(asked.asked),
        n_rows=n_rows,
        seed=seed,
        context_length=model.context_length,
    )
    parts = model.tokenizer.config.part_names or []
    n_bars = asking.requests[0].n_bars or 1
    sampling, most = sampling_of(asked.sampling), most_tokens(n_bars, limits)
    rules, settings = begin_answers(model.tokenizer, asking, sampling, tries=asked.tries)
    guidance = guide_answers(asking, guidance_of(asked.guidance, asked.asked))
    plans = []
    for row, request in enumerate(asking.requests):
        prompt = asking.prompts[row]
        assert isinstance(prompt.original, Edit)
        plans.append(
            PlannedVersion(
                request.prompt,
                prompt,
                rules[row],
                settings[row],
                seed,
                row,
                most,
                guidance=guidance[row],
                kept=Kept.of(parent.piece, edit=prompt.original, parts=parts),
                check=partial(asking.check, row=row),
                from_bar=prompt.bars,
            )
        )
    return plans


def _form(
    model: Model, asked: VersionRequest, n_rows: int, seed: int, limits: Limits
) -> list[PlannedVersion]:
    """Plan a piece that is laid out in sections."""
    assert asked.form is not None
    form = Form(asked.form, asked.section)
    [prompt] = read_prompts((), model.tokenizer, bars=None, tempo=asked.tempo)
    form.check(model.tokenizer)
    sampling = form_sampling(model.tokenizer, sampling_of(asked.sampling))
    per_section = min(FREE_TOKENS, limits.max_tokens)
    most = min(per_section * form.n_new, limits.max_tokens)
    return [
        PlannedVersion(
            prompt.ids,
            prompt,
            FormWriting(form, model.tokenizer, per_section),
            sampling,
            seed,
            number,
            most,
        )
        for number in range(n_rows)
    ]
