"""Checks that two variants compute the same, before either is timed."""

from collections.abc import Sequence

from torch import Tensor

from seqgen.errors import UserError

TOLERANCES = {"cpu": 1e-4, "cuda": 1e-3}  # float32; on a GPU sums are split in more ways
BFLOAT16_TOLERANCE = 2e-2  # inputs are rounded to 8 bits, and so are results


class OutputsDiffer(UserError):
    """Two variants that should compute the same do not."""


def check_equal(
    name: str,
    ours: Sequence[Tensor],
    reference_name: str,
    reference: Sequence[Tensor],
    *,
    tolerance: float | None = None,
) -> None:
    """Compare tensors pairwise, relative to the largest reference value (or to 1).

    The tolerance is that of float32 on the device, if none is given. OutputsDiffer names the two
    and how far they are apart.
    """
    for got, wanted in zip(ours, reference, strict=True):
        if got.shape != wanted.shape:
            raise OutputsDiffer(
                f"{name} gives shape {list(got.shape)}, {reference_name} {list(wanted.shape)}: "
                "nothing was timed"
            )
        difference = float((got - wanted).abs().max())
        scale = max(1.0, float(wanted.abs().max()))
        # Written so that a difference of NaN fails.
        allowed = TOLERANCES.get(wanted.device.type, 5e-3) if tolerance is None else tolerance
        if not difference <= allowed * scale:
            raise OutputsDiffer(
                f"{name} and {reference_name} should compute the same but differ by "
                f"{difference:.2g} (values up to {scale:.2g}): nothing was timed"
            )
