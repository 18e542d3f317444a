"""A listen command carried out: each file played and written, what cannot be played named last."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from seqgen.commands.settings import console, say
from seqgen.commands.targets import Targets, fail_on
from seqgen.config import LimitsConfig
from seqgen.errors import FileRejected, UserError
from seqgen.files import readable
from seqgen.midi import MidiFile, open_midi
from seqgen.rendering.sound.audio_files import FORMATS, check_format, write_audio
from seqgen.rendering.sound.fluidsynth import PACKAGE
from seqgen.rendering.sound.loudness import TARGET
from seqgen.rendering.sound.soundfonts import find_soundfont
from seqgen.rendering.sound.synthesis import (
    MAX_MINUTES,
    WAV_MEGABYTES_PER_MINUTE,
    Sound,
    TooLong,
    open_synthesizer,
    synthesise,
)

LIMITS = LimitsConfig(max_minutes=10**5)  # how long a piece may last is asked when it is played
MORE_MINUTES = (
    f"--max-minutes allows more, at {WAV_MEGABYTES_PER_MINUTE:.0f} MB of WAV and twice the memory "
    f"a minute"
)
LISTEN = "`listen` plays more with --max-minutes"
AS_ASKED = 0.5  # LU from the target that need no word


class Player:
    """Plays pieces with one soundfont into files; UserError at once where something is missing."""

    def __init__(
        self,
        *,
        soundfont: str | None,
        synthesizer: str = "auto",
        suffix: str = ".wav",
        max_minutes: float = MAX_MINUTES,
        advice: str = "",
    ) -> None:
        """`advice` says how a piece beyond `max_minutes` can be played after all."""
        check_format(Path(f"x{suffix}"))
        self.suffix = suffix
        self.soundfont = find_soundfont(soundfont)
        self._synthesizer = open_synthesizer(self.soundfont, synthesizer)
        self._max_minutes = max_minutes
        self._advice = advice
        self.description = f"{self._synthesizer.name} with {self.soundfont}"
        if synthesizer == "symusic":
            self.description += f" (most are out of tune with it; {PACKAGE} plays them in tune)"

    def __enter__(self) -> "Player":
        return self

    def __exit__(self, *_: object) -> None:
        self._synthesizer.__exit__()

    def play(
        self, midi: MidiFile, path: Path, *, name: str, tell: Callable = lambda done, total: None
    ) -> Sound:
        """Write a piece as sound; FileRejected, with `name`, where it cannot be played."""
        try:
            sound = synthesise(midi, self._synthesizer, tell=tell, max_minutes=self._max_minutes)
        except TooLong as error:
            raise FileRejected("absurd", name, f"{error}; {self._advice}") from None
        except UserError as error:
            raise FileRejected("absurd", name, str(error)) from None
        write_audio(path, sound.samples, sound.sample_rate)
        return sound


def execute(
    files: Sequence[str],
    *,
    output: str | None,
    ogg: bool,
    soundfont: str | None,
    synthesizer: str,
    max_minutes: float,
    force: bool,
) -> None:
    """Play all that can be played."""
    paths = [Path(file) for file in files]
    suffix = ".ogg" if ogg else ".wav"
    targets = Targets(paths, output, suffixes=FORMATS, suffix=suffix, force=force)
    if output and Path(output).suffix.lower() in FORMATS:
        suffix = Path(output).suffix.lower()
    with Player(
        soundfont=soundfont,
        synthesizer=synthesizer,
        suffix=suffix,
        max_minutes=max_minutes,
        advice=MORE_MINUTES,
    ) as player:
        failures = play_all(player, paths, targets.of)
    fail_on(failures, len(paths))


def open_player(*, ogg: bool, soundfont: str | None) -> Player:
    """Return a player for generated files; UserError where something is missing."""
    return Player(
        soundfont=soundfont,
        suffix=".ogg" if ogg else ".wav",
        advice=LISTEN,
    )


def play_all(player: Player, paths: Sequence[Path], target_of: Callable[[Path], Path]) -> list[str]:
    """Play files one after the other with a progress bar; return what went wrong, by file."""
    failures = []
    say(player.description)
    with _bar() as bar:
        for path in paths:
            task = bar.add_task(readable(path.name), total=None)
            try:
                target, midi = target_of(path), open_midi(path, LIMITS)
                sound = player.play(midi, target, name=str(path), tell=_telling(bar, task))
            except UserError as error:
                failures.append(str(error))
                continue
            finally:
                bar.remove_task(task)
            say(f"  {target}: {describe(sound)}")
    return failures


def describe(sound: Sound) -> str:
    """Say how long and how loud a sound is."""
    decibels = 20 * math.log10(sound.peak)
    words = f"{sound.seconds:.1f} s, {sound.lufs:.1f} LUFS, peak {decibels:.1f} dBFS"
    if abs(sound.lufs - TARGET) > AS_ASKED:
        words += f" (too short and sharp for {TARGET:.0f} LUFS)"
    return words


def _bar() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _telling(bar: Progress, task) -> Callable[[int, int], None]:
    return lambda done, total: bar.update(task, completed=done, total=total)
