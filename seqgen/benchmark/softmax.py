"""Softmax attention in decoding: with a static KV cache, or recomputed at each step.

The static cache is the peer that counts: the torch decoder's own matrices, embedding and code, of
which only the attention differs, so that what is timed beside it is the price of the cache alone.

Legend: L layers, B rows, T positions, F fields, C capacity of the cache, H heads, K width of a
head, D model width.
"""

from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from seqgen.benchmark.draws import Draws, at_its_best
from seqgen.benchmark.equality import BFLOAT16_TOLERANCE, check_equal
from seqgen.benchmark.model import DECODERS, BenchmarkModel
from seqgen.benchmark.timing import Call, Variant
from seqgen.decoding.decoder import Logits
from seqgen.decoding.fused import Active, TorchDecoder, TorchPool
from seqgen.model.stack import causal_mask
from seqgen.model.state import State

# By variant: the decoder whose matrices it has, the dtype of its cache, the check's tolerance.
STATIC = {
    "softmax-preallocated": ("torch", torch.float32, None),
    "softmax-preallocated-bf16": ("torch-bf16", torch.bfloat16, 2 * BFLOAT16_TOLERANCE),
    "softmax-preallocated-int8": ("torch-int8", torch.float32, 0.1),
}
RECOMPUTED = "softmax-recomputed"
USUAL = 0.1  # fills the slots: as fast as any other normal number
PART = 4  # of recomputing: a part goes over a fourth of the positions


class StaticCachePool(TorchPool):
    """Rows that all stand at one position, with a KV cache allocated ahead and written in place.

    A step writes its key and value into the slot at that position and attends to all slots up to
    it. The position is the host's, which spares the step all masks and waits. Nothing is copied,
    and no slot is read that holds nothing.
    """

    def __init__(
        self, model: BenchmarkModel, name: str, *, n_rows: int, capacity: int, grows: bool = False
    ):
        """Make room for C = `capacity` tokens of each row, for one of `STATIC`.

        A step moves on to the next slot if the cache `grows`; if not, all slots but the last are
        full, and each step writes that one.
        """
        matrices, dtype, _ = STATIC[name]
        super().__init__(cast("TorchDecoder", model.decoder(matrices)), n_rows)
        del self.S, self.Z  # the cache stands in their place
        c = model.config
        shape = (c.n_layers, n_rows, c.n_heads, capacity, c.d_model // c.n_heads)
        self.keys, self.values = (
            torch.full(shape, USUAL, dtype=dtype, device=model.device) for _ in range(2)
        )
        self.grows, self.at = grows, 0 if grows else capacity - 1  # the slot of the next step

    def write(self, slots: Tensor, state: State) -> None:
        """Put all rows where those of `state` are, without its sums; a growing cache is emptied."""
        self.recent[slots] = state.recent
        self.position[slots], self.origin[slots] = state.position, state.origin
        self.held[slots] = state.held
        if self.grows:
            self.at = 0

    def advance(self, slots: Tensor, tokens: Tensor) -> Logits:
        """Give all rows their next tokens [B, F]; return logits [B, N_f] by field."""
        logits = super().advance(slots, tokens)
        self.at += self.grows
        return logits

    def attend(self, layer: int, qkv: Tensor, active: Active) -> Tensor:
        """Write queries' keys and values [B, 3 D] to the cache, and attend -> [B, D]."""
        B = len(qkv)
        q, k, v = qkv.to(self.keys.dtype).view(B, 3, self.n_heads, -1).unbind(1)  # [B, H, K]
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.at], values[:, :, self.at] = k, v
        seen = slice(self.at + 1)
        out = F.scaled_dot_product_attention(q.unsqueeze(2), keys[:, :, seen], values[:, :, seen])
        return out.reshape(B, -1).float()

    def _in_place(self, slots: Tensor) -> Active:
        return Active(slots, slice(0, len(slots)))  # all of them, always


def static_names(model: BenchmarkModel) -> list[str]:
    """List the static caches to measure: those whose matrices and dtype run here."""
    decoders = model.decoder_names
    return [
        name
        for name, (matrices, dtype, _) in STATIC.items()
        if matrices in decoders
        and not model.why_not(matrices)
        and (dtype != torch.bfloat16 or model.has_bfloat16)
    ]


@torch.no_grad()
def check(model: BenchmarkModel, tokens: Tensor) -> None:
    """Compare the last of steps through tokens [B, T, F] with the whole computed at once."""
    B, T, _ = tokens.shape
    *prompt, last = tokens.unbind(1)
    whole, slots = model.recompute(tokens), torch.arange(B, device=model.device)
    for name in static_names(model):
        pool = StaticCachePool(model, name, n_rows=B, capacity=T, grows=True)
        for token in prompt:
            pool.advance(slots, token)
        pool.grows = False
        logits = at_its_best(pool, model.device).advance(slots, last)
        check_equal(name, logits, RECOMPUTED, whole, tolerance=STATIC[name][2])


def variants(
    model: BenchmarkModel, draws: Draws, last: Tensor, state: State, *, position: int
) -> list[Variant]:
    """Make variants of one step after `position` tokens, with tokens `last` [B, F] and a draw."""
    B, capacity = len(last), position + 1

    def open_static(name: str) -> Call:
        pool = StaticCachePool(model, name, n_rows=B, capacity=capacity)
        return draws.call(at_its_best(pool, model.device), last, state)

    def open_recomputed() -> Call:
        tokens = model.random_tokens(B, capacity)
        causal_mask.cache_clear()  # of other places: hundreds of megabytes for long contexts
        return Call(
            lambda length: draws.draw(model.recompute(tokens[:, :length])),
            length=capacity,
            part=-(-capacity // PART),
        )

    made = []
    for name in static_names(model):
        matrices, dtype, _ = STATIC[name]
        holds = model.cache_bytes(capacity, B, itemsize=dtype.itemsize)
        made.append(
            Variant(name, partial(open_static, name), holds=holds, dtype=DECODERS[matrices][1])
        )
    # Products, masked, softmax of one layer; and the mask, which the library keeps in two forms.
    scores = 4 * B * model.config.n_heads * capacity**2
    needed = 3 * scores + 5 * capacity**2
    return [*made, Variant(RECOMPUTED, torch.no_grad()(open_recomputed), needs=needed)]
