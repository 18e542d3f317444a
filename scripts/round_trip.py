"""What a folder of MIDI files loses on its way into tokens and back, for each token format.

    python scripts/round_trip.py FOLDER [--files 100]

For each format the settings are chosen from the files, as `prepare` does; each file is tokenized,
written back from its tokens and compared note by note.
"""

import sys
import time
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from seqgen.commands.settings import console, progress_bar
from seqgen.config import LimitsConfig, TokenizerConfig
from seqgen.data.corpora import open_corpus
from seqgen.errors import FileRejected, UserError
from seqgen.tokenizers import (
    Shift,
    build_tokenizer,
    choose_settings,
    survey_file,
    total_account,
)

FORMATS: dict[str, dict] = {
    "remi, part by part": {"type": "remi", "quotes": False},
    "remi, part by part, repeated bars quoted": {"type": "remi", "quotes": True},
    "remi, one stream": {"type": "remi", "layout": "stream"},
    "tsd": {"type": "tsd"},
    "midilike": {"type": "midilike"},
    "structured": {"type": "structured"},
    "cpword": {"type": "cpword"},
    "octuple": {"type": "octuple"},
    "remi, compact": {  # one part, four positions per beat, nothing else
        "type": "remi",
        "parts": "one",
        "quotes": False,
        "use_velocities": False,
        "use_tempos": False,
        "use_time_signatures": True,
        "use_sustain_pedals": False,
        "use_pitch_bends": False,
        "positions_per_beat": 4,
        "max_note_beats": 8,
    },
}


@click.command()
@click.argument("folder")
@click.option("--files", "n_files", default=100, show_default=True, help="At most so many files.")
def main(folder: str, n_files: int) -> None:
    """Compare the files in FOLDER with what their tokens give back."""
    limits = LimitsConfig()
    suffixes = build_tokenizer(TokenizerConfig(), limits).suffixes
    try:
        corpus = open_corpus(folder, suffixes, cache=Path("prepared") / "corpora", option="")
    except UserError as error:
        raise click.ClickException(str(error)) from None
    files, surveys = [], []
    for file in map(corpus.path, corpus.labels[:n_files]):
        try:
            surveys.append(survey_file(file, limits))
            files.append(file)
        except FileRejected as rejected:
            console.print(f"refused {rejected}")
    if not files:
        raise click.ClickException(f"no usable file in {folder}")
    for name, options in FORMATS.items():
        report(name, TokenizerConfig(**options), files, surveys, limits)


def report(
    name: str, config: TokenizerConfig, files: list[Path], surveys: list, limits: LimitsConfig
) -> None:
    """Print what one format keeps of the files."""
    tokenizer = build_tokenizer(choose_settings(config, surveys)[0], limits)
    accounts, n_tokens, start = [], 0, time.process_time()
    with progress_bar() as tell:
        for done, file in enumerate(files, start=1):
            found = tokenizer.examine(file, [Shift()])
            accounts.append(found.account)
            n_tokens += len(found.variants[0])
            tell(name, done, len(files))
    seconds = time.process_time() - start
    total = total_account(accounts)
    onset, duration = total["onset_ms"], total["duration_ms"]
    console.print(
        f"{name}: {total['notes_kept']:,} of {total['notes']:,} notes of {len(files)} files, "
        f"{n_tokens / total['notes']:.2f} tokens per note, {sum(tokenizer.vocabulary.sizes)} ids; "
        f"onsets off by {onset['median']} ms (95%: {onset['p95']}), durations by "
        f"{duration['median']} ms (95%: {duration['p95']}); {seconds / len(files):.3f} s per file"
    )
    for what, counts in (("not kept", total["lost"]), ("repaired", total["repaired"])):
        if counts:
            console.print(f"  {what}: " + ", ".join(f"{n:,} {kind}" for kind, n in counts.items()))


if __name__ == "__main__":
    main()
