"""The work of `seqgen evaluate`: find the pieces, score them, generate others, write the report."""

import contextlib
import itertools
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from seqgen.api.places import find_model
from seqgen.api.prompts import read_prompts
from seqgen.api.settings import pick_device
from seqgen.checkpoint import describe_step
from seqgen.commands.outputs import OutputFolder
from seqgen.commands.settings import console, progress_bar, say
from seqgen.data.corpora import Progress
from seqgen.data.splits import TEST, VALIDATION
from seqgen.decoding import build_decoder, continuations, generate
from seqgen.errors import UserError
from seqgen.evaluation.evaluate import PageMaterial, evaluate
from seqgen.evaluation.generated import find_generated
from seqgen.evaluation.likelihood import score_pairs
from seqgen.evaluation.page.build import build_page
from seqgen.evaluation.piece_sets import choose_sets
from seqgen.evaluation.subject import (
    EvaluatedRun,
    check_beside,
    data_of,
    name_apart,
    open_subject,
)
from seqgen.files import check_folder, json_ready, locked, write_bytes, write_json
from seqgen.sampling import Sampling
from seqgen.tasks import open_pairs

RECORD, PAGE, DRAWN = "evaluation.json", "report.html", "generated"
PAIRS = "pairs.json"  # instead of these, of a run that writes for sources
LOCK = ".report.lock"  # held while a report is written
PACKAGES = (
    "torch",
    "pytorch-fast-transformers",
    "miditok",
    "miditoolkit",
    "symusic",
    "numpy",
    "scipy",
)


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
    """Evaluate a run and write the report; an earlier one is kept under a number."""
    begin = time.perf_counter()
    device = pick_device(device)
    path = find_model(run)
    subject = open_subject(path, device=device, checkpoint=checkpoint)
    if subject.loaded.pairs is not None:
        if data or generated or beside:
            raise UserError(
                "evaluate scores a run of pairs on the targets that its own data holds out: leave "
                "out --data, --generated and --beside"
            )
        _evaluate_pairs(subject, targets, output)
        return
    rivals = _open_beside(subject, beside, device)
    folder = _report_folder(subject, output)
    check_folder(folder)  # now, and not after all the work
    given = None if generated is None else Path(generated)
    if given is not None:
        find_generated(given, subject.loaded.tokenizer)
    say(f"{subject.path} ({describe_step(subject.path, subject.loaded)})")
    with progress_bar() as progress:
        sets = choose_sets(subject, data, max_targets=targets, progress=progress)
        failed: tuple[str, ...] = ()
        if given is None:
            given, failed = _draw(
                subject, folder, samples, max_tokens, seed=seed, progress=progress
            )
        record, material = evaluate(
            subject,
            sets,
            given,
            source=data,
            beside=rivals,
            seed=seed,
            failed=failed,
            progress=progress,
        )
        made = _made(seed, device, time.perf_counter() - begin)
        record = json_ready(record | {"made": made})
        _write(record, material, folder, progress)
    _tell(record, folder)


def _evaluate_pairs(subject: EvaluatedRun, targets: int, output: str | None) -> None:
    """Score held-out targets given their sources; print and record the result."""
    folder, loaded, prepared = _report_folder(subject, output), subject.loaded, data_of(subject)
    if isinstance(prepared, str):
        raise UserError(f"{prepared}: restore it")
    check_folder(folder)
    say(f"{subject.path} ({describe_step(subject.path, loaded)})")
    pairs, unit = open_pairs(loaded.pairs or "", loaded.tokenizer), loaded.tokenizer.unit
    sizes = {"context_length": subject.context_length, "max_targets": targets}
    scores = []
    with progress_bar() as progress:
        for split in (VALIDATION, TEST):
            tell = partial(progress, f"{split}: scoring targets")
            scores.append(score_pairs(loaded.model, prepared, pairs, split, **sizes, tell=tell))
    for score in scores:
        say(
            f"  {score.split}: {score.nats_per_token:.4f} nats per token and "
            f"{score.nats_per_unit:.3f} per {unit} of {score.pairs} targets, given their sources"
        )
    sets = [vars(score) for score in scores]
    record = {"pairs": loaded.pairs, "unit": unit, "step": loaded.step, "sets": sets}
    write_json(folder / PAIRS, json_ready(record))
    say(f"{folder / PAIRS}; what is written for sources is not measured")


def _draw(
    subject: EvaluatedRun, folder: Path, n: int, max_tokens: int, *, seed: int, progress: Progress
) -> tuple[Path, tuple[str, ...]]:
    """Generate pieces with default sampling into a new folder beside the report.

    Returns the folder, and why some were not written: they hold no complete note.
    """
    loaded = subject.loaded
    place = _new_folder(folder, DRAWN)
    prompt = read_prompts((), loaded.tokenizer, bars=None)[0]
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
    progress("generating pieces", 0, n)
    with OutputFolder(place, loaded.tokenizer, facts=facts, pictures=False) as written:
        written.reserve(dict.fromkeys(range(n), prompt))
        for drawn in continuations(
            steps, on_step=lambda _, finished, __: progress("generating pieces", finished, n)
        ):
            written.write(drawn)
    return place, tuple(written.failed)


def _open_beside(subject: EvaluatedRun, paths: Sequence[str], device: str) -> list[EvaluatedRun]:
    """Load the runs to compare with; refuse one that is not comparable before the long work."""
    rivals = [open_subject(find_model(path), device=device) for path in paths]
    for rival in rivals:
        check_beside(subject, rival)
    return name_apart(subject, rivals)


def _report_folder(subject: EvaluatedRun, output: str | None) -> Path:
    """Return the folder of the report; not a model folder, since a new model would replace it."""
    if output is not None:
        folder = Path(output)
        if folder.exists() and not folder.is_dir():
            raise UserError(f"-o {output} is a file, and not a folder")
        return folder
    if not (subject.path / "model").is_dir():
        raise UserError(
            f"{subject.path} is a model folder without its run: choose a folder for the report "
            f"with -o DIR"
        )
    return subject.path / "evaluation"


def _made(seed: int, device: str, seconds: float) -> dict:
    """Return what is needed to reproduce a report."""
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


def _new_folder(folder: Path, name: str) -> Path:
    """Create the first of `name`, `name`-2, … that is not there: two commands at once get two."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        place = folder / (name if number == 1 else f"{name}-{number}")
        with contextlib.suppress(FileExistsError):
            place.mkdir()
            return place
    raise AssertionError("numbers do not end")


def _write(record: dict, material: PageMaterial, folder: Path, progress: Progress) -> None:
    """Draw the page and write the report; the record is kept also if the page fails."""
    page = None
    try:
        page = build_page(record, material, progress=progress)
    finally:
        _write_report(folder, record, page)


def _write_report(folder: Path, record: dict, page: str | None) -> None:
    """Write a record and its page; an earlier report of this folder gets the next free number.

    Of two commands that end at once, one waits for the other: both reports are kept.
    """
    with locked(folder / LOCK, if_held=lambda holder: None):
        there = [name for name in (PAGE, RECORD) if (folder / name).exists()]
        number = next(n for n in itertools.count(1) if not _is_taken(folder, n))
        for name in there:
            (folder / name).rename(folder / _numbered(name, number))
        write_json(folder / RECORD, record)
        if page is not None:
            write_bytes(folder / PAGE, page.encode())
    if there:
        say(f"the earlier report is now {folder / _numbered(there[0], number)}")


def _is_taken(folder: Path, number: int) -> bool:
    return any((folder / _numbered(name, number)).exists() for name in (PAGE, RECORD))


def _numbered(name: str, number: int) -> str:
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{number}{dot}{suffix}"


def _tell(record: dict, folder: Path) -> None:
    verdict = record["verdict"]
    console.print(verdict["title"], style="bold", highlight=False, markup=False)
    for sentence in (*verdict["summary"], *verdict["sentences"]):
        console.print(f"  {sentence['text']}", highlight=False, markup=False)
    say(f"report: {folder / PAGE}; figures: {folder / RECORD}")
