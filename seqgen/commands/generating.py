"""The work of `seqgen generate`: load, read prompts, generate, write and check."""

import secrets
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from seqgen.api.form import Form, generate_form
from seqgen.api.picking import ASKED, LIKELIEST, MOST_DIFFERENT, Picking
from seqgen.api.places import SHIPPED_FOLDER, find_model, model_name
from seqgen.api.prompts import Prompt, draw, read_prompts, read_sources
from seqgen.api.requests import TRIES, Asking, answer, guidance_of, trained_context
from seqgen.api.settings import RUNS, pick_device
from seqgen.attention.decay import default_decay_after
from seqgen.checkpoint import LoadedModel, RunFolder, describe_step, load_model
from seqgen.commands.explaining import explain as tell_decoder
from seqgen.commands.layout import Layout
from seqgen.commands.listening import MidiPlayer, open_player
from seqgen.commands.outputs import OutputFolder
from seqgen.commands.settings import console, say
from seqgen.config import load_config
from seqgen.decoding import Continuation, Step, build_decoder, continuations
from seqgen.decoding.choose import AUTO
from seqgen.decoding.formats import choose_weights
from seqgen.decoding.generation import NEVER, OnStep
from seqgen.decoding.prompts import check_sampling
from seqgen.errors import UserError
from seqgen.sampling import Sampling
from seqgen.tokenizers import Edit

KEPT = {
    ASKED: "meet most of what was asked",
    LIKELIEST: "are likeliest per note",
    MOST_DIFFERENT: "share the fewest notes",
}
STOPPING = (signal.SIGINT, signal.SIGTERM)


class Plan(NamedTuple):
    """What to generate: the prompt of each row, the steps, and what the records say of them.

    With `pick`, rows are alternatives, and it returns the `n_samples` that are written.
    """

    prompts: list[Prompt]
    steps: Iterator[Step]
    facts: dict
    n_samples: int
    asking: Asking | None = None
    pick: Callable[[list[Continuation]], list[Continuation]] | None = None


def execute(
    run: str | None,
    *,
    device: str | None,
    checkpoint: str,
    output: str | None,
    no_png: bool,
    audio: bool,
    ogg: bool,
    soundfont: str | None,
    **options: Any,
) -> None:
    """Generate files and write each as soon as it is finished; `options` are those of `_plan`."""
    path = find_model(run)
    loaded = load_model(path, device=pick_device(device), checkpoint=checkpoint)
    if (audio or ogg) and not loaded.tokenizer.is_music:
        raise UserError(
            f"--audio and --ogg are for music: {path} generates {loaded.tokenizer.kind}"
        )
    player = open_player(ogg=ogg, soundfont=soundfont) if audio or ogg else None
    layout = Layout.taken_from(options)
    plan = _plan(loaded, path, layout=layout, **options)
    if run is None and path == SHIPPED_FOLDER:
        say(f"no trained run in {RUNS}/: this is the model that comes with seqgen")
    say(f"{model_name(path)} ({describe_step(path, loaded)}), seed {plan.facts['seed']}")
    for prompt in {prompt.file: prompt for prompt in plan.prompts}.values():
        _tell_prompt(prompt)
    place = Path(output) if output else Path("generated") / path.resolve().name
    facts = {"run": model_name(path), "checkpoint": checkpoint, "step": loaded.step, **plan.facts}
    folder = OutputFolder(
        place,
        loaded.tokenizer,
        facts=facts,
        pictures=not no_png,
        check=None if plan.asking is None else plan.asking.check,
        only_whole=layout.edit is not None,
    )
    _write(plan, folder, player)


def _tell_prompt(prompt: Prompt) -> None:
    """Say what a prompt file holds, and what of it the model does not see."""
    if prompt.file is not None:
        kind = "edit" if isinstance(prompt.original, Edit) else "prompt"
        kind = kind if prompt.source is None else "source"
        say(f"  {kind} {prompt.file}: {prompt.about}")
        if prompt.left_out:
            say(f"    the model's tokens leave out or change: {', '.join(prompt.left_out)}")


def _plan(
    loaded: LoadedModel,
    run: Path,
    *,
    decoder: str,
    weights: str,
    explain: bool,
    prompts: Sequence[str],
    sources: Sequence[str],
    prompt_bars: int | None,
    prompt_rows: int | None,
    tempo: float | None,
    as_tokens: bool,
    n_samples: int,
    alternatives: int | None,
    pick: str | None,
    seed: int | None,
    endless: bool,
    decay_after: int | None,
    free: bool,
    max_tokens: int,
    layout: Layout,
    **filters: Any,
) -> Plan:
    """Build the decoder and read the prompts; `filters` are fields of `Sampling`."""
    is_of_pairs = bool(sources) or loaded.pairs is not None
    others = (prompts, prompt_bars, prompt_rows, as_tokens, tempo, endless, alternatives)
    if is_of_pairs and (any(others) or layout.asks):
        raise UserError(
            "a run of pairs writes a whole target for each --source: leave out --prompt and its "
            "options, --tempo, --endless, --alternatives, --form, --edit, and what is asked of bars"
        )
    layout.check(
        has_prompt=bool(prompts), endless=endless, has_tempo=tempo is not None, as_tokens=as_tokens
    )
    if free and layout.edit is not None:
        raise UserError(
            "--free allows tokens in any order, and the bars of --edit have to be whole: leave it "
            "out"
        )
    picking = Picking.choose(pick, n_samples, alternatives, layout.asked, tries=layout.tries)
    if pick is not None and alternatives is None and picking.of == n_samples:
        raise UserError("--pick chooses from --alternatives N: give that too")
    bias = ((loaded.tokenizer.vocabulary.eos_id, NEVER),) if endless else ()
    sampling = Sampling(**filters, grammar=not free, logit_bias=bias)
    check_sampling(sampling, loaded.tokenizer.vocabulary)
    if endless and decay_after is None and not loaded.model.config.forgets:
        decay_after = default_decay_after(_context_length(loaded, run))
    weights = choose_weights(loaded, decoder) if weights == AUTO else weights
    built = build_decoder(loaded.model, decoder, weights=weights, decay_after=decay_after)
    if explain:
        tell_decoder(loaded, run, decoder=decoder, weights=weights, decay_after=decay_after)
    seed = secrets.randbelow(2**31) if seed is None else seed
    if is_of_pairs:
        read = read_sources(sources, loaded.tokenizer, loaded.pairs)
    else:
        read = read_prompts(
            prompts,
            loaded.tokenizer,
            bars=prompt_bars,
            rows=prompt_rows,
            tempo=tempo,
            as_tokens=as_tokens,
        )
    guidance = guidance_of(layout.guidance, layout.asked)  # what is only kept weighs no more
    layout = layout.keeping(loaded.tokenizer) if prompts else layout
    each = [prompt for prompt in read for _ in range(picking.of)]
    given = [prompt.ids for prompt in each]
    draws: dict[str, Any] = {"sampling": sampling, "max_tokens": max_tokens, "seed": seed}
    chosen = {"decoder": built.name, "weights": weights, "decay_after": decay_after}
    facts = {"seed": seed, "sampling": vars(sampling), **chosen, "max_tokens": max_tokens}
    has_choice = picking.n < picking.of
    picked = {"alternatives": picking.of, "pick": picking.how} if has_choice else {}
    facts |= layout.facts | {"guidance": guidance} | picked
    asking = layout.ask(loaded.tokenizer, each, tempo, seed, trained_context(loaded))
    if asking is not None:
        if layout.edit is not None:
            draws["max_tokens"] = facts["max_tokens"] = max_tokens * (
                asking.requests[0].n_bars or 1
            )
        draws |= {"guidance": guidance, "tries": layout.tries}
        if any(request.review is not None for request in asking.requests):
            facts["tries"] = TRIES if layout.tries is None else layout.tries
        steps = answer(built, loaded.tokenizer, asking, **draws)
        each, given = asking.prompts, [request.prompt for request in asking.requests]
    elif layout.form is not None:
        laid_out = Form(layout.form, layout.section)
        laid_out.check(loaded.tokenizer)
        steps = generate_form(built, loaded.tokenizer, laid_out, n_rows=len(each), **draws)
        facts["form_bars"] = laid_out.bars
    else:
        draws |= {"bars": layout.bars, "seconds": layout.seconds}
        steps = draw(built, loaded.tokenizer, each, **draws)
    plan = Plan(each, steps, facts, n_samples * len(read), asking)
    if not has_choice:
        return plan
    choose = partial(picking.pick, model=loaded.model, tokenizer=loaded.tokenizer)
    check = asking.check if asking is not None else lambda path, row: []
    return plan._replace(pick=partial(choose, prompts=each, given=given, check=check))


def _write(plan: Plan, folder: OutputFolder, player: MidiPlayer | None) -> None:
    """Write all samples and list them; end with an error or an exit code where some are missing."""
    with _Stopping() as stopping, folder:
        folder.reserve({} if plan.pick else dict(enumerate(plan.prompts)))
        try:
            is_complete = _draw(plan, folder, stopping)
        finally:
            folder.tell()  # also what was written before an error
            folder.overview()
    if player is not None:
        folder.play(player)
    n_samples = plan.n_samples
    missing = f"{n_samples - len(folder.written)} of {n_samples} samples were not written"
    if not is_complete and stopping.signal is not None:
        if len(folder.written) < n_samples:
            say(f"{missing}: they hold no complete note, character or image")
        raise click.exceptions.Exit(128 + stopping.signal)  # as a shell reports a signal
    if len(folder.written) < n_samples:
        raise UserError(
            f"{missing} ({folder.failed[0]}): allow more --max-tokens, or try another --temperature"
        )


def _draw(plan: Plan, folder: OutputFolder, stopping: "_Stopping") -> bool:
    """Generate and write samples; after Ctrl-C, also write the unfinished ones.

    Returns whether all samples were finished.
    """
    n_rows, n_finished = len(plan.prompts), 0
    unfinished: list[int] = []
    with _bar(n_rows, n_rows * plan.facts["max_tokens"]) as show:
        found: Iterable[Continuation] = continuations(
            plan.steps, on_step=show, is_interrupted=lambda: stopping.signal is not None
        )
        if plan.pick is not None:
            found = plan.pick(list(found))
            say(
                f"kept {plan.n_samples} of {n_rows} alternatives: those that "
                f"{KEPT[plan.facts['pick']]}"
            )
            folder.reserve({drawn.row: plan.prompts[drawn.row] for drawn in found})
        for drawn in found:
            if drawn.end != "interrupted":
                n_finished += 1
                folder.write(drawn)
                folder.picture(drawn.row)
                continue
            if not unfinished:
                say("stopping: writing what was generated; press Ctrl-C again to stop at once")
            unfinished.append(drawn.row)
            folder.write(drawn)
        for row in unfinished:  # last, since it takes longest
            folder.picture(row)
    return n_finished == plan.n_samples


def _context_length(loaded: LoadedModel, run: Path) -> int:
    """Return the context length that the model was trained with."""
    known = loaded.record.get("context_length")
    if known is not None:
        return known
    try:
        return load_config(RunFolder(run).config).train.context_length
    except UserError:
        raise UserError(
            f"{run} does not record the context length of its training: add --decay-after N to "
            f"--endless (a quarter of that length works well)"
        ) from None


class _Stopping:
    """Records the first Ctrl-C or SIGTERM; the second one ends the command at once.

    Attributes:
        signal: the number of the first one; None before.
    """

    signal: int | None = None

    def __enter__(self) -> "_Stopping":
        self._handlers = {number: signal.signal(number, self._take) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _take(self, number: int, _: object) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def _bar(n_samples: int, n_tokens: int) -> Iterator[OnStep]:
    """Show tokens drawn, decode tokens/s over all rows, and samples finished."""
    bar = Progress(
        TextColumn("generating"),
        BarColumn(),
        TextColumn("{task.fields[finished]} of {task.fields[n_samples]} finished"),
        TextColumn("{task.fields[rate]:,.0f} tokens/s"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task("", total=n_tokens, finished=0, n_samples=n_samples, rate=0.0)

    def show(drawn: int, finished: int, seconds: float) -> None:
        bar.update(task, completed=drawn, rate=drawn / max(seconds, 1e-9), finished=finished)

    with bar:
        yield show
