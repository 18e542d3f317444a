"""A KV cache that decode steps write in place, although the state that holds it is a value.

A cache is three tensors: keys [L, B, H, C, K], values [L, B, H, C, V], and how many slots of each
row have been written [L, B]. States that share the first two share the third, which is changed in
place too. A state reads only the slots before its rows' positions. So the first step from it may
write the slot at the position, which nothing reads yet; that the slot is written then shows in the
shared count, and a second step from the same state copies the cache before it writes.

Legend: L layers, B rows, H heads, K key width, V value width, C capacity.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FIRST_CAPACITY = 64  # and twice as many whenever they are full


@dataclass(frozen=True)
class Slot:
    """Where one step writes in the caches of all layers, and what it sees of them.

    Attributes:
        position: index of each row's slot [B].
        n_seen: slots up to the furthest row's own.
        mask: what each row sees of them, booleans [B, 1, 1, n_seen]; None: all of them.
    """

    position: Tensor
    n_seen: int
    mask: Tensor | None

    def write(self, cache: Tensor, x: Tensor) -> None:
        """Put x [B, H, K] into the slots of a cache [B, H, C, K]."""
        if self.mask is None:
            cache[:, :, self.n_seen - 1] = x
        else:
            cache[torch.arange(len(x), device=x.device), :, self.position] = x


def empty_cache(sizes: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Make a cache for sizes L, B, H and width of a head."""
    L, B, H, width = sizes
    # Zeros: a masked slot counts with weight 0, and 0 times what memory happens to hold may be NaN.
    keys = torch.zeros(L, B, H, FIRST_CAPACITY, width, device=device)
    return keys, torch.zeros_like(keys), torch.zeros(L, B, dtype=torch.long, device=device)


def open_slot(
    cache: tuple[Tensor, ...], position: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Slot]:
    """Return a cache into which a step at `position` [B] may write, and the slot to write to.

    It is the given cache where the slot is there and has not been written; else a copy.
    """
    keys, values, written = cache
    slots, free = torch.stack([position, written[0]]).tolist()  # one wait for the device
    n_seen = max(slots) + 1
    if slots != free or n_seen > keys.shape[3]:
        keys, values = _copy(keys, n_seen), _copy(values, n_seen)
        written = position.repeat(len(keys), 1)
    written += 1
    mask = None
    if min(slots) + 1 < n_seen:
        mask = torch.arange(n_seen, device=position.device) <= position[:, None]
        mask = mask[:, None, None]  # [B, 1, 1, n_seen]
    return (keys, values, written), Slot(position, n_seen, mask)


def _copy(x: Tensor, n_seen: int) -> Tensor:
    """Copy a cache's tensor [L, B, H, C, K] before slot n_seen - 1, with room for that slot."""
    L, B, H, C, K = x.shape
    if n_seen > C:
        C = max(FIRST_CAPACITY, 2 * C, n_seen)
    copy = x.new_zeros(L, B, H, C, K)
    copy[:, :, :, : n_seen - 1] = x[:, :, :, : n_seen - 1]
    return copy
