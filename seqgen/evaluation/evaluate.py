"""A whole evaluation: what is computed, in which order, and its record."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from seqgen.data.corpora import Progress, published_figures
from seqgen.data.shards import PreparedData
from seqgen.data.splits import TEST, TRAIN, VALIDATION
from seqgen.evaluation.copying.report import copied_notes, copied_tokens
from seqgen.evaluation.generated import GeneratedFile, find_generated, read_generated
from seqgen.evaluation.music.comparison import Measured, compare_music, measure_sets
from seqgen.evaluation.piece_sets import Sets
from seqgen.evaluation.scoring import evaluate_likelihood
from seqgen.evaluation.subject import EvaluatedRun, data_of, rival_of
from seqgen.evaluation.validity import check_generated, check_real
from seqgen.evaluation.verdict import judge
from seqgen.files import readable
from seqgen.tokenizers import Preview

FORMAT = 4
TEXT_SAMPLES, TEXT_CHARACTERS = 4, 600  # of text, which stand on the page themselves
FEWEST_REAL = 20  # pieces: with fewer held-out ones, some of those learned from join them


@dataclass(frozen=True)
class PageMaterial:
    """What pictures need beyond the record: the pieces themselves, and measures of each.

    `held_out` are real pieces that the model was not trained on, by name, as its tokens have them.
    """

    pieces: tuple[GeneratedFile, ...] = ()
    held_out: tuple[tuple[str, Preview], ...] = ()
    generated: tuple[Measured, ...] = ()
    real: tuple[Measured, ...] = ()


def evaluate(
    run: EvaluatedRun,
    sets: Sets,
    folder: Path,
    *,
    source: str | None,
    beside: Sequence[EvaluatedRun] = (),
    seed: int = 0,
    failed: Sequence[str] = (),
    progress: Progress,
) -> tuple[dict, PageMaterial]:
    """Compute everything; return the record, and what its pictures are made of.

    Args:
        run, sets, folder: what is evaluated, what `choose_sets` found, and the generated files.
        source: the folder that the sets are from; None: the validation and test split of the run.
        failed: why pieces that were generated hold nothing that could be written.

    Raises:
        UserError: there is no generated file, or a run beside it is not comparable.
    """
    data = data_of(run)
    likelihood = evaluate_likelihood(run, sets, data=data, beside=beside, progress=progress)
    record = {
        "format": FORMAT,
        "subject": run.facts(),
        "data": _describe_data(data, source),
        "likelihood": likelihood,
        "learning_curve": learning_curve(run.metrics),
        **rival_of(run),
    }
    known = run.config and published_figures(run.config.data.source)
    for part in likelihood["sets"]:
        is_test = part["is_split"] and part["name"] == TEST
        part["published"] = known if is_test else None
    tokenizer = run.loaded.tokenizer
    # A model that has learned nothing may have written no file.
    paths = [] if failed and not any(folder.iterdir()) else find_generated(folder, tokenizer)
    pieces = read_generated(paths, folder=folder, tokenizer=tokenizer, progress=progress)
    record["generated"] = _describe_generated(pieces, folder, failed)
    parts, material = judge_generated(run, pieces, sets, data=data, seed=seed, progress=progress)
    record |= parts
    record["verdict"] = judge(record)
    return record, material


def judge_generated(
    run: EvaluatedRun,
    pieces: Sequence[GeneratedFile],
    sets: Sets,
    *,
    data: PreparedData | str,
    seed: int,
    progress: Progress,
) -> tuple[dict, PageMaterial]:
    """Judge music, copying and validity: parts of the record by name, and what to picture."""
    tokenizer = run.loaded.tokenizer
    items = [item for of_set in sets.asked_for for item in of_set.items]
    held_out = tuple((readable(x.name), x.preview) for x in items if x.preview is not None)
    texts = {"generated": _texts((x.name, x.preview) for x in pieces), "held_out": _texts(held_out)}
    parts: dict[str, Any] = {"samples": [_sample(piece) for piece in pieces], "texts": texts}
    parts["copying"] = _copying(pieces, sets, data, progress)
    if not tokenizer.is_music:
        return parts | {"validity": None, "music": None}, PageMaterial(tuple(pieces), held_out)
    parts["validity"] = check_generated(pieces, progress=progress)
    parts["validity"]["real"] = check_real([item.midi for item in items])
    real, of = list(items), " and ".join(of_set.name for of_set in sets.asked_for)
    is_split = all(of_set.is_split for of_set in sets.asked_for)
    if len(items) < FEWEST_REAL and sets.training is not None and is_split:
        real += sets.training.items
        of += ", and, since these are few, training"
    # As their tokens have them: so both sets have passed the same grid, tempo and tracks.
    midis = [item.midi for item in real if item.midi is not None]
    ours, theirs, n_bars = measure_sets(pieces, midis, progress=progress)
    parts["music"] = compare_music(ours, theirs, seed=seed, of=of, opening_bars=n_bars)
    return parts, PageMaterial(tuple(pieces), held_out, tuple(ours), tuple(theirs))


def learning_curve(metrics: Sequence[dict]) -> dict:
    """Training and validation losses by step, as pairs."""
    return {
        name: [[line["step"], line[key]] for line in metrics if line.get(key) is not None]
        for name, key in (("training", "loss"), ("validation", "validation_loss"))
    }


def _copying(
    pieces: Sequence[GeneratedFile], sets: Sets, data: PreparedData | str, progress: Progress
) -> dict:
    """What is shared with training pieces; limits come from the run's own held-out pieces."""
    if isinstance(data, str):
        return {"left_out": f"Without the training pieces nothing can be compared: {data}."}
    held_out = [item for of_set in sets.own for item in of_set.items]
    record: dict[str, Any] = {"baseline": " and ".join(of_set.name for of_set in sets.own)}
    record["tokens"] = copied_tokens(pieces, held_out, data, progress=progress)
    if data.tokenizer.is_music:
        notes = copied_notes(pieces, held_out, data, progress=progress)
        record["notes_left_out" if isinstance(notes, str) else "notes"] = notes
    return record


def _describe_data(data: PreparedData | str, source: str | None) -> dict:
    if isinstance(data, str):
        return {"folder": source, "prepared": None, "missing": data}
    known = {"prepared": data.folder.name, "content": data.index["content"]}
    counts = {split: len(data.of_split(split)) for split in (TRAIN, VALIDATION, TEST)}
    return {"folder": source, **known, "pieces": counts}


def _describe_generated(
    pieces: Sequence[GeneratedFile], folder: Path, failed: Sequence[str]
) -> dict:
    """What is known of a set as a whole: settings that all records share."""
    first = pieces[0].record if pieces else {}
    shared = {
        key: first[key]
        for key in ("run", "step", "seed", "sampling", "decoder", "weights", "max_tokens")
        if key in first and all(piece.record.get(key) == first[key] for piece in pieces)
    }
    return {
        "folder": str(folder),
        "files": len(pieces),
        "not_written": list(failed),
        "with_record": sum(bool(piece.record) for piece in pieces),
        "prompted": sum(piece.prompted for piece in pieces),
        "settings": shared,
        "unreadable": sum(piece.amount is None for piece in pieces),
    }


def _texts(pieces: Iterable[tuple[str, Preview | None]]) -> list[dict]:
    """How the first pieces begin, of text."""
    texts = (
        {"file": name, "text": readable(seen[:TEXT_CHARACTERS])}
        for name, seen in pieces
        if isinstance(seen, str)
    )
    return list(islice(texts, TEXT_SAMPLES))


def _sample(piece: GeneratedFile) -> dict:
    """What the record says of one generated file."""
    facts = {"file": piece.name, "ended_by_itself": piece.ended_by_itself}
    if piece.amount is None:
        return {**facts, "problem": piece.problem}
    return {**facts, "units": piece.amount.units, "seconds": round(piece.amount.seconds, 3)}
