"""Training with FSDP2: weights, gradients and optimizer states are divided among the processes."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from seqgen.checkpoint import FILES, put_checkpoint, read_checkpoint
from seqgen.files import checksums, remove, write_json
from seqgen.model.encoder_decoder import build_model
from seqgen.model.sequence_model import SequenceModel

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over all processes; each writes its part of a checkpoint, which is a folder.

    Checkpoints of other strategies, which are files, can be resumed from, and the reverse.
    """

    def __init__(self, timeout: timedelta):
        super().__init__(tensor_parallel_size=1, timeout=timeout)

    def setup_environment(self) -> None:
        """Divide the model among all processes of all machines."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint, complete or not at all; every process calls it."""
        path = Path(filepath)
        new = path.with_name(f"{path.name}.new")
        if self.is_global_zero:
            remove(new)
        self.barrier()
        super().save_checkpoint(checkpoint, new)
        self.barrier()
        if self.is_global_zero:
            write_json(new / FILES, checksums(new))
            put_checkpoint(new, path)

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load weights and optimizer states, each process its part; return everything else."""
        path = Path(checkpoint_path)
        if path.is_dir():
            return super().load_checkpoint(path, weights_only)
        checkpoint = read_checkpoint(path, way_out="resume with another train.strategy")
        module = cast(torch.nn.Module, self.model)
        names = {parameter: name for name, parameter in module.named_parameters()}
        set_model_state_dict(module, checkpoint.pop("state_dict"), options=WHOLE)
        for optimizer, state in zip(
            self.optimizers, checkpoint.pop("optimizer_states"), strict=True
        ):
            groups = [[names[p] for p in group["params"]] for group in optimizer.param_groups]
            set_optimizer_state_dict(module, optimizer, _named(state, groups), options=WHOLE)
        return checkpoint


def _named(state: Mapping[str, Any], groups: list[list[str]]) -> dict[str, Any]:
    """Give an optimizer's state, which numbers parameters through all groups, their names."""
    order = [name for names in groups for name in names]
    return {
        "state": {order[number]: values for number, values in state["state"].items()},
        "param_groups": [
            {**group, "params": names}
            for group, names in zip(state["param_groups"], groups, strict=True)
        ],
    }


def shard(model: SequenceModel, mesh: DeviceMesh) -> None:
    """Divide each layer, the output head and what is left among the processes of a mesh."""
    for part in (*model.stack.layers, model.lm_head, model):
        fully_shard(part, mesh=mesh)
    register_fsdp_forward_method(model, "run")  # training calls it in place of `forward`


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether this process has a part of the weights only."""
    return isinstance(model, FSDPModule)


def whole_model(model: SequenceModel) -> SequenceModel | None:
    """Return the model with all weights; None on processes other than the first of a sharded one.

    Every process has to call it.
    """
    if not is_sharded(model):
        return model
    weights = get_model_state_dict(model, options=WHOLE)
    if dist.get_rank() > 0:
        return None
    whole = build_model(model.config, model.vocabulary)
    whole.load_state_dict(weights)
    return whole.eval()
