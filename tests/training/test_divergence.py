"""What is checked in a step on a GPU does not make the host wait, and is not lost either."""

import pytest
import torch

from seqgen.errors import UserError
from seqgen.training.divergence import DivergenceCheck
from seqgen.training.module import TrainingModule

NAN, ONE = float("nan"), 1.0
GPU = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
)


def check_steps(*values, device):
    check = DivergenceCheck(1e-3)
    for step, value in enumerate(values):
        at = torch.tensor(value, device=device)
        check.check("loss", at, step=step, sources=[f"song-{step}"])
    return check


def test_on_a_cpu_a_number_is_checked_at_once():
    with pytest.raises(UserError, match=r"the loss is not a number at step 1 .*song-1"):
        check_steps(ONE, NAN, device="cpu")
    check_steps(ONE, ONE, device="cpu").finish()


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=GPU)])
def test_on_a_gpu_it_is_checked_with_the_next_one_or_at_the_end(device):
    with pytest.raises(UserError, match=r"the loss is not a number at step 1 .*song-1"):
        check_steps(ONE, NAN, ONE, device=device)
    late = check_steps(ONE, NAN, device=device)
    with pytest.raises(UserError, match="at step 1"):
        late.finish()
    late.finish()


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=GPU)])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_no_step_waits_for_the_gpu(run_steps, monkeypatch, device, precision):
    begin, log = TrainingModule.on_train_batch_start, TrainingModule.log_step

    def from_here_on(self, batch, index):
        begin(self, batch, index)
        if index >= 2:  # the first ones make what is kept
            torch.cuda.set_sync_debug_mode("error")

    def up_to_here(self, index):
        torch.cuda.set_sync_debug_mode("default")
        log(self, index)

    monkeypatch.setattr(TrainingModule, "on_train_batch_start", from_here_on)
    monkeypatch.setattr(TrainingModule, "log_step", up_to_here)
    try:
        run_steps("a", accelerator=device, precision=precision, log_every=100)
    finally:
        torch.cuda.set_sync_debug_mode("default")
