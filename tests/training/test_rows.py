"""Packed rows, carried states, recomputed activations, kernels: what is learned, and from what."""

import pytest
import torch
from curves import curve

from seqgen.checkpoint import load_model
from seqgen.config import ModelConfig
from seqgen.data.batches import TrainingBatches
from seqgen.errors import UserError
from seqgen.model.loss import token_nats


def test_recomputing_activations_changes_no_loss(run_steps):
    plain, _ = run_steps("plain")
    again, _ = run_steps("again", recompute=True)
    assert curve(plain) == curve(again)


def test_packing_learns_from_all_targets_in_fewer_rows(run_steps, prepared):
    """Windows of the test songs are mostly short of this context: many share a row."""
    seen = []

    class Watching(TrainingBatches):
        def batch(self, k):
            seen.append(super().batch(k))
            return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqgen.training.data_module.TrainingBatches", Watching)
        run_steps("packed", context_length=600, max_steps=2)
        run_steps("apart", context_length=600, max_steps=2, packing=False)
    packed, apart = seen[0], seen[-1]
    assert packed.boundaries[:, 1:].any()
    assert not apart.boundaries[:, 1:].any()
    assert packed.targets.sum() > apart.targets.sum()


def test_a_packed_step_is_the_step_of_its_pieces(run_steps, prepared):
    """The same pieces in two rows or in many: the same loss and gradient norm at the first step."""
    curves = {}
    for name, rows, packing in (("packed", 2, True), ("apart", 8, False)):
        folder, _ = run_steps(
            name,
            context_length=4 * longest_piece(prepared),
            batch_size=rows,
            packing=packing,
            max_steps=1,
            model=ModelConfig(d_model=16, n_layers=1, n_heads=2, dropout=0.0),
        )
        curves[name] = curve(folder)[0]
    assert curves["packed"]["loss"] == pytest.approx(curves["apart"]["loss"], rel=1e-5)
    assert curves["packed"]["gradient_norm"] == pytest.approx(
        curves["apart"]["gradient_norm"], rel=1e-4
    )


def longest_piece(data):
    return max(length for piece in data.pieces for _, length in piece.variants)


def test_with_a_carried_state_validation_is_that_of_whole_pieces(run_steps, prepared):
    folder, outcome = run_steps("carried", carry_state=True, validation_tokens=10**6)
    model = load_model(folder.path).model
    nats = targets = 0
    for piece in prepared.of_split("validation"):
        tokens = torch.from_numpy(prepared.read(piece))[None]
        with torch.no_grad():
            nats += float(token_nats(model(tokens[:, :-1]), tokens[:, 1:]).sum())
        targets += tokens.shape[1] - 1
    assert outcome.best_loss == pytest.approx(nats / targets, rel=1e-4)


def test_a_carried_state_changes_what_is_learned(run_steps):
    carried, _ = run_steps("carried", carry_state=True)
    plain, _ = run_steps("plain")
    assert curve(carried)[-1]["validation_loss"] != curve(plain)[-1]["validation_loss"]


def test_an_attention_kernel_that_cannot_run_is_named(run_steps):
    with pytest.raises(UserError, match=r"'triton' cannot be used: .* run on a GPU.*kernel=auto"):
        run_steps("no", kernel="triton")


def test_every_attention_kernel_learns_the_same(run_steps):
    losses = []
    for kernel in ("auto", "chunked", "naive"):
        folder, _ = run_steps(kernel, kernel=kernel)
        losses.append([line["loss"] for line in curve(folder) if "loss" in line])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)
