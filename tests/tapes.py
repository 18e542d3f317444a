"""What stands for CUDA graphs where there is no GPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "item"}  # reads of a device


class Tape(TorchDispatchMode):
    """All operations on tensors, with the very tensors that they were given and gave."""

    def __init__(self):
        super().__init__()
        self.played, self.before = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.removeprefix("aten::")
        assert name not in WAITS, f"{name} would wait for the device"
        for argument, value in zip(function._schema.arguments, args, strict=False):
            if argument.is_write and isinstance(value, torch.Tensor):
                self.before.append((value, value.clone()))
        out = function(*args, **(kwargs or {}))
        self.played.append((function, args, kwargs or {}, out))
        return out

    def rewind(self):
        """Nothing has been done when something was recorded."""
        for tensor, value in reversed(self.before):
            tensor.copy_(value)

    def replay(self):
        for function, args, kwargs, out in self.played:
            results = tree_leaves(function(*args, **kwargs))
            for place, result in zip(tree_leaves(out), results, strict=True):
                if isinstance(place, torch.Tensor) and place.data_ptr() != result.data_ptr():
                    place.copy_(result)


class TapeRecorder:
    """Records as `CudaRecorder` does, on a CPU."""

    def __init__(self):
        self.n_warm, self.n_recorded, self.n_replayed = 0, 0, 0

    def wait(self):
        pass

    def warm_up(self, work):
        self.n_warm += 1
        return work()

    def record(self, work):
        self.n_recorded += 1
        with Tape() as tape:
            results = work()
        tape.rewind()

        def replay():
            self.n_replayed += 1
            tape.replay()

        return replay, results
