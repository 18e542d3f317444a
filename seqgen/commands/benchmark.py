"""`seqgen benchmark`: what the recurrent form buys, in tables and in JSON."""

from pathlib import Path

import click

MEASURES = ("decode", "prefill", "attention", "training", "memory", "endless")


@click.command()
@click.argument("target", required=False, metavar="[RUN|CONFIG]", type=click.Path(path_type=Path))
@click.option("--only", multiple=True, type=click.Choice(MEASURES), help="Only this; repeatable.")
@click.option("--quick", is_flag=True, help="Under a minute: fewer positions and repeats.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write one record per number to this file.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of torch on the CPU.")
@click.option(
    "--batch", "batches", multiple=True, type=click.IntRange(min=1), help="Rows; repeatable."
)
@click.option("--device", help="cpu, cuda or cuda:1; found by itself if not given.")
def benchmark(
    target: Path | None,
    only: tuple[str, ...],
    quick: bool,
    json_path: Path | None,
    threads: int | None,
    batches: tuple[int, ...],
    device: str | None,
) -> None:
    """Measure a trained run, or the model of a CONFIG with random weights.

    With neither, a model of 12 layers and width 512.

    \b
    python cli.py benchmark --quick
    python cli.py benchmark runs/chorales --only decode --batch 1 --batch 64
    python cli.py benchmark configs/chorales.yaml --json results.json
    """
    import torch

    from seqgen.benchmark.records import write_records
    from seqgen.benchmark.report import setting, tables
    from seqgen.benchmark.run import load_subject, make_plan, run_benchmark
    from seqgen.commands.settings import PROJECT, console, pick_device, progress_bar

    if threads is not None:
        torch.set_num_threads(threads)
    target = target or PROJECT / "configs" / "reference-12x512.yaml"
    subject = load_subject(target, device=pick_device(device))
    with progress_bar() as tell:
        plan = make_plan(quick=quick, batches=batches)
        records = run_benchmark(subject, plan, only=only, tell=tell)
    if json_path is not None:
        write_records(json_path, records)
    for part in tables(records, setting=setting(subject, records)):
        console.print(part, highlight=False)
