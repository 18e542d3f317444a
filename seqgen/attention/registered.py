"""The pair of attentions under which both fast_transformers builders know our causal-linear.

Parallel: the library's compiled kernel for float32 on a CPU, our chunked form everywhere else (the
library's CUDA extension is rarely built, and its kernel knows float32 only). Recurrent: the
library's own. Parameters are named as in the library, so weights load either way.
"""

import torch
from fast_transformers.attention import CausalLinearAttention
from fast_transformers.attention_registry import (
    AttentionRegistry,
    Callable,
    EventDispatcherInstance,
    Int,
    Optional,
    RecurrentAttentionRegistry,
)
from fast_transformers.recurrent.attention import RecurrentLinearAttention
from torch import Tensor

from seqgen.attention.chunked import chunked

ATTENTION_TYPE = "seqgen-causal-linear"


class CausalLinear(CausalLinearAttention):
    """The library's causal linear attention, with a choice of kernel by device and dtype.

    A float32 island: under autocast the sums would otherwise be kept in bfloat16.
    """

    def forward(self, queries, keys, values, attn_mask, query_lengths, key_lengths) -> Tensor:
        """Attend: queries and keys [B, T, H, K], values [B, T, H, V] -> [B, T, H, V]."""
        device, dtype = values.device.type, values.dtype
        with torch.autocast(device, enabled=False):
            if dtype in (torch.bfloat16, torch.float16):
                queries, keys, values = queries.float(), keys.float(), values.float()
            if device == "cpu" and values.dtype == torch.float32:
                out = super().forward(queries, keys, values, attn_mask, query_lengths, key_lengths)
            else:
                if not attn_mask.lower_triangular:
                    raise ValueError("causal linear attention needs a TriangularCausalMask")
                self.feature_map.new_feature_map(queries.device)
                out, _ = chunked(
                    self.feature_map.forward_queries(queries),
                    self.feature_map.forward_keys(keys),
                    values,
                    lengths=key_lengths.lengths,
                    eps=self.eps,
                )
        return out.to(dtype).contiguous()  # the library takes a view of it


_PARAMETERS = [
    ("query_dimensions", Int),
    ("feature_map", Optional(Callable)),
    ("event_dispatcher", Optional(EventDispatcherInstance, "")),
]
AttentionRegistry.register(ATTENTION_TYPE, CausalLinear, _PARAMETERS)
RecurrentAttentionRegistry.register(ATTENTION_TYPE, RecurrentLinearAttention, _PARAMETERS)
