"""The copying part of an evaluation: what generated pieces share with what was learned from.

Legend: T positions, F fields.
"""

from collections.abc import Sequence

import numpy as np

from seqgen.data.corpora import Progress
from seqgen.data.shards import PreparedData
from seqgen.data.splits import TRAIN
from seqgen.errors import FileRejected
from seqgen.evaluation.copying import Material, copying, note_material, token_material
from seqgen.evaluation.generated import Generated
from seqgen.evaluation.piece_sets import Item
from seqgen.evaluation.scales import decoded
from seqgen.tokenizers import Tokenizer


def copied_notes(
    generated: Sequence[Generated],
    held_out: Sequence[Item],
    data: PreparedData,
    *,
    progress: Progress,
) -> dict:
    """Longest runs of notes in any key; all real pieces as their tokens have them."""
    training = data.of_split(TRAIN)
    tokens = [(item.name, item.ids) for item in held_out]
    materials = []
    for done, piece in enumerate(training, start=1):
        materials += _notes([(piece.file, data.read(piece))], data.tokenizer)
        progress("copying: reading training pieces", done, len(training))
    return copying(
        [note_material(piece.path.name, piece.midi) for piece in generated if piece.midi],
        _notes(tokens, data.tokenizer),
        materials,
        unit="note",
        tell=lambda done, total: progress("copying: comparing notes", done, total),
    ).to_json()


def copied_tokens(
    generated: Sequence[Generated],
    held_out: Sequence[Item],
    data: PreparedData,
    *,
    progress: Progress,
) -> dict:
    """Longest runs of tokens as they are, in training pieces with all their transpositions."""
    special = data.tokenizer.vocabulary.special_ids
    training = [
        token_material(piece.file, _plain(data.read(piece, variant=variant), special))
        for piece in data.of_split(TRAIN)
        for variant in range(len(piece.variants))
    ]
    ours = []
    for piece in generated:
        try:
            ours.append(token_material(piece.path.name, data.tokenizer.encode(piece.path)))
        except FileRejected:
            continue  # the part on validity says so
    return copying(
        ours,
        [token_material(item.name, _plain(item.ids, special)) for item in held_out],
        training,
        unit="token",
        tell=lambda done, total: progress("copying: comparing tokens", done, total),
    ).to_json()


def _notes(pieces: Sequence[tuple[str, np.ndarray]], tokenizer: Tokenizer) -> list[Material]:
    music = [(name, decoded(ids, tokenizer)) for name, ids in pieces]
    return [note_material(name, midi) for name, midi in music if midi is not None]


def _plain(ids: np.ndarray, special: Sequence[int]) -> np.ndarray:
    return ids[~np.isin(ids[:, 0], special)]
