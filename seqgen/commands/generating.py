"""The work of `seqgen generate`: load, read prompts, generate, write and check."""

import secrets
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from seqgen.api.prompts import read_prompts, stop_after
from seqgen.api.settings import RUNS, pick_device
from seqgen.attention.decay import default_decay_after
from seqgen.checkpoint import LoadedModel, RunFolder, describe_step, find_run, load_model
from seqgen.commands.explaining import explain as tell_decoder
from seqgen.commands.listening import Player, open_player
from seqgen.commands.outputs import OutputFolder, Sample
from seqgen.commands.settings import console, say
from seqgen.config import load_config
from seqgen.decoding import Step, build_decoder, generate
from seqgen.errors import UserError
from seqgen.sampling import Sampling

STOPPING = (signal.SIGINT, signal.SIGTERM)
NEVER = -1e6  # added to the logit of a token that must not be drawn


def execute(
    run: str | None,
    *,
    output: str | None,
    device: str | None,
    checkpoint: str,
    decoder: str,
    weights: str,
    explain: bool,
    prompts: Sequence[str],
    prompt_bars: int | None,
    n_samples: int,
    max_tokens: int,
    bars: int | None,
    seconds: float | None,
    seed: int | None,
    endless: bool,
    decay_after: int | None,
    free: bool,
    no_png: bool,
    audio: bool,
    ogg: bool,
    soundfont: str | None,
    **filters: Any,
) -> None:
    """Generate files per prompt and write each as soon as it is finished.

    `filters` are the options that `Sampling` has under the same names.
    """
    path = Path(run) if run else find_run(RUNS)
    loaded = load_model(path, device=pick_device(device), checkpoint=checkpoint)
    tokenizer = loaded.tokenizer
    player = None
    if audio or ogg:
        if tokenizer.suffix != ".mid":
            raise UserError(f"--audio and --ogg are for music: {path} generates text")
        player = open_player(ogg=ogg, soundfont=soundfont)
    bias = ((tokenizer.vocabulary.eos_id, NEVER),) if endless else ()
    sampling = Sampling(**filters, grammar=not free, logit_bias=bias)
    if endless and decay_after is None:
        decay_after = default_decay_after(_context_length(loaded, path))
    built = build_decoder(loaded.model, decoder, weights=weights, decay_after=decay_after)
    if explain:
        tell_decoder(loaded, path, decoder=decoder, decay_after=decay_after)
    each = read_prompts(prompts, tokenizer, bars=prompt_bars)
    samples = [Sample(i, p) for i, p in enumerate(p for p in each for _ in range(n_samples))]
    stop = stop_after([sample.prompt for sample in samples], bars=bars, seconds=seconds)
    seed = secrets.randbelow(2**31) if seed is None else seed
    facts = {
        "run": str(path),
        "checkpoint": checkpoint,
        "step": loaded.step,
        "seed": seed,
        "sampling": vars(sampling),
        "decoder": built.name,
        "weights": weights,
        "decay_after": decay_after,
        "max_tokens": max_tokens,
        "max_bars": bars,
        "max_seconds": seconds,
    }
    say(f"{path} ({describe_step(path, loaded)}), seed {seed}")
    steps = generate(
        built,
        [sample.prompt.ids for sample in samples],
        sampling=sampling,
        max_tokens=max_tokens,
        stop=stop,
        seed=seed,
    )
    place = Path(output) if output else Path("generated") / path.resolve().name
    folder = OutputFolder(place, tokenizer, facts=facts, pictures=not no_png)
    _write(steps, samples, folder, player, max_tokens=max_tokens)


def _write(
    steps: Iterable[Step],
    samples: Sequence[Sample],
    folder: OutputFolder,
    player: Player | None,
    *,
    max_tokens: int,
) -> None:
    """Write all samples and list them; end with an error or an exit code where some are missing."""
    with _Stopping() as stopping, folder:
        folder.reserve(samples)
        try:
            unfinished = _draw(steps, samples, folder, stopping, max_tokens=max_tokens)
        finally:
            folder.tell()  # also what was written before an error
    if player is not None:
        folder.play(player)
    n_missing = len(samples) - len(folder.written)
    if unfinished and stopping.signal is not None:
        if n_missing:
            say(
                f"{n_missing} of {len(samples)} samples were not written: "
                f"they hold no complete note or character"
            )
        raise click.exceptions.Exit(128 + stopping.signal)  # as a shell reports a signal
    if n_missing:
        raise UserError(
            f"{n_missing} of {len(samples)} samples were not written ({folder.failed[0]}): "
            f"allow more --max-tokens, or try another --temperature"
        )


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


def _draw(
    steps: Iterable[Step],
    samples: Sequence[Sample],
    folder: OutputFolder,
    stopping: _Stopping,
    *,
    max_tokens: int,
) -> list[Sample]:
    """Generate and write samples; if stopped, also write the unfinished ones.

    Returns the samples that were stopped.
    """
    unfinished = {sample.index: sample for sample in samples}
    with _bar(len(samples), max_tokens) as advance:
        drawn, seconds, begin = 0, 0.0, time.perf_counter()
        for step in steps:
            drawn += len(step.rows)
            seconds += time.perf_counter() - begin
            for row, token in zip(step.rows, step.tokens, strict=True):
                samples[row].tokens.append(token)
            for i in step.finished:
                sample = unfinished.pop(i)
                sample.seconds, sample.tokens_per_second = seconds, drawn / seconds
                folder.write(sample, ended=i in step.ended)
                folder.picture(sample)
            advance(len(step.rows), drawn / seconds, len(step.finished))
            if stopping.signal is not None:
                break
            begin = time.perf_counter()  # writing files is not decoding
        if unfinished:
            say("stopping: writing what was generated; press Ctrl-C again to stop at once")
        for sample in unfinished.values():
            if sample.tokens:
                sample.seconds, sample.tokens_per_second = seconds, drawn / seconds
                folder.write(sample, ended=False, interrupted=True)
        for sample in unfinished.values():  # last, since it takes longest
            folder.picture(sample)
    return list(unfinished.values())


@contextmanager
def _bar(n_samples: int, max_tokens: int) -> Iterator[Callable[[int, float, int], None]]:
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
    task = bar.add_task("", total=n_samples * max_tokens, finished=0, n_samples=n_samples, rate=0.0)
    finished = 0

    def advance(tokens: int, rate: float, newly_finished: int) -> None:
        nonlocal finished
        finished += newly_finished
        bar.update(task, advance=tokens, rate=rate, finished=finished)

    with bar:
        yield advance
