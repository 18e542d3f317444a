"""The cost of a decoder's rounding: its predictions against the parallel form's on the same tokens.

Legend: B rows, T positions, F fields, N_f vocabulary of a field.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from seqgen.decoding.decoder import Decoder, Logits
from seqgen.model.embedding import add_chain
from seqgen.model.loss import token_nats
from seqgen.model.sequence_model import SequenceModel


@dataclass(frozen=True)
class Agreement:
    """How closely a decoder agrees with the parallel form in float32.

    Attributes:
        bits: per token, of the decoder.
        exact_bits: per token, of the parallel form.
        top1: share of predictions (of all fields) whose most likely id is the same.
        targets: tokens predicted.
    """

    bits: float
    exact_bits: float
    top1: float
    targets: int


@torch.no_grad()
def score(model: SequenceModel, tokens: Tensor) -> Logits:
    """Return the parallel form's logits [B, T - 1, N_f] after all but the last of [B, T, F].

    Each field is given the earlier ones of its token.
    """
    return model.eval()(tokens[:, :-1], targets=tokens[:, 1:])


@torch.no_grad()
def agree(decoder: Decoder, tokens: Tensor, exact: Logits) -> Agreement:
    """Step a decoder through tokens [B, T, F] and compare with `exact`, the result of `score`."""
    B, T, _ = tokens.shape
    pool, slots = decoder.open(B), torch.arange(B, device=tokens.device)
    pool.write(slots, decoder.initial_state(B))
    steps = [
        tuple(scores.clone() for scores in pool.advance(slots, tokens[:, t])) for t in range(T - 1)
    ]
    logits = tuple(torch.stack(scores, dim=1) for scores in zip(*steps, strict=True))
    targets, uses = tokens[:, 1:], decoder.model.uses
    logits = add_chain(logits, decoder.chain, targets)
    same = [
        (ours.argmax(-1) == theirs.argmax(-1)).float().mean()
        for ours, theirs in zip(logits, exact, strict=True)
    ]
    return Agreement(
        bits=float(token_nats(logits, targets, uses=uses).mean()) / log(2),
        exact_bits=float(token_nats(exact, targets, uses=uses).mean()) / log(2),
        top1=float(torch.stack(same).mean()),
        targets=B * (T - 1),
    )
