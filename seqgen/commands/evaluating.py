"""An evaluation command carried out: find the pieces, score, draw a set, write record and page."""

import platform
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from seqgen.checkpoint import describe_step, find_run, read_metrics
from seqgen.commands.outputs import OutputFolder, Row
from seqgen.commands.prompts import read_prompts
from seqgen.commands.settings import console, pick_device, progress_bar, say
from seqgen.data.corpora import Progress
from seqgen.decoding import build_decoder, generate
from seqgen.errors import UserError
from seqgen.evaluation.evaluate import Request, choose_sets, evaluate
from seqgen.evaluation.page.build import build_page
from seqgen.evaluation.subject import Subject, check_beside, name_apart, open_subject
from seqgen.files import check_folder, json_ready, write_bytes, write_json
from seqgen.sampling import Sampling

RUNS = Path("runs")
RECORD, PAGE, DRAWN = "evaluation.json", "report.html", "generated"
PACKAGES = ("torch", "pytorch-fast-transformers", "miditok", "miditoolkit", "symusic", "numpy")


def execute(
    run: str | None,
    *,
    data: str | None,
    generated: str | None,
    beside: Sequence[str],
    samples: int,
    max_tokens: int,
    targets: int,
    seed: int,
    device: str | None,
    checkpoint: str,
    output: str | None,
) -> None:
    """Evaluate a run and write the report; an earlier one keeps its numbers under another name."""
    begin = time.perf_counter()
    device = pick_device(device)
    path = Path(run) if run else find_run(RUNS)
    subject = open_subject(path, device=device, checkpoint=checkpoint)
    rivals = _open_beside(subject, beside, device)
    folder = _report_folder(subject, output)
    check_folder(folder)  # now, and not after all the work
    say(f"{subject.path} ({describe_step(subject.path, subject.loaded)})")
    with progress_bar() as progress:
        request = Request(
            data=data,
            generated=Path(generated) if generated else None,
            beside=tuple(rivals),
            targets=targets,
            seed=seed,
            metrics=_metrics(subject),
        )
        sets = choose_sets(subject, request, progress=progress)
        if generated is None:
            drawn = _draw(subject, folder, samples, max_tokens, seed=seed, progress=progress)
            request = request.with_generated(*drawn)
        record, material = evaluate(subject, sets, request, progress=progress)
        record["made"] = _made(seed, device, time.perf_counter() - begin)
        record = json_ready(record)
        _keep_earlier(folder)
        write_json(folder / RECORD, record)  # before the pictures: it took longest
        write_bytes(folder / PAGE, build_page(record, material, progress=progress).encode())
    _tell(record, folder)


def _draw(
    subject: Subject, folder: Path, n: int, max_tokens: int, *, seed: int, progress: Progress
) -> tuple[Path, tuple[str, ...]]:
    """Draw a set of pieces with default sampling into a new folder beside the report.

    Returns the folder, and why some were not written: no whole note is in them.
    """
    loaded, place = subject.loaded, _new_folder(folder)
    prompt = read_prompts((), loaded.tokenizer, bars=None)[0]
    rows = [Row(i, prompt) for i in range(n)]
    decoder = build_decoder(loaded.model)
    limit = decoder.max_positions
    max_tokens = max_tokens if limit is None else min(max_tokens, limit - len(prompt.ids))
    facts = {
        "run": str(subject.path),
        "step": loaded.step,
        "seed": seed,
        "sampling": vars(Sampling()),
        "decoder": decoder.name,
        "weights": "float32",
        "max_tokens": max_tokens,
    }
    steps = generate(
        decoder, [prompt.ids] * n, sampling=Sampling(), max_tokens=max_tokens, seed=seed
    )
    drawn, finished, begin = 0, 0, time.perf_counter()
    progress("drawing pieces", 0, n)
    with OutputFolder(place, loaded.tokenizer, facts=facts, pictures=False) as written:
        written.reserve(rows)
        for step in steps:
            drawn += len(step.rows)
            for row, token in zip(step.rows, step.tokens, strict=True):
                rows[row].tokens.append(np.asarray(token))
            for row in step.finished:
                rows[row].seconds = time.perf_counter() - begin
                rows[row].tokens_per_second = drawn / max(rows[row].seconds, 1e-9)
                written.write(rows[row], ended=row in step.ended)
                finished += 1
                progress("drawing pieces", finished, n)
    return place, tuple(written.failed)


def _new_folder(folder: Path) -> Path:
    place, number = folder / DRAWN, 1
    while place.exists():
        number += 1
        place = folder / f"{DRAWN}-{number}"
    return place


def _open_beside(subject: Subject, paths: Sequence[str], device: str) -> list[Subject]:
    """Load the runs beside it; one that is not comparable is refused before anything takes time."""
    rivals = [open_subject(Path(path), device=device) for path in paths]
    for rival in rivals:
        check_beside(subject, rival)
    return name_apart(subject, rivals)


def _report_folder(subject: Subject, output: str | None) -> Path:
    """Where the report goes; a model folder alone is no place for it: a new model replaces it."""
    if output is not None:
        folder = Path(output)
        if folder.exists() and not folder.is_dir():
            raise UserError(f"-o {output} is a file, and not a folder")
        return folder
    if not (subject.path / "model").is_dir():
        raise UserError(
            f"{subject.path} is a model folder without its run: name a folder for the report by "
            f"-o DIR"
        )
    return subject.path / "evaluation"


def _metrics(subject: Subject) -> list[dict]:
    path = subject.path / "metrics.jsonl"
    return read_metrics(path) if path.is_file() else []


def _made(seed: int, device: str, seconds: float) -> dict:
    """How a report came to be, so that it can be made again."""
    return {
        "command": shlex.join(["python", "cli.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "device": device,
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
        "versions": {"seqgen": version("seqgen"), "python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
    }


def _keep_earlier(folder: Path) -> None:
    """Give an earlier report of this folder the next free number."""
    if not (folder / PAGE).exists() and not (folder / RECORD).exists():
        return
    number = 1
    while any((folder / _numbered(name, number)).exists() for name in (PAGE, RECORD)):
        number += 1
    for name in (PAGE, RECORD):
        if (folder / name).exists():
            (folder / name).rename(folder / _numbered(name, number))
    say(f"the earlier report is now {folder / _numbered(PAGE, number)}")


def _numbered(name: str, number: int) -> str:
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{number}{dot}{suffix}"


def _tell(record: dict, folder: Path) -> None:
    verdict = record["verdict"]
    console.print(verdict["title"], style="bold", highlight=False, markup=False)
    for sentence in verdict["sentences"]:
        console.print(f"  {sentence['text']}", highlight=False, markup=False)
    say(f"report: {folder / PAGE}; figures: {folder / RECORD}")
