"""The parts of an evaluation that are about generated pieces: music, copying, validity, samples."""

from collections.abc import Sequence

from seqgen.data.corpora import Progress
from seqgen.data.shards import PreparedData
from seqgen.evaluation.copied import copied_notes, copied_tokens
from seqgen.evaluation.generated import Generated
from seqgen.evaluation.held_out import Sets
from seqgen.evaluation.music import Measures
from seqgen.evaluation.musical import compare_music, measure_sets, real_music
from seqgen.evaluation.reread import Reread, reread
from seqgen.evaluation.subject import Subject
from seqgen.evaluation.valid import check_generated, check_real
from seqgen.midi import MidiFile, summarize

FEWEST_REAL = 20  # pieces: with fewer held-out ones, some of those learned from join them


def judge_generated(
    subject: Subject,
    pieces: Sequence[Generated],
    sets: Sets,
    *,
    data: PreparedData | str,
    seed: int,
    progress: Progress,
) -> tuple[dict, list[Measures], list[Measures]]:
    """Return the parts of the record by name, and the measures of both sets of pieces."""
    music = subject.loaded.tokenizer.suffix == ".mid"
    sets = sets.without_known(data)
    as_tokens = reread(pieces, subject.loaded.tokenizer, progress=progress)
    parts = {"samples": [_sample(piece) for piece in pieces]}
    generated: list[Measures] = []
    real: list[Measures] = []
    if music:
        parts["validity"] = check_generated(pieces, progress=progress)
        items = [item.ids for of_set in sets.asked_for for item in of_set.items]
        parts["validity"]["real"] = check_real(items, subject.loaded.tokenizer, progress=progress)
        midis, of = _real(subject, sets, progress)
        generated, real, bars = measure_sets(as_tokens, midis, progress=progress)
        parts["music"] = compare_music(generated, real, seed=seed, of=of, openings=bars)
    else:
        reason = "This run writes text: there are no notes in it."
        parts |= {"validity": {"left_out": reason}, "music": {"left_out": reason}}
    parts["copying"] = _copying(as_tokens, sets, data, music=music, progress=progress)
    return parts, generated, real


def _real(subject: Subject, sets: Sets, progress: Progress) -> tuple[list[MidiFile], str]:
    """Held-out pieces as music, and pieces of the training sample where those are few."""
    items = [item for pieces in sets.asked_for for item in pieces.items]
    of = " and ".join(pieces.name for pieces in sets.asked_for)
    is_split = all(pieces.is_split for pieces in sets.asked_for)
    if len(items) < FEWEST_REAL and sets.training is not None and is_split:
        items += sets.training.items
        of += ", and, since these are few, training"
    music = real_music([item.ids for item in items], subject.loaded.tokenizer, progress=progress)
    return music, of


def _copying(
    pieces: Sequence[Reread],
    sets: Sets,
    data: PreparedData | str,
    *,
    music: bool,
    progress: Progress,
) -> dict:
    """What is shared with training pieces; limits come from the run's own held-out pieces."""
    if isinstance(data, str):
        return {"left_out": f"Without the training pieces nothing can be compared: {data}."}
    held_out = [item for of_set in sets.own for item in of_set.items]
    record = {
        "baseline": " and ".join(of_set.name for of_set in sets.own),
        "tokens": copied_tokens(pieces, held_out, data, progress=progress),
    }
    if music:
        notes = copied_notes(pieces, held_out, data, progress=progress)
        record["notes_left_out" if isinstance(notes, str) else "notes"] = notes
    return record


def _sample(piece: Generated) -> dict:
    """What the record says of one generated file."""
    facts = {"file": piece.name, "ended_by_itself": piece.ended_by_itself}
    if piece.midi is not None:
        summary = summarize(piece.midi)
        return {**facts, "notes": summary.n_notes, "seconds": round(summary.seconds, 3)}
    if piece.problem is not None:
        return {**facts, "problem": piece.problem}
    return {**facts, "bytes": piece.path.stat().st_size}
