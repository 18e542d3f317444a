"""Kernels are launched or only compiled, as a thread says."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from seqgen.native.launches import capability, compiling_only, launch


class Kernel:
    """What stands for a kernel of Triton."""

    def __init__(self):
        self.ran, self.compiled = [], []

    def __getitem__(self, grid):
        return lambda *args, **options: self.ran.append((grid, args, options))

    def warmup(self, *args, grid, **options):
        self.compiled.append((grid, args, options))


def test_a_kernel_is_launched_with_its_constants():
    kernel, x = Kernel(), torch.ones(1)
    launch(kernel, (3,), x, 5, BLOCK=16, num_warps=2)
    ((grid, args, options),) = kernel.ran
    assert (grid, args) == ((3,), (x, 5))
    # On a CPU, no kernel waits for another one.
    assert options == {"BLOCK": 16, "num_warps": 2, "PDL": False, "enable_fp_fusion": True}


def test_kernels_are_only_compiled_where_a_thread_asks_for_it():
    kernel, x = Kernel(), torch.ones(1)
    with compiling_only():
        launch(kernel, (3,), x)
        with ThreadPoolExecutor(1) as another:
            another.submit(launch, kernel, (2,), x).result()
    launch(kernel, (1,), x)
    assert [grid for grid, *_ in kernel.compiled] == [(3,)]
    assert [grid for grid, *_ in kernel.ran] == [(2,), (1,)]


def test_nothing_is_compiled_when_the_process_ends(monkeypatch):
    ended = threading.Thread(target=lambda: None)
    monkeypatch.setattr(threading, "main_thread", lambda: ended)
    with compiling_only(), pytest.raises(RuntimeError, match="the process ends"):
        launch(Kernel(), (1,), torch.ones(1))


def test_only_gpus_of_nvidia_have_a_compute_capability(monkeypatch):
    assert capability(torch.device("cpu")) == (0, 0)
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert capability.__wrapped__(torch.device("cuda")) == (0, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_hopper_a_kernel_may_begin_before_the_last_one_has_ended():
    kernel = Kernel()
    launch(kernel, (1,), torch.ones(1, device="cuda"))
    able = torch.cuda.get_device_capability() >= (9, 0)
    assert kernel.ran[0][2]["PDL"] == able
    assert ("launch_pdl" in kernel.ran[0][2]) == able
