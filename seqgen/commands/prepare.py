"""`seqgen prepare`: source files to prepared data, with a report of the refused files."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from seqgen.config import Config
    from seqgen.data.passes import PassEngine
    from seqgen.data.shards import PreparedData
    from seqgen.tokenizers import Tokenizer

SHOWN = 5  # refused files that are named on screen


@click.command()
@click.argument("arguments", nargs=-1, metavar="[CONFIG] [KEY=VALUE]...")
@click.option(
    "--data",
    help="Folder, file or corpus name, or [FOLDER1,FOLDER2]; the same as data.source=DATA.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="What reads the files: processes of this machine, or a Ray cluster.",
)
@click.option(
    "--address",
    help="HOST:PORT of a running Ray cluster, or auto. Default: a cluster of this machine alone.",
)
def prepare(arguments: tuple[str, ...], data: str | None, engine: str, address: str | None) -> None:
    """Read, check and tokenize a corpus. Training does this by itself if needed.

    CONFIG and KEY=VALUE are those of `train`.

    \b
    python cli.py prepare --data FOLDER
    python cli.py prepare configs/pop909.yaml data.source=FOLDER
    python cli.py prepare --data FOLDER --engine ray --address HOST:6379
    """
    from seqgen.api.settings import read_config

    extra = [f"data.source={data}"] if data else []
    config, _, _ = read_config([*arguments, *extra])
    if engine == "local":
        if address:
            raise click.UsageError("--address is that of a Ray cluster: add --engine ray")
        prepare_and_report(config)
        return
    from seqgen.data.ray_engine import RayEngine

    with RayEngine(config.limits, address=address, workers=config.data.workers) as cluster:
        prepare_and_report(config, engine=cluster)


def prepare_and_report(
    config: "Config", tokenizer: "Tokenizer | None" = None, *, engine: "PassEngine | None" = None
) -> "PreparedData":
    """Prepare data for a configuration, print a report, and return the data."""
    from seqgen.commands.settings import progress_bar, say
    from seqgen.data.prepare import prepare as make
    from seqgen.data.shards import REPORT
    from seqgen.files import read_json

    with progress_bar() as tell:
        result = make(
            config.data,
            config.limits,
            config.tokenizer,
            tokenizer=tokenizer,
            engine=engine,
            progress=tell,
        )
    data = result.data
    way_out = f"delete {data.folder} to prepare it again"
    report = read_json(data.folder / REPORT, way_out=way_out)
    say(f"{'prepared' if result.built else 'already prepared'}: {data.folder}")
    say(f"  {_count_files(report)}")
    for split, counts in report["splits"].items():
        say(f"  {split}: {', '.join(f'{number:,} {what}' for what, number in counts.items())}")
    for line in _describe_tokens(report):
        say(f"  {line}")
    if result.built:
        for entry in report["skipped"][:SHOWN]:
            say(f"  refused {entry['file']}: {entry['reason']}")
        if report["files_skipped"] > SHOWN:
            say(f"  … and {report['files_skipped'] - SHOWN} more")
    return data


def _count_files(report: dict) -> str:
    from seqgen.data.corpora import describe_passed_over
    from seqgen.data.prepare import DUPLICATES, LISTING
    from seqgen.files import counted

    parts = [f"{report['files_used']} files read"]
    if report["skipped"]:
        kinds = ", ".join(f"{number} {kind}" for kind, number in report["skipped_by_kind"].items())
        parts.append(f"{report['files_skipped']} refused ({kinds}; see {LISTING})")
    counts = report["passed_over_by_kind"]
    if counts:
        parts.append(f"{sum(counts.values())} passed over: {describe_passed_over(counts)}")
    n_groups, n_files = report["near_duplicates"]["groups"], report["near_duplicates"]["files"]
    if n_groups:
        where = f"{counted(n_groups, 'group')}, each kept in one split"
        if n_files == report["files_used"] and n_groups == 1:
            where = "one group: each piece is cut into three parts, one for each split"
        parts.append(f"{n_files} near-duplicates in {where} (see {DUPLICATES})")
    return ", ".join(parts)


def _describe_tokens(report: dict) -> list[str]:
    """Say which tokens were chosen for the corpus and why, and what of it they do not hold."""
    from seqgen.tokenizers.midi.account import in_words

    lines = ["tokens, chosen from the files (set tokenizer.KEY=VALUE for others):"]
    for key, choice in report["tokens"].items():
        lines.append(f"  {key}={_short(choice['value'])} ({choice['because']})")
    lines = lines if report["tokens"] else []
    account = report.get("account")
    if account is None:
        return lines
    onset, duration = account["onset_ms"], account["duration_ms"]
    lines.append(
        f"in tokens: {account['notes_kept']:,} of {account['notes']:,} notes; onsets off by "
        f"{onset['median']} ms (95%: {onset['p95']} ms), durations by {duration['median']} ms "
        f"(95%: {duration['p95']} ms)"
    )
    for what, counts in (("not kept", account["lost"]), ("repaired", account["repaired"])):
        if counts:
            lines.append(f"{what}: " + ", ".join(in_words(counts)))
    return lines


def _short(value: object) -> str:
    """Write a value as on the command line; long lists are cut."""
    if not isinstance(value, list):
        return str(value).lower() if isinstance(value, bool) else str(value)
    shown = [str(item) for item in value[:SHOWN]]
    return f"[{', '.join(shown + ['…'] * (len(value) > SHOWN))}]"
