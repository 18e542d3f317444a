"""Generated files: written under new names, checked, each with a record and a picture.

Legend: F fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seqgen.api.prompts import Prompt
from seqgen.commands.listening import Player, play_all
from seqgen.commands.settings import say
from seqgen.commands.targets import fail_on
from seqgen.errors import FileRejected, UserError
from seqgen.files import atomic_path, reserve, write_json
from seqgen.midi import ANY_SIZE, open_midi, summarize
from seqgen.rendering.piano_roll import save_piano_roll
from seqgen.tokenizers import Tokenizer


@dataclass
class Sample:
    """One sample while it grows: its prompt, and the tokens [F] drawn so far."""

    index: int
    prompt: Prompt
    tokens: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0  # from the start of decoding to this sample's end
    tokens_per_second: float = 0.0  # over all samples until then

    @property
    def prompt_seconds(self) -> float | None:
        """Seconds of music in the prompt."""
        return None if self.prompt.clock is None else self.prompt.clock.seconds


class OutputFolder:
    """Writes samples as 001.mid, 001.json, 001.png …, under numbers that no other process uses.

    A number is reserved by creating its record, which says what is known before the sample is
    drawn. Leaving the context frees the numbers of samples that were not written.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer, *, facts: dict, pictures: bool):
        self._path = path
        self._tokenizer = tokenizer
        self._facts = facts
        self._pictures = pictures and tokenizer.suffix == ".mid"
        self._reserved: dict[int, Path] = {}  # records, by index
        self.written: dict[int, tuple[Path, str]] = {}  # files and their content, by index
        self.failed: list[str] = []

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(self, *_: object) -> None:
        for record in self._reserved.values():
            record.with_suffix(self._tokenizer.suffix).unlink(missing_ok=True)
            record.unlink(missing_ok=True)

    def reserve(self, samples: Sequence[Sample]) -> None:
        """Reserve a number for each sample, above all that are in the folder."""
        if self._path.exists() and not self._path.is_dir():
            raise UserError(f"{self._path} is a file: name a folder for the samples with -o")
        self._path.mkdir(parents=True, exist_ok=True)
        taken = [int(path.stem) for path in self._path.iterdir() if path.stem.isdecimal()]
        number = max(taken, default=0) + 1
        for sample in samples:
            while not reserve(self._path / f"{number:03d}.json"):
                number += 1
            self._reserved[sample.index] = self._path / f"{number:03d}.json"
            write_json(self._reserved[sample.index], self._record(sample))

    def write(self, sample: Sample, *, ended: bool, interrupted: bool = False) -> None:
        """Write a sample and its record, both or neither; one without content goes to `failed`.

        `ended`: with EOS; `interrupted`: by the user, before EOS and any limit.
        """
        record = self._reserved[sample.index]
        path = record.with_suffix(self._tokenizer.suffix)
        ids = np.concatenate([sample.prompt.ids, np.stack(sample.tokens)])
        try:
            with atomic_path(path) as new_file, atomic_path(record) as new_record:
                self._tokenizer.decode(ids, new_file, tempo=sample.prompt.tempo)
                content = self._check(new_file)
                outcome = {
                    "file": path.name,
                    "tokens": len(sample.tokens),
                    "ended_by_itself": ended,
                    "interrupted": interrupted,
                    "seconds": round(sample.seconds, 3),
                    "decode_tokens_per_second": round(sample.tokens_per_second, 1),
                }
                write_json(new_record, self._record(sample) | outcome | content)
        except FileRejected as rejected:
            self.failed.append(f"sample {sample.index + 1}: {rejected.reason}")
            return
        del self._reserved[sample.index]
        end = "" if ended else " (interrupted)" if interrupted else " (cut)"
        description = f"{len(sample.tokens)} tokens, {_describe(content)}{end}"
        self.written[sample.index] = (path, description)

    def picture(self, sample: Sample) -> None:
        """Draw a sample as a piano roll beside it, if it was written."""
        if self._pictures and sample.index in self.written:
            path, _ = self.written[sample.index]
            save_piano_roll(
                open_midi(path, ANY_SIZE),
                path.with_suffix(".png"),
                title=f"{path.stem}, seed {self._facts['seed']}",
                continuation_from_seconds=sample.prompt_seconds if sample.prompt.file else None,
            )

    def tell(self) -> None:
        """Print what was written."""
        for _, (path, description) in sorted(self.written.items()):
            say(f"  {path}: {description}")
        kinds = "records (.json)" + (" and pictures (.png)" if self._pictures else "")
        if self.written:
            n = len(self.written)
            files = "1 file" if n == 1 else f"{n} files"
            say(f"{files} in {self._path}, {kinds} beside them")

    def play(self, player: Player) -> None:
        """Write the sound of each file beside it; UserError for what cannot be played."""
        paths = [path for _, (path, _) in sorted(self.written.items())]
        failures = play_all(player, paths, lambda path: path.with_suffix(player.suffix))
        fail_on(failures, len(paths))

    def _check(self, path: Path) -> dict:
        """Read a written file back, with other code than the code that wrote it."""
        if self._tokenizer.suffix != ".mid":
            return {"bytes": path.stat().st_size}
        summary = summarize(open_midi(path, ANY_SIZE))
        return {"notes": summary.n_notes, "music_seconds": round(summary.seconds, 3)}

    def _record(self, sample: Sample) -> dict:
        """Return what is known of a sample before it is drawn."""
        return {
            **self._facts,
            "row": sample.index,
            "prompt": sample.prompt.file,
            "prompt_tokens": len(sample.prompt.ids),
            "prompt_seconds": sample.prompt_seconds,
        }


def _describe(content: dict) -> str:
    if "notes" in content:
        return f"{content['notes']} notes, {content['music_seconds']:.1f} s of music"
    return f"{content['bytes']} bytes"
