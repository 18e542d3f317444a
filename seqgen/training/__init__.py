"""Training, on one process or on several that a launcher has started."""

import os


def by_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launched() -> bool:
    """Whether torchrun or srun has started this process, as one of several."""
    several = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
    in_shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return by_torchrun() or (several and not in_shell)
