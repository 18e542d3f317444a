"""A whole evaluation: what is computed, in which order, and the record that comes of it."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from seqgen.data.corpora import Progress
from seqgen.data.shards import PreparedData
from seqgen.data.splits import TEST, TRAIN, VALIDATION
from seqgen.errors import UserError
from seqgen.evaluation.generated import Generated, find_generated, read_generated
from seqgen.evaluation.held_out import Sets, evaluate_likelihood
from seqgen.evaluation.judging import judge_generated
from seqgen.evaluation.music import Measures
from seqgen.evaluation.piece_sets import PieceSet, folder_set, split_set
from seqgen.evaluation.subject import Subject, data_of, other_attention, show_beside, train_beside
from seqgen.evaluation.verdict import judge
from seqgen.files import readable

FORMAT = 1
TRAINING = "training"
TEXT_SAMPLES, TEXT_CHARACTERS = 4, 600  # of text, which stand on the page themselves
FEWEST_TRAINING = 8  # pieces of the training sample, also where fewer are held out


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, and how much of it.

    Attributes:
        data: a folder of files to evaluate on; None: the validation and test split of the run.
        generated: folder of generated files.
        beside: runs to set beside it.
        targets: tokens that are scored in each set at most.
        seed: of all resampling.
        metrics: the lines that training logged.
        failed: pieces that were drawn and hold nothing that could be written, and why.
    """

    data: str | None
    generated: Path | None
    beside: tuple[Subject, ...] = ()
    targets: int = 200_000
    seed: int = 0
    metrics: list[dict] = field(default_factory=list)
    failed: tuple[str, ...] = ()

    def with_generated(self, folder: Path, failed: tuple[str, ...]) -> "Request":
        """The same with a set that has been drawn in the meantime."""
        return replace(self, generated=folder, failed=failed)


@dataclass(frozen=True)
class PageMaterial:
    """What pictures need beyond the record: the pieces themselves, and measures of each."""

    pieces: tuple[Generated, ...] = ()
    generated: tuple[Measures, ...] = ()
    real: tuple[Measures, ...] = ()


def evaluate(
    subject: Subject, sets: Sets, request: Request, *, progress: Progress
) -> tuple[dict, PageMaterial]:
    """Compute everything; return the record, and what its pictures are made of.

    `sets` are what `choose_sets` has found. UserError where a run beside it is not comparable.
    """
    data = data_of(subject)
    likelihood = evaluate_likelihood(
        subject, sets, data=data, beside=request.beside, progress=progress
    )
    curve = learning_curve(request.metrics)
    record = {
        "format": FORMAT,
        "subject": subject.facts(),
        "data": _describe_data(data, request),
        "likelihood": likelihood,
        "learning_curve": curve,
        "train_beside": train_beside(subject),
        "show_beside": show_beside(subject),
        "other_attention": other_attention(subject),
    }
    pieces = _read_generated(subject, request, progress)
    record["generated"] = _describe_generated(request, pieces)
    parts, generated, real = judge_generated(
        subject, pieces, sets, data=data, seed=request.seed, progress=progress
    )
    record |= parts
    record["verdict"] = judge(record)
    return record, PageMaterial(tuple(pieces), tuple(generated), tuple(real))


def choose_sets(subject: Subject, request: Request, *, progress: Progress) -> Sets:
    """Find the pieces: those of a folder, or of the held-out splits; and a training sample.

    Raises:
        UserError: there is nothing to evaluate on, or no generated file where they should be.
    """
    data = data_of(subject)
    if request.generated is not None:
        find_generated(request.generated, subject.loaded.tokenizer)
    if request.data is None and isinstance(data, str):
        raise UserError(f"{data}: bring it back, or name other files by --data FOLDER")
    prepared = isinstance(data, PreparedData)
    held_out = []
    if request.data is not None:
        held_out.append(_other_files(subject, data, request, progress))
    # With other files, the run's own held-out pieces tell over-fitting from another kind of music.
    names = (VALIDATION, TEST) if request.data is None else (VALIDATION,)
    for name in names if prepared else ():
        pieces = split_set(data, name, name=name, max_targets=request.targets)
        held_out += [pieces] if pieces.items else []
    if not held_out:
        raise UserError(
            f"{subject.path} has no validation or test piece: name other files by --data FOLDER"
        )
    training = None
    if prepared:
        training = split_set(
            data,
            TRAIN,
            name=TRAINING,
            max_targets=request.targets,
            at_most=max(len(held_out[0].items), FEWEST_TRAINING),
        )
    return Sets(training, tuple(held_out))


def _other_files(
    subject: Subject, data: PreparedData | str, request: Request, progress: Progress
) -> PieceSet:
    known: frozenset[str] = frozenset()
    if isinstance(data, PreparedData):
        known = frozenset(piece.file_hash for piece in data.of_split(TRAIN))
    return folder_set(
        request.data,
        subject.loaded.tokenizer,
        cache=Path("prepared") / "corpora",
        max_targets=request.targets,
        known=known,
        progress=progress,
    )


def learning_curve(metrics: list[dict]) -> dict:
    """Training and validation losses by step, as pairs."""
    return {
        name: [[line["step"], line[key]] for line in metrics if line.get(key) is not None]
        for name, key in (("training", "loss"), ("validation", "validation_loss"))
    }


def _describe_data(data: PreparedData | str, request: Request) -> dict:
    if isinstance(data, str):
        return {"folder": request.data, "prepared": None, "missing": data}
    counts = {split: len(data.of_split(split)) for split in (TRAIN, VALIDATION, TEST)}
    return {
        "folder": request.data,
        "prepared": data.folder.name,
        "content": data.index["content"],
        "pieces": counts,
    }


def _read_generated(subject: Subject, request: Request, progress: Progress) -> list[Generated]:
    """Read the generated files; a model that has learned nothing may have written none."""
    tokenizer = subject.loaded.tokenizer
    try:
        paths = find_generated(request.generated, tokenizer)
    except UserError:
        if not request.failed:
            raise
        paths = []
    return read_generated(
        paths, folder=request.generated, music=tokenizer.suffix == ".mid", progress=progress
    )


def _describe_generated(request: Request, pieces: list[Generated]) -> dict:
    """What is known of a set as a whole: settings that all records share."""
    first = pieces[0].record if pieces else {}
    shared = {
        key: first[key]
        for key in ("run", "step", "seed", "sampling", "decoder", "weights", "max_tokens")
        if key in first and all(piece.record.get(key) == first[key] for piece in pieces)
    }
    return {
        "folder": str(request.generated),
        "files": len(pieces),
        "not_written": list(request.failed),
        "with_record": sum(bool(piece.record) for piece in pieces),
        "prompted": sum(piece.prompted for piece in pieces),
        "settings": shared,
        "unreadable": sum(piece.rejected is not None for piece in pieces),
        "text_samples": [
            {"file": piece.name, "text": readable(piece.text[:TEXT_CHARACTERS])}
            for piece in [piece for piece in pieces if piece.text is not None][:TEXT_SAMPLES]
        ],
    }
