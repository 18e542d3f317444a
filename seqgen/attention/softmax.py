"""Softmax attention, registered for the parallel and the recurrent builder of fast_transformers.

It is the baseline of causal linear attention: the same layers and weights, PyTorch's fused kernels,
and a KV cache in place of the sums. Neither form holds parameters, so weights load as in the
library.

Legend: B rows, T positions, H heads, K key width, V value width, C capacity of a cache.
"""

import torch
import torch.nn.functional as F
from fast_transformers.attention_registry import (
    AttentionRegistry,
    EventDispatcherInstance,
    Float,
    Optional,
    RecurrentAttentionRegistry,
)
from torch import Tensor, nn

from seqgen.attention.cache import Slot
from seqgen.attention.naive import segment_ids
from seqgen.attention.rows import PassRows

ATTENTION_TYPE = "seqgen-softmax"
Cache = tuple[Tensor, Tensor, Tensor]  # keys [B, H, C, K], values [B, H, C, V], how many [B]


class SoftmaxAttention(nn.Module):
    """Causal softmax attention over whole rows.

    On a CPU, PyTorch has no fused kernel that also drops weights out: a training step at T = 1024
    takes three times as long with dropout as without. Compare speeds without it, or on a GPU.

    Attributes:
        kernel: used by causal linear attention only; here PyTorch chooses one.
        layer: index of the layer, by which states are told apart.
    """

    def __init__(self, attention_dropout: float = 0.1, event_dispatcher: str = ""):
        super().__init__()
        self.dropout = attention_dropout
        self.kernel = "auto"
        self.layer = 0

    def forward(
        self, queries, keys, values, attn_mask, query_lengths, key_lengths: PassRows
    ) -> Tensor:
        """Attend: queries and keys [B, T, H, K], values [B, T, H, V] -> [B, T, H, V]."""
        if not attn_mask.lower_triangular:
            raise ValueError("causal softmax attention needs a TriangularCausalMask")
        rows = key_lengths
        cache: Cache | None = None
        earlier = rows.initial_state(self.layer)
        if earlier is not None:
            assert rows.before is not None  # given together with the initial state
            cache = earlier[0], earlier[1], rows.before
        dropout = self.dropout if self.training else 0.0
        if rows.keep:
            state = cache_after(
                keys, values, lengths=rows.valid, boundaries=rows.boundaries, cache=cache
            )
            rows.store_state(self.layer, state)
        return softmax_attention(
            queries, keys, values, boundaries=rows.boundaries, cache=cache, dropout=dropout
        )


class RecurrentSoftmax(nn.Module):
    """Softmax attention of one position over a KV cache, into which it writes."""

    def __init__(self, event_dispatcher: str = ""):
        super().__init__()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        state: tuple[Tensor, Tensor, Slot],
        memory: None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Slot]]:
        """Attend to a row's earlier positions and this one.

        Args:
            query, key: of this position [B, H, K].
            value: likewise [B, H, V].
            state: keys [B, H, C, K], values [B, H, C, V], and the `Slot` of this position.
            memory: a deprecated name of the library for the state.

        Returns:
            Values [B, H, V], and the same state.
        """
        keys, values, slot = state
        slot.write(keys, key)
        slot.write(values, value)
        seen = slice(slot.n_seen)
        out = F.scaled_dot_product_attention(
            query.unsqueeze(2), keys[:, :, seen], values[:, :, seen], attn_mask=slot.mask
        )
        return out.squeeze(2).contiguous(), state  # the library takes a view of it


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    boundaries: Tensor | None = None,
    cache: Cache | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend to the positions of the same segment up to the present one (Vaswani et al. 2017).

    A right-padded row needs no lengths: what follows changes none of its outputs.

    Args:
        q, k: queries and keys [B, T, H, K].
        v: values [B, T, H, V].
        boundaries: booleans [B, T], true where a segment begins. None: nowhere.
        cache: keys and values of what came before the rows. None: nothing.
        dropout: probability with which an attention weight is dropped.

    Returns:
        [B, T, H, V], contiguous.
    """
    mask = None if boundaries is None and cache is None else _visible(q, boundaries, cache)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [B, H, T, ...]
    if cache is not None:
        k = torch.cat([cache[0].to(k.dtype), k], dim=2)
        v = torch.cat([cache[1].to(v.dtype), v], dim=2)
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout
    )
    return out.transpose(1, 2).contiguous()


def cache_after(
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    boundaries: Tensor | None = None,
    cache: Cache | None = None,
) -> Cache:
    """Gather the keys and values of the segment in which each row ends; arguments as above.

    `lengths` [B] are the valid positions of each row; None: all.

    Returns:
        A cache in float32 (float64 for float64), as long as the longest segment in it.
    """
    B, T = k.shape[:2]
    device = k.device
    segment = segment_ids(boundaries, B, T, device=device)
    if lengths is None:
        lengths = torch.full((B,), T, device=device)
    row = torch.arange(B, device=device)
    last = segment[row, (lengths - 1).clamp(min=0)].masked_fill(lengths == 0, 0)
    first = (segment < last[:, None]).sum(1)  # where in the row its last segment begins
    before = torch.zeros_like(lengths)
    if cache is not None:
        keys, values, n_valid = cache
        k, v = torch.cat([keys.transpose(1, 2), k], 1), torch.cat([values.transpose(1, 2), v], 1)
        before = n_valid * (last == 0)
        first = first + keys.shape[2]
    count = before + lengths - (first - (k.shape[1] - T))
    slot = torch.arange(int(count.max()), device=device)
    here = (first - before)[:, None] + slot
    source = torch.where(slot < before[:, None], slot, here).clamp(max=k.shape[1] - 1)  # [B, C]
    work = torch.promote_types(v.dtype, torch.float32)
    keys, values = (x[row[:, None], source].to(work) for x in (k, v))  # [B, C, H, ...]
    return keys.transpose(1, 2).contiguous(), values.transpose(1, 2).contiguous(), count


def _visible(q: Tensor, boundaries: Tensor | None, cache: Cache | None) -> Tensor:
    """Return what each position sees of the cache and its row: booleans [B, 1, T, C + T]."""
    B, T = q.shape[:2]
    segment = segment_ids(boundaries, B, T, device=q.device)
    seen = (segment[:, :, None] == segment[:, None, :]).tril()
    if cache is not None:
        keys, _, n_valid = cache
        valid = torch.arange(keys.shape[2], device=q.device) < n_valid[:, None]  # [B, C]
        seen = torch.cat([(segment == 0)[:, :, None] & valid[:, None, :], seen], dim=2)
    return seen.unsqueeze(1)


_DISPATCHER = ("event_dispatcher", Optional(EventDispatcherInstance, ""))
AttentionRegistry.register(
    ATTENTION_TYPE, SoftmaxAttention, [("attention_dropout", Optional(Float, 0.1)), _DISPATCHER]
)
RecurrentAttentionRegistry.register(ATTENTION_TYPE, RecurrentSoftmax, [_DISPATCHER])
