"""The work of `seqgen listen`: a sound file for each MIDI file; failures are listed at the end."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from seqgen.commands.settings import console, say
from seqgen.commands.targets import Targets, fail_on
from seqgen.config import LimitsConfig
from seqgen.errors import FileRejected, UserError
from seqgen.files import atomic_path, readable
from seqgen.midi import open_midi
from seqgen.rendering.sound.loudness import TARGET
from seqgen.rendering.sound.soundfonts import find_soundfont
from seqgen.rendering.sound.synthesis import FORMATS, MAX_MINUTES, Sound, synthesise
from seqgen.rendering.sound.synthesizer import Synthesizer, Tell
from seqgen.tokenizers import modality_of

LIMITS = LimitsConfig(max_minutes=10**5)  # `max_minutes` of the player decides
AS_ASKED = 0.5  # a difference from the target in LU that is not reported


class MidiPlayer:
    """Plays MIDI files with one soundfont."""

    def __init__(
        self, *, soundfont: str | None, suffix: str = ".wav", max_minutes: float = MAX_MINUTES
    ) -> None:
        """Raise UserError where the soundfont or the synthesizer is missing."""
        self.suffix = suffix
        self.soundfont = find_soundfont(soundfont)
        self._synthesizer = Synthesizer(self.soundfont)
        self._max_minutes = max_minutes

    def play(self, path: Path, *, tell: Tell) -> Sound:
        """Return a MIDI file as sound; FileRejected where it cannot be played."""
        reader = modality_of(path)
        if reader is not None and not reader.is_music:
            reason = f"it holds {reader.kind}, which cannot be played"
            raise FileRejected("unsupported", str(path), reason)
        midi = open_midi(path, LIMITS)
        try:
            return synthesise(midi, self._synthesizer, tell=tell, max_minutes=self._max_minutes)
        except UserError as error:
            raise FileRejected("over-limit", str(path), str(error)) from None


def execute(
    files: Sequence[str],
    *,
    output: str | None,
    ogg: bool,
    soundfont: str | None,
    max_minutes: float,
    force: bool,
) -> None:
    """Write the sound of every file that can be played."""
    paths = [Path(file) for file in files]
    suffix = ".ogg" if ogg else ".wav"
    targets = Targets(paths, output, suffixes=tuple(FORMATS), suffix=suffix, force=force)
    player = MidiPlayer(soundfont=soundfont, suffix=suffix, max_minutes=max_minutes)
    failures = play_all(player, paths, targets.of, targets.writing)
    fail_on(failures, len(paths))


def open_player(*, ogg: bool, soundfont: str | None) -> MidiPlayer:
    """Return a player for generated files; UserError where something is missing."""
    return MidiPlayer(soundfont=soundfont, suffix=".ogg" if ogg else ".wav")


def play_all(
    player: MidiPlayer,
    paths: Sequence[Path],
    target_of: Callable[[Path], Path],
    writing: Callable[[Path], AbstractContextManager[Path]] = atomic_path,
) -> list[str]:
    """Play files one after the other with a progress bar; return the error of each that failed.

    `writing` yields the temporary path that a target is written to.
    """
    failures = []
    say(f"playing with the soundfont {player.soundfont}")
    with _bar() as bar:
        for path in paths:
            task = bar.add_task(readable(path.name), total=None)
            try:
                target = target_of(path)
                sound = player.play(path, tell=_telling(bar, task))
                with writing(target) as temporary:
                    temporary.write_bytes(sound.encode(target.suffix))
            except UserError as error:
                failures.append(str(error))
                continue
            finally:
                bar.remove_task(task)
            say(f"  {target}: {describe(sound)}")
    return failures


def describe(sound: Sound) -> str:
    """Say how long and how loud a sound is."""
    peak = 20 * math.log10(sound.true_peak)
    words = f"{sound.seconds:.1f} s, {sound.lufs:.1f} LUFS, true peak {peak:.1f} dBFS"
    if abs(sound.lufs - TARGET) > AS_ASKED:
        words += f" (softer than {TARGET:.0f} LUFS, because its peaks would clip)"
    return words


def _bar() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _telling(bar: Progress, task: TaskID) -> Tell:
    return lambda done, total: bar.update(task, completed=done, total=total)
