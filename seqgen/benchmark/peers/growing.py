"""Softmax attention that writes whole pieces: a KV cache allocated ahead for all of their tokens.

Legend: L layers, B rows, N tokens of a piece, H heads, K width of a head.
"""

import torch
from torch import Tensor

from seqgen.benchmark.peers.cached import CachedPool
from seqgen.decoding.decoder import Logits
from seqgen.decoding.fused import TorchDecoder


class GrowingPool(CachedPool):
    """Rows that begin together and go on together; a step attends to what has been written so far.

    The cache is used again for the next pieces. On a GPU, too, each operation is launched by
    itself, as in the torch decoder.
    """

    def __init__(self, decoder: TorchDecoder, *, n_rows: int, n_tokens: int):
        """Make room for `n_tokens` of each row."""
        c = decoder.config
        shape = (c.n_layers, n_rows, c.n_heads, n_tokens, c.d_model // c.n_heads)
        cache = (torch.zeros(shape, device=decoder.device) for _ in range(2))
        self._empty = decoder.initial_state(n_rows)
        super().__init__(decoder, tuple(cache), self._empty)
        self.begin()

    def begin(self) -> None:
        """Forget everything: the next token is the first one."""
        self.at = 0
        self.write(
            torch.arange(self._empty.n_rows, device=self._empty.position.device), self._empty
        )

    def advance(self, slots: Tensor, tokens: Tensor) -> Logits:
        """Give all rows their next tokens [B, F]; return logits [B, N_f] by field."""
        logits = super().advance(slots, tokens)
        self.at += 1
        return logits
