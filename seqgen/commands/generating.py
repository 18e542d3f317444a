"""A generation command carried out: load, prompt, draw with a progress bar, write and check."""

import secrets
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from seqgen.attention.fading import window_after
from seqgen.checkpoint import LoadedModel, RunFolder, describe_step, find_run, load_model
from seqgen.commands.explaining import explain as tell_decoder
from seqgen.commands.listening import Player, open_player
from seqgen.commands.outputs import OutputFolder, Row
from seqgen.commands.prompts import read_prompts
from seqgen.commands.settings import console, pick_device, say
from seqgen.config import load_config
from seqgen.decoding import Decoder, build_decoder, generate
from seqgen.errors import UserError
from seqgen.sampling import Sampling

RUNS = Path("runs")
NEVER = -1e6  # added to the logit of what is not to be drawn


@dataclass(frozen=True)
class Asked:
    """The options of the command that say what is drawn, and what is written of it."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float
    frequency_penalty: float
    endless: bool
    window: int | None
    decoder: str
    weights: str
    explain: bool
    prompts: Sequence[str]
    prompt_bars: int | None
    samples: int
    max_tokens: int
    bars: int | None
    seconds: float | None
    seed: int | None
    free: bool
    no_png: bool
    audio: bool
    ogg: bool
    soundfont: str | None


def execute(
    run: str | None, *, output: str | None, device: str | None, checkpoint: str, **options
) -> None:
    """Generate files per prompt and write each as soon as it is finished; `options`: `Asked`."""
    asked = Asked(**options)
    path = Path(run) if run else find_run(RUNS)
    loaded = load_model(path, device=pick_device(device), checkpoint=checkpoint)
    player = _player(asked, loaded, path)
    sampling = _sampling(asked, loaded)
    decoder, window = _decoder(asked, loaded, path)
    prompts = read_prompts(asked.prompts, loaded.tokenizer, bars=asked.prompt_bars)
    each = (prompt for prompt in prompts for _ in range(asked.samples))
    rows = [Row(i, prompt) for i, prompt in enumerate(each)]
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    folder = OutputFolder(
        Path(output) if output else Path("generated") / path.resolve().name,
        loaded.tokenizer,
        facts={
            "run": str(path),
            "checkpoint": checkpoint,
            "step": loaded.step,
            "seed": seed,
            "sampling": vars(sampling),
            "decoder": decoder.name,
            "weights": asked.weights,
            "window": window,
            "max_tokens": asked.max_tokens,
            "max_bars": asked.bars,
            "max_seconds": asked.seconds,
        },
        pictures=not asked.no_png,
    )
    limit = _Limit(rows, loaded, bars=asked.bars, seconds=asked.seconds)
    say(f"{path} ({describe_step(path, loaded)}), seed {seed}")
    _draw(rows, decoder, folder, limit, sampling=sampling, max_tokens=asked.max_tokens, seed=seed)
    _tell(folder, player, len(rows))


def _player(asked: Asked, loaded: LoadedModel, run: Path) -> Player | None:
    """What plays the files, if it is asked for; UserError at once where it cannot."""
    if not (asked.audio or asked.ogg):
        return None
    if loaded.tokenizer.suffix != ".mid":
        raise UserError(f"--audio and --ogg are for music: {run} writes text, which has no sound")
    return open_player(ogg=asked.ogg, soundfont=asked.soundfont)


def _sampling(asked: Asked, loaded: LoadedModel) -> Sampling:
    return Sampling(
        asked.temperature,
        asked.top_k,
        asked.top_p,
        asked.min_p,
        asked.repetition_penalty,
        grammar=not asked.free,
        typical_p=asked.typical_p,
        frequency_penalty=asked.frequency_penalty,
        logit_bias={loaded.tokenizer.vocabulary.eos_id: NEVER} if asked.endless else (),
    )


def _decoder(asked: Asked, loaded: LoadedModel, run: Path) -> tuple[Decoder, int | None]:
    """Build what computes steps, explained if asked for; and after how many the past fades."""
    window = asked.window
    if asked.endless and window is None:
        window = window_after(_context_length(loaded, run))
    built = build_decoder(loaded.model, asked.decoder, weights=asked.weights, window=window)
    if asked.explain:
        tell_decoder(loaded, run, decoder=asked.decoder, window=window)
    return built, window


def _tell(folder: OutputFolder, player: Player | None, n_rows: int) -> None:
    """Say what was written, play it, and end with an error where something was not."""
    folder.tell()
    if player is not None:
        folder.play(player)
    if folder.failed:
        raise UserError(
            f"{len(folder.failed)} of {n_rows} samples were not written ({folder.failed[0]}): "
            f"allow more --max-tokens, or try another --temperature"
        )


def _context_length(loaded: LoadedModel, run: Path) -> int:
    """Positions of a window that the model has learned from."""
    known = loaded.record.get("context_length")
    if known is not None:
        return known
    try:
        return load_config(RunFolder(run).config).train.context_length
    except UserError:
        raise UserError(
            f"{run} does not say how long the windows were that it learned from: give --window N "
            f"(a quarter of them is a good one) instead of --endless"
        ) from None


class _Limit:
    """Stops a row after so many new bars or seconds of music."""

    def __init__(
        self, rows: Sequence[Row], loaded: LoadedModel, *, bars: int | None, seconds: float | None
    ):
        self._bars, self._seconds = bars, seconds
        self._clocks = [loaded.tokenizer.clock(tempo=row.prompt.tempo) for row in rows]
        if (bars or seconds) and self._clocks[0] is None:
            raise UserError("--bars and --seconds are for music; this run's tokens have no time")
        self._starts = []
        for row, clock in zip(rows, self._clocks, strict=True):
            if clock is not None:
                for token in row.prompt.ids:
                    clock.feed(token)
                self._starts.append((clock.bars, clock.seconds))
                row.prompt_seconds = clock.seconds

    def __call__(self, row: int, token: np.ndarray) -> bool:
        clock = self._clocks[row]
        if clock is None:
            return False
        clock.feed(token)
        bars, seconds = self._starts[row]
        return (self._bars is not None and clock.bars - bars > self._bars) or (
            self._seconds is not None and clock.seconds - seconds >= self._seconds
        )


def _draw(
    rows: list[Row],
    decoder: Decoder,
    folder: OutputFolder,
    limit: _Limit,
    *,
    sampling: Sampling,
    max_tokens: int,
    seed: int,
) -> None:
    steps = generate(
        decoder,
        [row.prompt.ids for row in rows],
        sampling=sampling,
        max_tokens=max_tokens,
        stop=limit,
        seed=seed,
    )
    with _bar(len(rows), max_tokens) as advance:
        drawn, seconds, begin = 0, 0.0, time.perf_counter()
        for step in steps:
            drawn += len(step.rows)
            seconds += time.perf_counter() - begin
            for row, token in zip(step.rows, step.tokens, strict=True):
                rows[row].tokens.append(token)
            for row in step.finished:
                rows[row].seconds, rows[row].tokens_per_second = seconds, drawn / seconds
                folder.write(rows[row], ended=row in step.ended)
            advance(len(step.rows), drawn / seconds, len(step.finished))
            begin = time.perf_counter()  # writing files is not decoding


@contextmanager
def _bar(n_rows: int, max_tokens: int):
    """Show tokens drawn, decode tokens/s over all rows, and samples finished."""
    bar = Progress(
        TextColumn("generating"),
        BarColumn(),
        TextColumn("{task.fields[finished]} of {task.fields[n_rows]} finished"),
        TextColumn("{task.fields[rate]:,.0f} tokens/s"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task("", total=n_rows * max_tokens, finished=0, n_rows=n_rows, rate=0.0)
    finished = 0

    def advance(tokens: int, rate: float, newly_finished: int) -> None:
        nonlocal finished
        finished += newly_finished
        bar.update(task, advance=tokens, rate=rate, finished=finished)

    with bar:
        yield advance
