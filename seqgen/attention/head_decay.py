"""A decay for each head: sums that forget by themselves, from the first position on.

With γ_h in (0, 1] for head h, causal linear attention is

    S_t = γ_h S_{t-1} + φ(k_t) v_tᵀ        Z_t = γ_h Z_{t-1} + φ(k_t)
    out_t = φ(q_t)ᵀ S_t / (φ(q_t)ᵀ Z_t + ε)        γ_h = 1 - 2^(-e_h)

with e_h spread evenly over the heads: a key d positions back counts γ_h^d times, half of what it
did after about 0.7 · 2^e_h positions. This is the multi-scale decay of Sun et al. 2023, "Retentive
Network", section 2.2, with our feature map and normaliser in place of their group norm.

Legend: H heads.
"""

from collections.abc import Callable
from functools import cache
from math import expm1, log

import torch
from torch import Tensor, nn

from seqgen.config import ModelConfig


class HeadDecay(nn.Module):
    """Gives γ [H]; the last heads may have none, which is γ = 1.

    Attributes:
        logit: ln(γ / (1 - γ)) of the heads that decay, a parameter if they learn it, else a buffer.
            Near 1, where γ itself would lose the digits of 1 - γ, the logit keeps them.
    """

    logit: Tensor

    def __init__(self, exponents: list[float], n_undecayed: int, *, learned: bool):
        super().__init__()
        self.n_undecayed = n_undecayed
        logit = torch.tensor([log(expm1(e * log(2))) for e in exponents])  # of 1 - 2^-e
        if learned:
            self.logit = nn.Parameter(logit)
        else:
            self.register_buffer("logit", logit)

    def forward(self) -> Tensor:
        """Return γ [H] in float32, of a float64 model in float64."""
        logit = self.logit.to(torch.promote_types(self.logit.dtype, torch.float32))
        return torch.cat([logit.sigmoid(), logit.new_ones(self.n_undecayed)])


def head_decay(config: ModelConfig) -> Callable[[], HeadDecay] | None:
    """Return what builds a layer's decays, the same object for the same settings; None: none."""
    if config.decay == "none":
        return None
    n_undecayed = config.heads_without_decay
    return _factory(
        config.decay, tuple(config.decay_range), config.n_heads - n_undecayed, n_undecayed
    )


@cache
def _factory(
    decay: str, decay_range: tuple[float, float], n_decayed: int, n_undecayed: int
) -> Callable[[], HeadDecay]:
    first, last = decay_range
    steps = [i / (n_decayed - 1) for i in range(n_decayed)] if n_decayed > 1 else [0.5]
    exponents = [first + (last - first) * step for step in steps]
    return lambda: HeadDecay(exponents, n_undecayed, learned=decay == "learned")
