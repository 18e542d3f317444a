"""Best-of-n sampling and beam search.

Legend: B beams, F fields, N_f vocabulary of a field, N all of them side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqgen.decoding.decoder import Decoder
from seqgen.decoding.engine import PLAIN, Engine
from seqgen.decoding.prompts import Prompts, check_positions, checked_prompt
from seqgen.decoding.session import Session
from seqgen.decoding.stream import Stop
from seqgen.errors import UserError
from seqgen.model.embedding import add_chain
from seqgen.sampling import Sampling
from seqgen.vocabulary import Vocabulary


@dataclass(frozen=True)
class Candidate:
    """A continuation.

    Attributes:
        tokens: ids [T, F], T ≥ 1; the last one is EOS if `ended`.
        log_likelihood: of the tokens after their prompt under the model's own softmax, all fields
            together, in nats.
        ended: whether it came to its end.
    """

    tokens: np.ndarray
    log_likelihood: float
    ended: bool

    @property
    def per_token(self) -> float:
        """Log-likelihood per token, in nats: comparable between lengths."""
        return self.log_likelihood / len(self.tokens)


def best_of(
    decoder: Decoder,
    start: np.ndarray | Session,
    n: int,
    *,
    sampling: Sampling | None = None,
    max_tokens: int = 1024,
    stop: Stop | None = None,
    seed: int = 0,
    max_streams: int = 64,
) -> list[Candidate]:
    """Draw n continuations and return them, the most likely per token first.

    Args:
        decoder: of the model.
        start: a prompt [T, F], which is prefilled once, or a session, which is forked.
        n: how many.
        sampling: settings of the draws; None: the session's, or the default ones.
        max_tokens, stop: when each one ends, besides at EOS.
        seed: of the draws after a prompt; forks of a session have seeds of their own.
        max_streams: how many are drawn together.
    """
    if n < 1:
        raise UserError(f"cannot take the best of {n}: must be 1 or more")
    n_tokens = 1 if isinstance(start, Session) else max(len(start), 1)
    engine = Engine(
        decoder,
        max_streams=min(n, max_streams),
        max_waiting=n,
        max_prompt_tokens=n_tokens,
        max_waiting_tokens=n * n_tokens,  # they share one prompt
        scored=True,
    )
    limits: dict[str, Any] = {"max_tokens": max_tokens, "stop": stop}
    before = 0.0
    if isinstance(start, Session):
        before = start.sampler.log_likelihood
        streams = [engine.resume(s, sampling=sampling, **limits) for s in start.fork(n)]
    else:
        limits["sampling"] = PLAIN if sampling is None else sampling
        streams = [engine.submit(start, seed=seed, number=i, **limits) for i in range(n)]
    engine.run()
    candidates = []
    for stream in streams:
        if stream.error is not None:
            raise stream.error
        assert stream.log_likelihood is not None  # the engine is scored
        drawn = stream.log_likelihood - before
        candidates.append(Candidate(np.stack(stream.tokens), drawn, stream.finished == "eos"))
    return sorted(candidates, key=lambda candidate: -candidate.per_token)


def beam_search(
    decoder: Decoder,
    prompt: np.ndarray,
    n_beams: int,
    *,
    max_tokens: int = 1024,
    grammar: bool = True,
) -> list[Candidate]:
    """Search for the most likely continuations: at each step, keep the `n_beams` best so far.

    In tokens of several fields, each field is a step.

    With unlimited beams, the first candidate is the most likely continuation of all that end with
    EOS within `max_tokens` tokens or have `max_tokens`. (Graves 2012, "Sequence transduction
    with recurrent neural networks", section 2.5.)

    Args:
        decoder: of the model.
        prompt: ids [T, F], T ≥ 1 (BOS at least).
        n_beams: how many continuations are followed, and the most that are returned.
        max_tokens: the longest continuation.
        grammar: follow only continuations that the vocabulary's grammar allows.

    Returns:
        Candidates, the most likely first.
    """
    for name, value in (("n_beams", n_beams), ("max_tokens", max_tokens)):
        if value < 1:
            raise UserError(f"{name} = {value}: must be 1 or more")
    vocabulary, device = decoder.vocabulary, decoder.device
    prompt = checked_prompt(prompt, vocabulary)
    check_positions(decoder.max_positions, len(prompt), max_tokens)
    pool, slots = decoder.open(n_beams), torch.arange(n_beams, device=device)
    pool.write(slots[:1], Prompts(decoder).state_after(prompt[:-1]))
    chain = decoder.chain.double().cpu()
    beams = prompt[None]  # [B, T, F], B = 1
    scores = torch.zeros(1, dtype=torch.float64)  # [B]
    ended: list[tuple[float, np.ndarray]] = []
    for _ in range(max_tokens):
        live = slots[: len(beams)]
        raw = pool.advance(live, torch.from_numpy(beams[:, -1]).to(device))
        logits = [x.double().cpu() for x in raw]
        allowed = _allowed(beams, vocabulary, grammar=grammar)
        ends = scores + logits[0].log_softmax(-1)[:, vocabulary.eos_id]
        eos = vocabulary.special_token(vocabulary.eos_id)[None]
        for row in allowed[:, vocabulary.eos_id].nonzero().flatten().tolist():
            ended.append((float(ends[row]), np.concatenate([beams[row], eos])))
        ended = sorted(ended, key=lambda pair: -pair[0])[:n_beams]
        parents, tokens, scores = _extend(
            scores, logits, chain, beams, allowed, decoder.vocabulary, n_beams, grammar=grammar
        )
        beams = np.concatenate([beams[parents.numpy()], tokens[:, None].numpy()], axis=1)
        if not len(beams) or (len(ended) == n_beams and ended[-1][0] >= scores.max()):
            break  # scores only fall
        pool.write(slots[: len(beams)], pool.read(live).rows(parents))
    found = [(*pair, True) for pair in ended]
    found += [(float(score), beam, False) for score, beam in zip(scores, beams, strict=True)]
    found.sort(key=lambda beam: -beam[0])
    return [
        Candidate(tokens[len(prompt) :], score, ended) for score, tokens, ended in found[:n_beams]
    ]


def _allowed(beams: np.ndarray, vocabulary: Vocabulary, *, grammar: bool) -> Tensor:
    """Return which ids of the first field may follow beams [B, T, F]: booleans [B, N_0]."""
    if vocabulary.grammar is None or not grammar:
        vocabulary = replace(vocabulary, grammar=None)
        has_unit, registers = np.ones(len(beams), dtype=bool), None
    else:
        has_unit = vocabulary.grammar.completes_unit[beams[:, :, 0]].any(1)
        registers = _registers(beams, beams[:, 0, :0], vocabulary)
    allowed = vocabulary.allowed(beams[:, -1], has_unit=has_unit, registers=registers)
    return torch.from_numpy(allowed)


def _registers(beams: np.ndarray, begun: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Return the grammar's registers [B, R] after beams [B, T, F] and a begun token [B, fields]."""
    assert vocabulary.grammar is not None
    starts = np.array(vocabulary.starts[: begun.shape[1]], dtype=np.int64)
    after = [
        vocabulary.grammar.registers_after(
            np.concatenate([vocabulary.side_by_side(beam), token + starts])
        )
        for beam, token in zip(beams, begun, strict=True)
    ]
    return np.array(after).reshape(len(beams), -1)


def _extend(
    scores: Tensor,
    logits: Sequence[Tensor],
    chain: Tensor,
    beams: np.ndarray,
    allowed: Tensor,
    vocabulary: Vocabulary,
    n: int,
    *,
    grammar: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the n best extensions by a token that is not EOS, field by field.

    Args:
        scores: log-likelihoods so far [B].
        logits: of the next token [B, N_f], one for each field, without the chain.
        chain: `Decoder.chain`, float64 on the CPU.
        beams: what is extended [B, T, F].
        allowed: ids of the first field [B, N_0].
        vocabulary: of the model.
        n: how many.
        grammar: whether later fields keep the order of the grammar's registers.

    Returns:
        The beams that they extend [n], their tokens [n, F] and log-likelihoods [n]; fewer where
        there are no more.
    """
    parents = torch.arange(len(scores))
    tokens = torch.empty(len(scores), 0, dtype=torch.long)
    for f, size in enumerate(vocabulary.sizes):
        begun = F.pad(tokens, (0, len(vocabulary.sizes) - f))  # the rest has no say in field f
        share = add_chain([x[parents] for x in logits], chain, begun)[f].log_softmax(-1)
        share[:, list(vocabulary.special_ids)] = -torch.inf
        if f == 0:
            share.masked_fill_(~allowed, -torch.inf)
        elif grammar and vocabulary.grammar is not None and vocabulary.n_registers:
            registers = _registers(beams[parents.numpy()], tokens.numpy(), vocabulary)
            bounds = vocabulary.grammar.bounds[:, vocabulary.starts[f] :][:, :size]
            late = (bounds <= registers[..., None]).any(axis=1)
            share.masked_fill_(torch.from_numpy(late), -torch.inf)
        if f > 0:  # a field that means nothing is filled at no cost
            unused = torch.from_numpy(~vocabulary.uses[tokens[:, 0].numpy(), f])
            fills = torch.from_numpy(vocabulary.fills)[tokens[unused, 0]]
            share[unused] = -torch.inf
            share[unused, fills] = 0.0
        scores, best = (scores[:, None] + share).flatten().topk(min(n, share.numel()))
        rows, ids = best // size, best % size
        parents, tokens = parents[rows], torch.cat([tokens[rows], ids[:, None]], dim=1)
    possible = scores > -torch.inf
    return parents[possible], tokens[possible], scores[possible]
