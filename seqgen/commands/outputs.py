"""Generated files: written under new names, checked, each with a record and a picture."""

from collections.abc import Callable, Mapping
from pathlib import Path

from seqgen.api.prompts import Prompt
from seqgen.commands.listening import MidiPlayer, play_all
from seqgen.commands.settings import say
from seqgen.commands.targets import fail_on
from seqgen.decoding import Continuation
from seqgen.errors import FileRejected, UserError
from seqgen.evaluation.asked import ControlCheck
from seqgen.files import atomic_path, counted, reserve, write_bytes, write_json
from seqgen.midi import ANY_SIZE, open_midi
from seqgen.rendering.piano_roll import save_piano_roll
from seqgen.rendering.previews import OVERVIEW, preview_image
from seqgen.tokenizers import Edit, Tokenizer
from seqgen.tokenizers.pixels import png

Check = Callable[[Path, int], list[ControlCheck]]


class OutputFolder:
    """Writes samples as 001.mid, 001.json, 001.png …, under numbers that no other process uses.

    A number is reserved by creating its record, which says what is known before the sample is
    drawn. Leaving the context frees the numbers of samples that were not written.
    """

    def __init__(
        self,
        path: Path,
        tokenizer: Tokenizer,
        *,
        facts: dict,
        pictures: bool,
        check: Check | None = None,
        only_whole: bool = False,
    ):
        """Name a folder.

        Args:
            path: of the folder, which may exist.
            tokenizer: of the model.
            facts: what all records say.
            pictures: whether to draw pictures of music.
            check: measures whether a file is what was asked for; called with its path and row.
            only_whole: whether a sample that was cut is none.
        """
        self._path = path
        self._measure, self._only_whole = check, only_whole
        self._tokenizer = tokenizer
        self._facts = facts
        self._pictures = pictures and tokenizer.is_music
        self._prompts: dict[int, Prompt] = {}  # by row
        self._reserved: dict[int, Path] = {}  # records, by row
        self.written: dict[int, tuple[Path, str]] = {}  # files and their content, by row
        self.failed: list[str] = []

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(self, *_: object) -> None:
        for record in self._reserved.values():
            record.with_suffix(self._tokenizer.suffix).unlink(missing_ok=True)
            record.unlink(missing_ok=True)

    def reserve(self, prompts: Mapping[int, Prompt]) -> None:
        """Reserve a number for the sample of each row's prompt, above all that are in the folder.

        Without any, the folder is made where it does not exist.
        """
        if self._path.exists() and not self._path.is_dir():
            raise UserError(f"{self._path} is a file: name a folder for the samples with -o")
        self._path.mkdir(parents=True, exist_ok=True)
        self._prompts |= prompts
        taken = [int(path.stem) for path in self._path.iterdir() if path.stem.isdecimal()]
        number = max(taken, default=0) + 1
        for row in prompts:
            while not reserve(self._path / f"{number:03d}.json"):
                number += 1
            self._reserved[row] = self._path / f"{number:03d}.json"
            write_json(self._reserved[row], self._record(row))

    def write(self, drawn: Continuation) -> None:
        """Write a sample and its record, both or neither; one without content goes to `failed`."""
        if self._only_whole and drawn.end != "eos":
            self.failed.append(f"sample {drawn.row + 1}: its bars were not finished")
            return
        record, prompt = self._reserved[drawn.row], self._prompts[drawn.row]
        path = record.with_suffix(self._tokenizer.suffix)
        ids = prompt.whole(drawn.tokens)
        try:
            with atomic_path(path) as new_file, atomic_path(record) as new_record:
                self._tokenizer.decode(ids, new_file, tempo=prompt.tempo, original=prompt.original)
                content, words = self._tokenizer.measure(new_file)
                findings = self._measure(new_file, drawn.row) if self._measure else []
                asked = [vars(finding) for finding in findings]
                outcome = {
                    "file": path.name,
                    "tokens": len(drawn.tokens),
                    "ended_by_itself": drawn.end == "eos",
                    "interrupted": drawn.end == "interrupted",
                    "seconds": round(drawn.seconds, 3),
                    "decode_tokens_per_second": round(drawn.tokens_per_second, 1),
                }
                outcome |= {"asked": asked} if asked else {}
                write_json(new_record, self._record(drawn.row) | outcome | content)
        except FileRejected as rejected:
            self.failed.append(f"sample {drawn.row + 1}: {rejected.reason}")
            return
        del self._reserved[drawn.row]
        end = {"eos": "", "limit": " (cut)", "interrupted": " (interrupted)"}[drawn.end]
        description = f"{len(drawn.tokens)} tokens, {words}{end}"
        description += "".join(f"\n    {finding}" for finding in findings)
        self.written[drawn.row] = (path, description)

    def picture(self, row: int) -> None:
        """Draw a sample as a piano roll beside it, if it was written."""
        if self._pictures and row in self.written:
            path, _ = self.written[row]
            prompt = self._prompts[row]
            is_continued = prompt.file is not None and prompt.source is None
            save_piano_roll(
                open_midi(path, ANY_SIZE),
                path.with_suffix(".png"),
                title=f"{path.stem}, seed {self._facts['seed']}",
                continuation_from_seconds=_seconds(prompt) if is_continued else None,
                new_quarters=_new_quarters(prompt),
            )

    def overview(self) -> None:
        """Draw all samples that are pictures side by side into one more, if there are several."""
        paths = [path for _, (path, _) in sorted(self.written.items())]
        if self._tokenizer.is_music or len(paths) < 2:
            return
        seen = [self._tokenizer.preview(path) for path in paths]
        picture = preview_image(seen)
        if picture is not None:
            write_bytes(self._path / OVERVIEW, png(picture))
            say(f"  {self._path / OVERVIEW}: all of them")

    def tell(self) -> None:
        """Print what was written."""
        for _, (path, description) in sorted(self.written.items()):
            say(f"  {path}: {description}")
        kinds = "records (.json)" + (" and pictures (.png)" if self._pictures else "")
        if self.written:
            files = counted(len(self.written), "file")
            say(f"{files} in {self._path}, {kinds} beside them")

    def play(self, player: MidiPlayer) -> None:
        """Write the sound of each file beside it; UserError for what cannot be played."""
        paths = [path for _, (path, _) in sorted(self.written.items())]
        failures = play_all(player, paths, lambda path: path.with_suffix(player.suffix))
        fail_on(failures, len(paths))

    def _record(self, row: int) -> dict:
        """Return what is known of a sample before it is drawn."""
        prompt = self._prompts[row]
        return {
            **self._facts,
            "row": row,
            **({"prompt": prompt.file} if prompt.source is None else {"source": prompt.file}),
            "prompt_tokens": len(prompt.ids),
            "prompt_seconds": _seconds(prompt),
            "new_quarters": _new_quarters(prompt),
        }


def _seconds(prompt: Prompt) -> float | None:
    """Return the seconds of music in a prompt; None where a file is edited."""
    is_edit = isinstance(prompt.original, Edit)
    return None if prompt.clock is None or is_edit else prompt.clock.seconds


def _new_quarters(prompt: Prompt) -> tuple[float, float] | None:
    """Return where the new bars of an edited file begin and end, in quarter notes."""
    if not isinstance(prompt.original, Edit):
        return None
    places = prompt.original.places
    return min(begin for _, begin, _ in places), max(end for _, _, end in places)
