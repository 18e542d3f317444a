"""`seqgen prepare`: source files to prepared data, with a report of what was turned away."""

from collections import Counter

import click

SHOWN = 5  # skipped files that are named on screen


@click.command()
@click.argument("arguments", nargs=-1, metavar="[CONFIG] [KEY=VALUE]...")
@click.option("--data", help="Folder, file or corpus name; short for data.source=….")
def prepare(arguments: tuple[str, ...], data: str | None) -> None:
    """Read, check and tokenize a corpus. Training does this by itself where it is needed.

    \b
    python cli.py prepare --data FOLDER
    python cli.py prepare configs/pop909.yaml data.source=FOLDER
    """
    from seqgen.commands.settings import read_config

    extra = [f"data.source={data}"] if data else []
    config, _, _ = read_config([*arguments, *extra])
    prepare_and_report(config)


def prepare_and_report(config, tokenizer=None):
    """Prepare data for a configuration, print what came of it, and return the data."""
    from seqgen.commands.settings import progress_bar, say
    from seqgen.data.prepare import prepare as make
    from seqgen.data.shards import REPORT
    from seqgen.files import read_json

    with progress_bar() as tell:
        result = make(
            config.data, config.limits, config.tokenizer, tokenizer=tokenizer, progress=tell
        )
    data = result.data
    way_out = f"delete {data.folder} to prepare it again"
    report = read_json(data.folder / REPORT, way_out=way_out)
    state = "prepared" if result.built else "already prepared"
    say(f"{state}: {report['files_used']} of {report['files_seen']} files in {data.folder}")
    for split, counts in report["splits"].items():
        numbers = ", ".join(f"{number:,} {what}" for what, number in counts.items())
        say(f"  {split}: {numbers}")
    if result.built and report["skipped"]:
        _tell_skipped(report["skipped"], data.folder / REPORT)
    return data


def _tell_skipped(skipped: list[dict], path) -> None:
    from seqgen.commands.settings import say

    kinds = Counter(entry["kind"] for entry in skipped)
    parts = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    say(f"skipped {len(skipped)} files ({parts}); all are listed in {path}")
    for entry in skipped[:SHOWN]:
        say(f"  {entry['file']}: {entry['reason']}")
    if len(skipped) > SHOWN:
        say(f"  … and {len(skipped) - SHOWN} more")
