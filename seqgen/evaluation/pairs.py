"""The likelihood of held-out targets given their sources.

Legend: U tokens of a source, T of a target, F fields.
"""

from collections.abc import Callable
from dataclasses import dataclass

from seqgen.data.batches import held_out_pieces
from seqgen.data.shards import PreparedData
from seqgen.evaluation.likelihood import nats_of
from seqgen.model.sequence_model import SequenceModel
from seqgen.tasks import Pair, Pairs


@dataclass(frozen=True)
class PairScore:
    """What the targets of a split cost.

    Attributes:
        split: its name.
        pairs: how many pairs there are; a long piece has several.
        tokens, units: of all targets; what a unit is, the tokenizer says.
        nats: of all targets.
    """

    split: str
    pairs: int
    tokens: int
    units: int
    nats: float

    @property
    def nats_per_token(self) -> float:
        """Mean over the tokens of targets."""
        return self.nats / max(self.tokens, 1)

    @property
    def nats_per_unit(self) -> float:
        """Of whole targets, for each note or byte of theirs."""
        return self.nats / max(self.units, 1)


def pairs_of(
    data: PreparedData, pairs: Pairs, split: str, *, context_length: int, max_targets: int
) -> list[Pair]:
    """Return the pairs of a split, in windows as those of training."""
    pieces = held_out_pieces(data, split, max_targets=max_targets)
    return [w for piece in pieces for w in pairs.windows(data.read(piece), context_length)]


def score_pairs(
    model: SequenceModel,
    data: PreparedData,
    pairs: Pairs,
    split: str,
    *,
    context_length: int,
    max_targets: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> PairScore:
    """Score the targets of a split; `tell` is told how many of how many pairs are done."""
    sizes = {"context_length": context_length, "max_targets": max_targets}
    found, nats = pairs_of(data, pairs, split, **sizes), 0.0
    for done, pair in enumerate(found, start=1):
        nats += float(nats_of(model, pair.target, source=pair.source).sum())
        tell(done, len(found))
    tokens = sum(len(pair.target) - 1 for pair in found)
    units = sum(data.tokenizer.units(pair.target) for pair in found)
    return PairScore(split, len(found), tokens, units, nats)
