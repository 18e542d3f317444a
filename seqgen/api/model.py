"""A trained model as Python programs use it: load it, generate, save the pieces.

Legend: T positions, F fields.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqgen.api.form import Form, generate_form
from seqgen.api.picking import Picking
from seqgen.api.places import find_model
from seqgen.api.prompts import Prompt, draw, read_prompts, read_sources
from seqgen.api.requests import (
    VARIED,
    Check,
    Editing,
    answer,
    check_guidance,
    guidance_of,
    keeping,
    plan_edit,
    plan_pieces,
    trained_context,
)
from seqgen.api.settings import pick_device
from seqgen.checkpoint import load_model
from seqgen.decoding import Decoder, Step, build_decoder, continuations
from seqgen.decoding.choose import AUTO
from seqgen.decoding.formats import choose_weights
from seqgen.errors import UserError
from seqgen.evaluation.asked import ControlCheck
from seqgen.files import reserve
from seqgen.model.sequence_model import SequenceModel
from seqgen.sampling import Sampling
from seqgen.tokenizers import Tokenizer


@dataclass(frozen=True)
class Piece:
    """One generated sequence: a prompt and its continuation.

    Attributes:
        prompt: what it begins with.
        tokens: the continuation [T, F].
        ended: whether the model ended it, or all bars that were asked for are written, and it was
            not cut at a limit.
    """

    prompt: Prompt
    tokens: np.ndarray
    ended: bool
    tokenizer: Tokenizer = field(repr=False)
    check: Callable[[Path], list[ControlCheck]] = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Write prompt and continuation as a file, atomically; return its path.

        Raises:
            UserError: the file exists.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not reserve(path):
            raise UserError(f"{path} exists: choose another name, or delete it")
        try:
            prompt, ids = self.prompt, self.prompt.whole(self.tokens)
            self.tokenizer.decode(ids, path, tempo=prompt.tempo, original=prompt.original)
        except BaseException:
            path.unlink()
            raise
        return path

    def findings(self, path: str | Path) -> list[ControlCheck]:
        """Measure the saved file: what was asked of it, what came, and whether that is the same."""
        return self.check(Path(path))


@dataclass(frozen=True)
class Model:
    """A trained model, ready to generate.

    Attributes:
        path: the run or model folder it was loaded from.
        step: of the training, whose weights these are.
        model: the parallel form, which owns the weights.
        decoder: what computes decode steps; `Engine(decoder)` runs many streams at once.
        tokenizer: files to ids and back.
        context_length: tokens of the windows that it was trained with.
        pairs: how it was told a source and a target, as `data.pairs`; None: it takes no source.
    """

    path: Path
    step: int
    model: SequenceModel
    decoder: Decoder
    tokenizer: Tokenizer
    context_length: int
    pairs: str | None = None

    def generate(
        self,
        prompt: str | Path | None = None,
        *,
        source: str | Path | None = None,
        prompt_bars: int | None = None,
        prompt_rows: int | None = None,
        tempo: float | None = None,
        as_tokens: bool = False,
        samples: int = 1,
        alternatives: int | None = None,
        pick: str | None = None,
        max_tokens: int = 2048,
        bars: int | None = None,
        seconds: float | None = None,
        form: str | None = None,
        section: int | None = None,
        asked: Mapping[str, str | None] | None = None,
        metre: str | None = None,
        guidance: float | None = None,
        tries: int | None = None,
        seed: int = 0,
        **sampling: Any,
    ) -> list[Piece]:
        """Generate pieces; the same seed gives the same pieces.

        Args:
            prompt: a file to continue; None: begin from nothing.
            source: a file for which a run of pairs writes a target; it takes nothing else that
                music begins with, and nothing that is asked of it.
            prompt_bars: use only so many first bars of the prompt.
            prompt_rows: of an image, use only so many rows from its top; None: half of them.
            tempo: quarter notes per minute with which saved pieces begin; None: the prompt's, or
                what the tokens say, or the median of the corpus.
            as_tokens: save the prompt as its tokens have it, not as its file.
            samples: how many pieces.
            alternatives: how many are drawn, of which `samples` are returned; None: as many, or
                four times as many where something is `asked` of whole pieces, or of bars and
                `pick` is given.
            pick: which of them: "asked", "likeliest" or "most-different", see `Picking`; None:
                "asked" where something is, otherwise "likeliest".
            max_tokens: the most new tokens of each.
            bars, seconds: stop after so many new bars, or seconds of new music.
            form: sections to lay out, such as "AABA" or "8 8' 8 16", see `seqgen.api.form.Form`;
                `max_tokens` is then for each new section.
            section: bars of each section that is a letter; None: 8.
            asked: what the music should be, such as {"key": "Am", "chords": "Am F C G"}; for a run
                trained with `data.controls`, which are its names. After a prompt "same" is what its
                last eight bars are; the key and who plays are by default, and "-" leaves them open.
            metre: time signature of all new bars, such as "3/4".
            guidance: how much what is asked for weighs; 1: as the model has learned it; above:
                more, at twice the work; None: 2 where something is asked for.
            tries: how often a bar is drawn at most of which chords or a density are asked, until
                it is so; the best is kept; None: 4.
            seed: of the draws.
            sampling: `temperature`, `top_k` and the other fields of `Sampling`.

        Raises:
            UserError: the prompt cannot be used, or a setting is impossible.
        """
        files = [] if prompt is None else [str(prompt)]
        picking = Picking.choose(pick, samples, alternatives, asked or {}, tries=tries)
        if source is not None or self.pairs is not None:
            others = (prompt, prompt_bars, prompt_rows, tempo)
            if any((*others, as_tokens, alternatives, form, asked, metre)):
                raise UserError(
                    "a run of pairs writes a whole target for a source: leave out prompt and its "
                    "options, tempo, alternatives, form, asked and metre"
                )
            given_source = [] if source is None else [str(source)]
            prompts = samples * read_sources(given_source, self.tokenizer, self.pairs)
        else:
            prompts = picking.of * read_prompts(
                files,
                self.tokenizer,
                bars=prompt_bars,
                rows=prompt_rows,
                tempo=tempo,
                as_tokens=as_tokens,
            )
        draws: dict[str, Any] = {"sampling": Sampling(**sampling), "max_tokens": max_tokens}
        check_guidance(asked or {}, guidance, tries)
        guidance = guidance_of(guidance, asked or {})  # what is only kept does not weigh more
        if prompt is not None and form is None and seconds is None:
            asked = keeping(self.tokenizer, asked or {})
        if asked or metre is not None:
            if form is not None or seconds is not None:
                raise UserError("what is asked of bars excludes form and seconds: give bars")
            asking = plan_pieces(
                self.tokenizer, prompts, asked or {}, metre=metre, bars=bars, tempo=tempo
            )
            draws |= {"seed": seed, "guidance": guidance, "tries": tries}
            steps = answer(self.decoder, self.tokenizer, asking, **draws)
            given = [request.prompt for request in asking.requests]
            return self._pieces(steps, asking.prompts, asking.check, given, picking)
        ids = [prompt.ids for prompt in prompts]
        if form is not None:
            if prompt is not None or bars is not None or seconds is not None:
                raise UserError("form lays out a whole piece: leave out prompt, bars and seconds")
            laid_out = Form(form, section)
            steps = generate_form(
                self.decoder, self.tokenizer, laid_out, n_rows=picking.of, seed=seed, **draws
            )
        else:
            draws |= {"bars": bars, "seconds": seconds, "seed": seed}
            steps = draw(self.decoder, self.tokenizer, prompts, **draws)
        return self._pieces(steps, prompts, lambda path, row: [], ids, picking)

    def edit(
        self,
        file: str | Path,
        *,
        rewrite: str | None = None,
        vary: str | None = None,
        amount: float = VARIED,
        tracks: str | None = None,
        add: str | None = None,
        asked: Mapping[str, str] | None = None,
        guidance: float | None = None,
        tries: int | None = None,
        samples: int = 1,
        alternatives: int | None = None,
        pick: str | None = None,
        max_tokens: int = 2048,
        seed: int = 0,
        **sampling: Any,
    ) -> list[Piece]:
        """Change bars of a file, or add parts to it; saved pieces are the file with these changes.

        Args:
            file: a MIDI file, which itself stays as it is.
            rewrite: bars that are written anew, such as "9-16".
            vary: bars of which a share is written anew; instead of `rewrite`.
            amount: this share, each bar of each part drawn for itself.
            tracks: parts to which these two apply, such as "piano, bass"; None: all.
            add: parts that are added, such as "bass, drums"; instead of `rewrite`.
            asked, guidance, tries: what the new bars should be, as for `generate`.
            samples: how many answers.
            alternatives, pick: of how many they are chosen, and which, as for `generate`.
            max_tokens: the most new tokens for each new bar.
            seed: of the draws.
            sampling: `temperature`, `top_k` and the other fields of `Sampling`.

        Raises:
            UserError: the file has no such bars or parts, or the run has not learned to do it.
        """
        if [rewrite, vary, add].count(None) != 2:
            raise UserError("edit needs one of rewrite, vary and add")
        check_guidance(asked or {}, guidance, tries)
        bars = rewrite if vary is None else vary
        picking = Picking.choose(pick, samples, alternatives, asked or {}, tries=tries)
        editing = Editing(str(file), bars, tracks, add, 1.0 if vary is None else amount)
        asking = plan_edit(
            self.tokenizer,
            editing,
            asked or {},
            n_rows=picking.of,
            seed=seed,
            context_length=self.context_length,
        )
        n_bars = asking.requests[0].n_bars or 1
        steps = answer(
            self.decoder,
            self.tokenizer,
            asking,
            sampling=Sampling(**sampling),
            max_tokens=max_tokens * n_bars,
            seed=seed,
            guidance=guidance_of(guidance, asked or {}),
            tries=tries,
        )
        given = [request.prompt for request in asking.requests]
        return self._pieces(steps, asking.prompts, asking.check, given, picking)

    def _pieces(
        self,
        steps: Iterable[Step],
        prompts: Sequence[Prompt],
        check: Check,
        given: Sequence[np.ndarray],
        picking: Picking,
    ) -> list[Piece]:
        """Return what steps draw as a piece for each prompt, or those that are picked."""
        drawn = sorted(continuations(steps), key=lambda found: found.row)
        if picking.n < picking.of:
            drawn = picking.pick(
                drawn,
                model=self.model,
                tokenizer=self.tokenizer,
                prompts=prompts,
                given=given,
                check=check,
            )
        return [
            Piece(
                prompts[found.row],
                found.tokens,
                found.end == "eos",
                self.tokenizer,
                partial(check, row=found.row),
            )
            for found in drawn
        ]


def load(
    run: str | Path | None = None,
    *,
    checkpoint: str = "best",
    device: str | None = None,
    decoder: str = "auto",
    weights: str = "auto",
) -> Model:
    """Load a trained model.

    Args:
        run: a run or model folder, "shipped" or "hf:OWNER/NAME@REVISION", as `find_model` says;
            None: the newest run in runs/, or the model that comes with the package.
        checkpoint: "best" by validation loss, or "last".
        device: "cpu", "cuda" or "cuda:1"; None: a GPU if there is one.
        decoder: "auto", "reference", "torch", "native", "cuda" or "onnx".
        weights: "float32", "bf16", "int8" or "w8a8", as far as the decoder supports them; "auto":
            the fastest that cost at most 0.002 bits per token when training ended.

    Raises:
        UserError: there is no such run, it is damaged, or the decoder cannot run it.
    """
    path = find_model(run)
    loaded = load_model(path, device=pick_device(device), checkpoint=checkpoint)
    weights = choose_weights(loaded, decoder) if weights == AUTO else weights
    built = build_decoder(loaded.model, decoder, weights=weights)
    context_length = trained_context(loaded)
    tokenizer, pairs = loaded.tokenizer, loaded.pairs
    return Model(path, loaded.step, loaded.model, built, tokenizer, context_length, pairs)
