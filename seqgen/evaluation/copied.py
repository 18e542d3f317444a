"""The copying part of an evaluation: what generated pieces share with what was learned from.

Legend: T positions, F fields.
"""

from collections.abc import Sequence

import numpy as np

from seqgen.data.corpora import Progress
from seqgen.data.shards import Piece, PreparedData
from seqgen.data.splits import TRAIN
from seqgen.evaluation.copying import Material, copying, note_material, token_material
from seqgen.evaluation.piece_sets import Item
from seqgen.evaluation.reread import Reread
from seqgen.evaluation.scales import decoded
from seqgen.tokenizers import Tokenizer

# Tokens that are indexed, some 100 bytes for each. All pieces are, as they are; shifted ones only
# as long as there is room, since in notes they are found anyway.
MOST_TOKENS = 10_000_000


def copied_notes(
    generated: Sequence[Reread],
    held_out: Sequence[Item],
    data: PreparedData,
    *,
    progress: Progress,
) -> dict | str:
    """Longest runs of notes in any key; all pieces as their tokens have them.

    Returns a sentence where the training pieces hold no notes to compare.
    """
    training = data.of_split(TRAIN)
    materials = []
    for done, piece in enumerate(training, start=1):
        materials += _notes([(piece.file, data.read(piece))], data.tokenizer)
        progress("copying: reading training pieces", done, len(training))
    if not any(len(material.symbols) for material in materials):
        return "Notes are not compared: the training pieces hold none but drums."
    record = copying(
        [note_material(p.name, p.drawn_midi) for p in generated if p.drawn_midi is not None],
        _notes([(item.name, item.ids) for item in held_out], data.tokenizer),
        materials,
        unit="note",
        tell=lambda done, total: progress("copying: comparing notes", done, total),
    ).to_json()
    missing = [p for p in generated if p.drawn_midi is None]
    return record | {"not_compared": _reasons(missing)}


def copied_tokens(
    generated: Sequence[Reread],
    held_out: Sequence[Item],
    data: PreparedData,
    *,
    progress: Progress,
    most: int = MOST_TOKENS,
) -> dict:
    """Longest runs of tokens as they are, in training pieces with their transpositions.

    `variants` of the record says how many transposed pieces were indexed, and of how many.
    """
    special = data.tokenizer.vocabulary.special_ids
    training = data.of_split(TRAIN)
    chosen = _within(training, most)
    record = copying(
        [token_material(p.name, p.drawn_ids) for p in generated if p.drawn_ids is not None],
        [token_material(item.name, _plain(item.ids, special)) for item in held_out],
        [
            token_material(piece.file, _plain(data.read(piece, variant=variant), special))
            for piece, variant in chosen
        ],
        unit="token",
        tell=lambda done, total: progress("copying: comparing tokens", done, total),
    ).to_json()
    n_variants = sum(len(piece.variants) for piece in training)
    return record | {
        "variants": {"indexed": len(chosen), "of": n_variants},
        "not_compared": _reasons([p for p in generated if p.drawn_ids is None]),
    }


def _reasons(missing: Sequence[Reread]) -> list[dict]:
    return [{"file": p.name, "reason": p.reason or "it holds no whole note"} for p in missing]


def _within(pieces: Sequence[Piece], most: int) -> list[tuple[Piece, int]]:
    """All pieces as they are, then shifted ones, turn by turn, while `most` tokens hold them."""
    chosen = [(piece, 0) for piece in pieces]
    room = most - sum(piece.variants[0][1] for piece in pieces)
    for variant in range(1, max((len(piece.variants) for piece in pieces), default=0)):
        for piece in pieces:
            if variant < len(piece.variants) and piece.variants[variant][1] <= room:
                chosen.append((piece, variant))
                room -= piece.variants[variant][1]
    return chosen


def _notes(pieces: Sequence[tuple[str, np.ndarray]], tokenizer: Tokenizer) -> list[Material]:
    music = [(name, decoded(ids, tokenizer)) for name, ids in pieces]
    return [note_material(name, midi) for name, midi in music if midi is not None]


def _plain(ids: np.ndarray, special: Sequence[int]) -> np.ndarray:
    return ids[~np.isin(ids[:, 0], special)]
