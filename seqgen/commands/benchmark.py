"""`seqgen benchmark`: what the recurrent form buys, in tables, figures and JSON."""

from pathlib import Path

import click

MEASURES = (
    "floor", "decode", "prefill", "attention", "training", "memory", "job", "likelihood", "endless",
)  # fmt: skip
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
ANY = click.Path(path_type=Path)


def refuse_mixture(context: click.Context) -> None:
    """Refuse what --compare and --redraw, which measure nothing, would ignore."""
    given = [p for p in context.command.params if context.params[p.name] not in (None, False, ())]
    alone = [p for p in given if p.name in ("compare", "redraw")]
    if alone and len(given) > 1:
        others = ", ".join(p.make_metavar(context) if isinstance(p, click.Argument) else p.opts[0]
                           for p in given if p is not alone[0])  # fmt: skip
        raise click.UsageError(f"{alone[0].opts[0]} measures nothing: leave out {others}")


@click.command()
@click.argument("target", required=False, metavar="[RUN|CONFIG]", type=ANY)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(MEASURES),
    help="Measure only this. Repeatable. By default everything.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Few settings and repeats; about a minute for each measure at most.",
)
@click.option(
    "--full",
    is_flag=True,
    help="Up to position 65,536 and batch 1,024, without a limit of time; takes hours.",
)
@click.option(
    "--batch", multiple=True, type=click.IntRange(min=1), help="Batch size to measure. Repeatable."
)
@click.option(
    "--position",
    multiple=True,
    type=click.IntRange(min=1),
    help="Number of tokens before the step, or in the window or piece, to measure. Repeatable.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Number of CPU threads. By default that of torch."
)
@click.option(
    "--device", help="Device to compute on: cpu, cuda or cuda:1. By default a GPU if there is one."
)
@click.option("--json", "json_path", type=FILE, help="Also write all measurements to this file.")
@click.option(
    "--page", type=FOLDER, help="Also write measurements, figures and a page to this folder."
)
@click.option("--redraw", type=FOLDER, help="Measure nothing; draw the page in this folder again.")
@click.option(
    "--compare",
    nargs=2,
    type=ANY,
    help="Measure nothing; show what changed between two JSON files or folders of --page.",
)
@click.option(
    "--guard",
    is_flag=True,
    help="Compare with the committed record of this machine; exit code 1 if a ratio became worse.",
)
@click.option("--against", type=FILE, help="Compare with this record instead; implies --guard.")
@click.pass_context
def benchmark(
    context: click.Context,
    target: Path | None,
    only: tuple[str, ...],
    quick: bool,
    full: bool,
    batch: tuple[int, ...],
    position: tuple[int, ...],
    threads: int | None,
    device: str | None,
    json_path: Path | None,
    page: Path | None,
    redraw: Path | None,
    compare: tuple[Path, Path] | None,
    guard: bool,
    against: Path | None,
) -> None:
    """Measure a trained run, or the model of a CONFIG with random weights.

    The default is a model of 12 layers and width 512. A variant that would need more than a quarter
    of the free memory, or a call of more than 10 seconds, is listed with the reason instead (2.5
    seconds with --quick; a whole piece: 60, 10 with --quick, 300 with --full). A measure takes at
    most about 10 minutes.

    \b
    python cli.py benchmark --quick
    python cli.py benchmark runs/chorales --only decode --batch 1 --batch 64
    python cli.py benchmark --only decode --page docs/results/mine
    python cli.py benchmark --compare before.json after.json
    """
    if quick and full:
        raise click.UsageError("--quick and --full are two plans: choose one")
    refuse_mixture(context)
    from seqgen.benchmark.run import make_plan
    from seqgen.commands import benchmarking as do

    if compare:
        do.show_comparison(*compare)
    elif redraw:
        do.redraw_page(redraw)
    else:
        plan = make_plan(quick=quick, full=full, batches=batch, positions=position)
        model = do.open_target(target, device=device, threads=threads, quick=quick)
        keeper = do.Keeper(json_path=json_path, page=page)
        records = do.measure(model, plan, only=only, command=do.typed(context), keeper=keeper)
        if (guard or against) and not do.passes_guard(records, against):
            context.exit(1)
