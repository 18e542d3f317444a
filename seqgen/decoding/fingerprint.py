"""Identifies the model that a state belongs to."""

import hashlib
import json

import torch

from seqgen.model.sequence_model import SequenceModel


def fingerprint(model: SequenceModel) -> str:
    """Return a SHA-256 of sizes and choices, vocabulary and weights, as a hexadecimal number.

    Weights count as float32, so decoders that keep them otherwise share the model's fingerprint.
    Settings at their defaults do not count: a new one leaves fingerprints as they were.
    """
    facts = [model.config.model_dump(exclude_defaults=True), model.vocabulary.to_json()]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, weights in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(weights.shape)}".encode())
        digest.update(weights.detach().to("cpu", torch.float32).contiguous().numpy())
    return digest.hexdigest()
