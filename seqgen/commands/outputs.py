"""Generated files: written under a new name, read back, recorded, pictured.

Legend: F fields.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seqgen.commands.listening import Player, play_all
from seqgen.commands.prompts import Prompt
from seqgen.commands.settings import say
from seqgen.commands.targets import fail_on
from seqgen.errors import FileRejected
from seqgen.files import atomic_path, write_json
from seqgen.midi import ANY_SIZE, open_midi, summarize
from seqgen.rendering.piano_roll import save_piano_roll
from seqgen.tokenizers import Tokenizer


@dataclass
class Row:
    """One sample while it grows: its prompt, and the tokens [F] drawn so far."""

    index: int
    prompt: Prompt
    tokens: list[np.ndarray] = field(default_factory=list)
    seconds: float = 0.0  # from the start of decoding to this row's end
    tokens_per_second: float = 0.0  # over all rows until then

    @property
    def prompt_seconds(self) -> float | None:
        """Seconds of music in the prompt."""
        return None if self.prompt.clock is None else self.prompt.clock.seconds


class OutputFolder:
    """Writes samples as 001.mid, 001.json, 001.png …, never over what is there."""

    def __init__(self, path: Path, tokenizer: Tokenizer, *, facts: dict, pictures: bool):
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._tokenizer = tokenizer
        self._facts = facts
        self._pictures = pictures and tokenizer.suffix == ".mid"
        taken = [int(p.stem) for p in path.iterdir() if p.stem.isdecimal()]
        self._first = max(taken, default=0) + 1
        self.written: list[tuple[Path, str]] = []
        self.failed: list[str] = []

    def write(self, row: Row, *, ended: bool) -> None:
        """Write a finished sample; it is kept only if it reads back with something in it."""
        drawn = np.stack(row.tokens)
        path = self._path / f"{self._first + row.index:03d}{self._tokenizer.suffix}"
        ids = np.concatenate([row.prompt.ids, drawn])
        try:
            with atomic_path(path) as temporary:
                self._tokenizer.decode(ids, temporary, tempo=row.prompt.tempo)
                content = self._check(temporary)
        except FileRejected as rejected:
            self.failed.append(f"sample {row.index + 1}: {rejected.reason}")
            return
        write_json(path.with_suffix(".json"), self._record(row, path, content, ended=ended))
        if self._pictures:
            title = f"{path.stem}, seed {self._facts['seed']}"
            save_piano_roll(
                open_midi(path, ANY_SIZE),
                path.with_suffix(".png"),
                title=title,
                continuation_from_seconds=row.prompt_seconds if row.prompt.file else None,
            )
        self.written.append((path, self._describe(content, len(drawn), ended=ended)))

    def tell(self) -> None:
        """Print what was written."""
        for path, description in sorted(self.written):
            say(f"  {path}: {description}")
        kinds = "records (.json)" + (" and pictures (.png)" if self._pictures else "")
        if self.written:
            n = len(self.written)
            files = "1 file" if n == 1 else f"{n} files"
            say(f"{files} in {self._path}, {kinds} beside them")

    def play(self, player: Player) -> None:
        """Write the sound of each file beside it; UserError for what cannot be played."""
        paths = sorted(path for path, _ in self.written if path.suffix == ".mid")
        failures = play_all(player, paths, lambda path: path.with_suffix(player.suffix))
        fail_on(failures, len(paths))

    def _check(self, path: Path) -> dict:
        """Read a written file back with other code than wrote it."""
        if self._tokenizer.suffix != ".mid":
            return {"bytes": path.stat().st_size}
        summary = summarize(open_midi(path, ANY_SIZE))
        return {"notes": summary.n_notes, "music_seconds": round(summary.seconds, 3)}

    def _record(self, row: Row, path: Path, content: dict, *, ended: bool) -> dict:
        return {
            **self._facts,
            "file": path.name,
            "row": row.index,
            "prompt": row.prompt.file,
            "prompt_tokens": len(row.prompt.ids),
            "prompt_seconds": row.prompt_seconds,
            "tokens": len(row.tokens),
            "ended_by_itself": ended,
            "seconds": round(row.seconds, 3),
            "decode_tokens_per_second": round(row.tokens_per_second, 1),
            **content,
        }

    def _describe(self, content: dict, n_tokens: int, *, ended: bool) -> str:
        if "notes" in content:
            what = f"{content['notes']} notes, {content['music_seconds']:.1f} s of music"
        else:
            what = f"{content['bytes']} bytes"
        return f"{n_tokens} tokens, {what}{'' if ended else ' (cut)'}"
