"""The sampler's draw as one Triton kernel: the same ids from the same numbers.

Legend: C slots, B rows, F fields, N ids of all fields side by side, N_f those of one, R registers
of the grammar; BN, BF, BR are the powers of two above N_f, F and R.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import cuda

from seqgen.native.launches import compiling_only, launch
from seqgen.sampling.flags import Flags
from seqgen.sampling.sampler import HIGHEST, LOWEST, Sampler
from seqgen.sampling.series import RING
from seqgen.sampling.settings import (
    FREQUENCY_PENALTY,
    GRAMMAR,
    MIN_P,
    REPETITION_PENALTY,
    SMALL,
    TEMPERATURE,
    TOP_P,
    TYPICAL_P,
)
from seqgen.vocabulary import FOLLOW, LESS, RESET, Vocabulary

MOST_IDS = 8192  # of a field: a program holds all of them
REMOVED = tl.constexpr(float("-inf"))
_LOWEST, _HIGHEST, _SMALL = tl.constexpr(LOWEST), tl.constexpr(HIGHEST), tl.constexpr(SMALL)
_RING, _LESS = tl.constexpr(RING), tl.constexpr(LESS)
_FOLLOW, _RESET = tl.constexpr(FOLLOW), tl.constexpr(RESET)
_TEMPERATURE, _TOP_P, _MIN_P = (tl.constexpr(x) for x in (TEMPERATURE, TOP_P, MIN_P))
_TYPICAL_P, _GRAMMAR = tl.constexpr(TYPICAL_P), tl.constexpr(GRAMMAR)
_REPETITION, _FREQUENCY = tl.constexpr(REPETITION_PENALTY), tl.constexpr(FREQUENCY_PENALTY)


def why_not(vocabulary: Vocabulary) -> str:
    """Return why the kernel cannot draw tokens of a vocabulary; an empty string where it can."""
    largest = max(vocabulary.sizes)
    return f"a field has {largest} ids, more than {MOST_IDS}" if largest > MOST_IDS else ""


def draw(
    sampler: Sampler, logits: Sequence[Tensor], slots: Tensor, *, flags: Flags | None = None
) -> Tensor:
    """Draw the next token of each row in one launch: for `Sampler.draw_by`.

    Ids differ from the sampler's own only where sums that are rounded in another order decide.

    Args:
        sampler: its tensors are those of the streams, and are updated.
        logits: one tensor [B, N_f] per field.
        slots: of the rows [B].
        flags: the operations that are needed; None: those of all streams.

    Returns:
        ids [B, F], int64.
    """
    s, flags, rules = sampler, flags or sampler.flags, sampler.rules
    sizes = s.vocabulary.sizes
    joined = _side_by_side(logits, s.vocabulary.starts)
    tokens = torch.empty(len(slots), len(sizes), dtype=torch.int64, device=slots.device)
    BN = max(16, triton.next_power_of_2(max(sizes)))
    launch(
        draw_kernel,
        (len(slots),),
        *(joined, slots, tokens, s.starts, s.settings, s.top_k),
        *(s.bias if flags.bias else None, s.seen, s.counts),
        *(s.previous, s.has_unit, s.registers, s.drawn, s.numbers, s.log_likelihood, s.chain),
        *(rules.allowed, rules.last_group, rules.completes_unit, rules.bounds, rules.changes),
        *(rules.uses, rules.fills, s.vocabulary.eos_id),
        N=sum(sizes),
        N0=sizes[0],
        F=len(sizes),
        R=rules.n_registers,
        BN=BN,
        BF=triton.next_power_of_2(len(sizes)),
        BR=max(2, triton.next_power_of_2(rules.n_registers)),
        GREEDY=bool(flags.greedy),
        RANDOM=bool(flags.random),
        REPETITION=bool(flags.repetition),
        FREQUENCY=bool(flags.frequency),
        BIAS=bool(flags.bias),
        TOP_K=bool(flags.top_k),
        TOP_P=bool(flags.top_p),
        MINIMUM=bool(flags.min_p),
        TYPICAL=bool(flags.typical),
        SCORED=s.scored,
        num_warps=min(8, max(1, BN // 512)),
    )
    return tokens


def compile_draw(sampler: Sampler, slots: Tensor, flags: Flags) -> None:
    """Compile what draws with such flags need; nothing is drawn."""
    with compiling_only():
        shape = len(slots), sampler.seen.shape[1]
        draw(sampler, [torch.empty(shape, device=slots.device)], slots, flags=flags)


def _side_by_side(logits: Sequence[Tensor], starts: Sequence[int]) -> Tensor:
    """Return logits of all fields as one tensor [B, N], without a copy where they are one."""
    whole = logits[0]._base if logits[0]._is_view() else logits[0]
    if whole is not None and whole.is_contiguous() and whole.dtype == torch.float32:
        width = sum(field.shape[-1] for field in logits)
        places = [field.data_ptr() - whole.data_ptr() for field in logits]
        if whole.shape == (len(logits[0]), width) and places == [4 * start for start in starts]:
            return whole
    return torch.cat([field.float() for field in logits], dim=-1)


@triton.jit
def ordered(x):
    """Turn float32 into uint32 of the same order."""
    bits = tl.where(x == 0, 0.0, x).to(tl.uint32, bitcast=True)  # -0 is 0
    return tl.where(bits >> 31 == 1, ~bits, bits | 0x80000000)


@triton.jit
def reach(keys, weights, target):
    """Find the largest key at which the weights of it and all above reach `target`; else 0."""
    found, bit = tl.full([], 0, tl.uint32), tl.full([], 1 << 31, tl.uint32)
    for _ in range(32):
        enough = tl.sum(tl.where(keys >= (found | bit), weights, 0.0), 0) >= target
        found = tl.where(enough, found | bit, found)
        bit = bit >> 1
    return found


@triton.jit
def shares_of(x):
    """Take the softmax of x [BN]."""
    weights = tl.exp(x - tl.max(x, 0))
    return weights / tl.sum(weights, 0)


@triton.jit
def entry(x, i, BLOCK: tl.constexpr):
    """Give x[i] of x [BLOCK], integers."""
    return tl.sum(tl.where(tl.arange(0, BLOCK) == i, x, 0), 0)


@triton.jit
def field_logits(logits, chain, starts, ids, f, b, n, there, N: tl.constexpr, N0: tl.constexpr,
                 BF: tl.constexpr):  # fmt: skip
    """Load the logits [BN] of field f, with what the ids [BF] of earlier fields add to them."""
    start = tl.load(starts + f)
    x = tl.load(logits + b * N + start + n, mask=there, other=0.0)
    if chain is not None:
        added = tl.zeros_like(x)
        for g in range(f):
            place = tl.load(starts + g) + entry(ids, g, BF)
            added += tl.load(chain + place * (N - N0) + start - N0 + n, mask=there, other=0.0)
        x = tl.where(f > 0, x + added, x)
    return x


@triton.jit(do_not_specialize=["eos"], do_not_specialize_on_alignment=["tokens"])
def draw_kernel(
    logits, slots, tokens, starts, settings, top_k, bias, seen, counts,
    previous, has_unit, registers, drawn, numbers, log_likelihood, chain,
    allowed, last_group, completes_unit, bounds, changes,
    uses, fills, eos,
    N: tl.constexpr, N0: tl.constexpr, F: tl.constexpr, R: tl.constexpr,
    BN: tl.constexpr, BF: tl.constexpr, BR: tl.constexpr,
    GREEDY: tl.constexpr, RANDOM: tl.constexpr, REPETITION: tl.constexpr, FREQUENCY: tl.constexpr,
    BIAS: tl.constexpr, TOP_K: tl.constexpr, TOP_P: tl.constexpr, MINIMUM: tl.constexpr,
    TYPICAL: tl.constexpr, SCORED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Draw tokens [B, F] from logits [B, N], and record them; one program per row.

    The other tensors are those of `Sampler` and `Rules`, which explain them.
    """
    b = tl.program_id(0).to(tl.int64)
    n = tl.arange(0, BN)
    # What streams are was last written by a draw, and none is under way when this one begins.
    slot = tl.load(slots + b)
    settings += slot * F * 7
    follows = tl.load(settings + _GRAMMAR) != 0
    units = tl.load(has_unit + slot)
    group = tl.where(follows, tl.load(last_group + tl.load(previous + slot)), 0)
    n_drawn = tl.load(drawn + slot)
    r = tl.arange(0, BR)
    held = tl.load(registers + slot * R + r, mask=r < R, other=0)
    now, stuck = held, slot < 0
    ids = tl.zeros([BF], tl.int64)
    for f in range(F):
        own = settings + f * 7
        start = tl.load(starts + f)
        there = n < tl.load(starts + f + 1) - start
        may = tl.load(allowed + (group * 2 + units) * N + start + n, mask=there, other=0) != 0
        temperature = tl.load(own + _TEMPERATURE)
        number = tl.load(numbers + (slot * _RING + n_drawn % _RING) * F + f)
        if TOP_K:
            k = tl.load(top_k + slot * F + f)
        if TOP_P:
            p = tl.load(own + _TOP_P)
        if MINIMUM:
            least = tl.load(own + _MIN_P)
        if TYPICAL:
            typical = tl.load(own + _TYPICAL_P)

        if PDL:  # only the first time does it wait; the next kernel, perhaps a draw, waits as well
            cuda.gdc_wait()
        x = field_logits(logits, chain, starts, ids, f, b, n, there, N, N0, BF)
        if R > 0:
            for i in range(R):
                bound = tl.load(bounds + i * N + start + n, mask=there, other=0)
                may = may & ((bound > entry(now, i, BR)) | (follows == 0))
            none = tl.max(may.to(tl.int32), 0) == 0
            may = may | ((n == eos) & none & (f == 0))
        nothing = tl.max(may.to(tl.int32), 0) == 0

        if REPETITION:
            penalty = tl.load(own + _REPETITION)
            known = tl.load(seen + slot * N + start + n, mask=there, other=0) != 0
            x = tl.where(known, tl.where(x > 0, x / penalty, x * penalty), x)
        if FREQUENCY:
            times = tl.load(counts + slot * N + start + n, mask=there, other=0)
            x -= tl.load(own + _FREQUENCY) * times.to(tl.float32)
        if BIAS:
            x += tl.load(bias + slot * N + start + n, mask=there, other=0.0)
        x = tl.where(x == x, tl.minimum(tl.maximum(x, _LOWEST), _HIGHEST), _LOWEST)
        x = tl.where(may, x, REMOVED)

        if GREEDY or not RANDOM:
            best = tl.argmax(x, 0).to(tl.int64)
        if RANDOM:
            kept = x / tl.maximum(temperature, _SMALL)
            if TOP_K:
                keys = ordered(kept)
                last = tl.where(k == 0, 0, reach(keys, tl.where(there, 1.0, 0.0), k.to(tl.float32)))
                kept = tl.where(keys >= last, kept, REMOVED)
            if TOP_P:
                keys = ordered(kept)
                last = tl.where(p >= 1, 0, reach(keys, shares_of(kept), p))
                kept = tl.where(keys >= last, kept, REMOVED)
            if MINIMUM:
                lowest = tl.max(kept, 0) + tl.log(least)
                kept = tl.where(kept >= lowest, kept, REMOVED)
            if TYPICAL:
                highest = tl.max(kept, 0)
                logs = kept - highest - tl.log(tl.sum(tl.exp(kept - highest), 0))
                shares = tl.exp(logs)
                entropy = -tl.sum(tl.where(shares > 0, shares * logs, 0.0), 0)
                keys = ordered(-tl.abs(logs + entropy))
                last = tl.where(typical >= 1, 0, reach(keys, shares, typical))
                kept = tl.where(keys >= last, kept, REMOVED)
            exact = kept.to(tl.float64)
            weights = tl.exp(exact - tl.max(exact, 0))
            reached = tl.where(weights == 0, -1.0, tl.cumsum(weights, 0))
            first = tl.min(tl.where(reached > number * tl.max(reached, 0), n, BN), 0)
            chosen = tl.where(first == BN, 0, first).to(tl.int64)
            if GREEDY:
                chosen = tl.where(temperature == 0, best, chosen)
        else:
            chosen = best

        if F > 1:
            kind = tl.where(f == 0, chosen, entry(ids, 0, BF))
            is_used = (tl.load(uses + kind * F + f) != 0) | (f == 0)
            chosen = tl.where(is_used, chosen, tl.load(fills + kind))
            stuck = stuck | (nothing & is_used & (f > 0))
        ids = tl.where(tl.arange(0, BF) == f, chosen, ids)
        if R > 0:
            made = tl.load(changes + r * N + start + chosen, mask=r < R, other=_FOLLOW)
            new = tl.where(made >= _RESET, made, now - (made == _LESS).to(tl.int32))
            new = tl.where(r < R, new, now)
            changed = tl.cumsum((new != now).to(tl.int32), 0) > 0
            now = tl.where((made == _FOLLOW) & changed, _RESET, new)

    first_id = entry(ids, 0, BF)
    if F > 1:
        first_id = tl.where(stuck, eos, first_id)
    if SCORED:
        total = tl.load(log_likelihood + slot)
        for f in range(F):
            there = n < tl.load(starts + f + 1) - tl.load(starts + f)
            x = field_logits(logits, chain, starts, ids, f, b, n, there, N, N0, BF).to(tl.float64)
            x = tl.where(there, x, REMOVED)
            highest = tl.max(x, 0)
            token = tl.where(stuck, eos, entry(ids, f, BF))
            mine = tl.sum(tl.where(n == token, x, 0.0), 0)
            share = mine - highest - tl.log(tl.sum(tl.exp(x - highest), 0))
            total += tl.where(tl.load(uses + first_id * F + f) != 0, share, 0.0)
        tl.store(log_likelihood + slot, total)
    for f in range(F):
        token = tl.where(stuck, eos, entry(ids, f, BF))
        tl.store(tokens + b * F + f, token)
        place = slot * N + tl.load(starts + f) + token
        tl.store(seen + place, True)
        tl.store(counts + place, tl.load(counts + place) + 1)
    tl.store(previous + slot, first_id)
    tl.store(has_unit + slot, (units != 0) | (tl.load(completes_unit + first_id) != 0))
    tl.store(drawn + slot, n_drawn + 1)
    if R > 0:
        tl.store(registers + slot * R + r, tl.where(stuck, held, now), mask=r < R)
