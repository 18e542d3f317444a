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
    from seqgen.commands.settings import console, progress_bar
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
    console.print(
        f"{state}: {report['files_used']} of {report['files_seen']} files in {data.folder}",
        highlight=False,
    )
    for split, counts in report["splits"].items():
        numbers = ", ".join(f"{number:,} {what}" for what, number in counts.items())
        console.print(f"  {split}: {numbers}", highlight=False)
    if result.built and report["skipped"]:
        _tell_skipped(report["skipped"], console, data.folder / REPORT)
    return data


def _tell_skipped(skipped: list[dict], console, path) -> None:
    kinds = Counter(entry["kind"] for entry in skipped)
    parts = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    console.print(
        f"skipped {len(skipped)} files ({parts}); all are listed in {path}",
        highlight=False,
        soft_wrap=True,
    )
    for entry in skipped[:SHOWN]:
        console.print(f"  {entry['file']}: {entry['reason']}", highlight=False, markup=False)
    if len(skipped) > SHOWN:
        console.print(f"  … and {len(skipped) - SHOWN} more")
