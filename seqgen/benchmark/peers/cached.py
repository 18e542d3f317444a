"""Softmax attention at its best: the torch decoder's own step, with a KV cache allocated ahead.

The matrices, the embedding, the norms and the code around them are those of the torch decoder.
Only the attention differs, so that what is timed beside it is the price of the cache alone.

Legend: L layers, B rows, C capacity of the cache, H heads, K width of a head, D model width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seqgen.decoding.cuda import CudaRecorder, GraphPool
from seqgen.decoding.fused import Active, TorchDecoder, TorchPool
from seqgen.decoding.pool import Pool
from seqgen.model.state import State


class CachedPool(TorchPool):
    """Rows that all stand at one position; every step is made there, again and again.

    A step writes its key and its value into the slot at the position and attends to all slots up to
    it, so that the next one finds the cache as it was. The position is the host's, which spares the
    step all masks and waits. Nothing is copied, and no slot is read that holds nothing.

    Attributes:
        keys, values: [L, B, H, C, K], in the dtype of the cache.
    """

    def __init__(
        self,
        decoder: TorchDecoder,
        cache: tuple[Tensor, Tensor],
        state: State,
    ):
        """Take over a filled cache and what else the rows carry.

        Args:
            decoder: whose matrices are used.
            cache: keys and values, full but for the last slot; pools may share it.
            state: where the rows are, with their last embeddings; its sums are not read.
        """
        super().__init__(decoder, state.n_rows)
        self.S = self.Z = None  # the cache stands in their place
        self.keys, self.values = cache
        self.at = self.keys.shape[3] - 1
        self.write(torch.arange(state.n_rows, device=state.position.device), state)

    def write(self, slots: Tensor, state: State) -> None:
        """Put the rows of `state` into slots [B], but for its sums."""
        self.recent[slots] = state.recent
        self.position[slots], self.origin[slots] = state.position, state.origin

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


def open_cached(decoder: TorchDecoder, cache: tuple[Tensor, Tensor], state: State) -> Pool:
    """Open a `CachedPool`; on a GPU its steps are CUDA graphs, as those of the cuda decoder are."""
    pool = CachedPool(decoder, cache, state)
    if decoder.device.type == "cuda":
        return GraphPool(pool, CudaRecorder(decoder.device))
    return pool


def preallocate(
    cache: Sequence[Sequence[Tensor]], n_tokens: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Make keys and values [L, B, H, n_tokens + 1, K] of a layer's [B, H, T, K], over and over."""
    keys, values = (_with_room(part, n_tokens, dtype) for part in zip(*cache, strict=True))
    return keys, values


def _with_room(part: Sequence[Tensor], n_tokens: int, dtype: torch.dtype) -> Tensor:
    B, H, T, K = part[0].shape
    whole = part[0].new_zeros(len(part), B, H, n_tokens + 1, K, dtype=dtype)
    for layer, x in zip(whole, part, strict=True):
        for slots in layer[:, :, :n_tokens].split(T, dim=2):
            slots.copy_(x[:, :, : slots.shape[2]])
    return whole
