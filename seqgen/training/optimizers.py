"""Which parameters learn, how fast, and which of them decay."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch

import torch
from torch import nn

from seqgen.config import TrainConfig
from seqgen.errors import UserError


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Build AdamW over the parameters that learn, after freezing the others."""
    freeze(model, config.freeze)
    groups = parameter_groups(
        model,
        learning_rate=config.learning_rate,
        learning_rates=config.learning_rates,
        weight_decay=config.weight_decay,
    )
    # One kernel for the whole update; it would hide the gradients' scale from half precision.
    devices = {parameter.device.type for parameter in model.parameters()}
    fused = devices <= {"cpu", "cuda", "mps"} and not config.precision.startswith("16")
    betas = (0.9, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=fused)


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Stop the parameters whose names match a pattern (`stack.layers.0.*`) from learning."""
    for name in _matches(model, patterns, key="train.freeze"):
        model.get_parameter(name).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"train.freeze = {list(patterns)}: nothing is left to train")


def parameter_groups(
    model: nn.Module,
    *,
    learning_rate: float,
    learning_rates: Mapping[str, float],
    weight_decay: float,
) -> list[dict]:
    """Group the parameters that learn by learning rate, and by whether they decay.

    Norms, biases, embeddings and the decays of heads do not decay. Where several patterns of
    `learning_rates` match a name, the last one counts.
    """
    _matches(model, list(learning_rates), key="train.learning_rates")
    still = _undecayed(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = learning_rate
        for pattern, own_rate in learning_rates.items():
            if fnmatch(name, pattern):
                rate = own_rate
        decay = 0.0 if name in still else weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _undecayed(model: nn.Module) -> set[str]:
    names = set()
    for prefix, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            if isinstance(module, nn.LayerNorm | nn.Embedding) or name in ("bias", "logit"):
                names.add(f"{prefix}.{name}" if prefix else name)
    return names


def _matches(model: nn.Module, patterns: Sequence[str], *, key: str) -> list[str]:
    names = [name for name, _ in model.named_parameters()]
    matched = []
    for pattern in patterns:
        found = [name for name in names if fnmatch(name, pattern)]
        if not found:
            parts = sorted({f"{name.split('.')[0]}.*" for name in names})
            raise UserError(f"{key}: no parameter matches {pattern!r} (parts: {', '.join(parts)})")
        matched += found
    return matched
