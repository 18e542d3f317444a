"""Search finds what there is: likelihoods are the model's own, and wide beams miss nothing."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from decoders import EXACT
from ordered import bars, goes_forward

from seqgen.decoding import Engine, ReferenceDecoder, beam_search, best_of
from seqgen.errors import UserError
from seqgen.model.loss import token_nats
from seqgen.sampling import Sampling
from seqgen.vocabulary import Field, Grammar, Vocabulary

SMALL = (Field("token", 7),)
PAIRS = (Field("family", 5), Field("pitch", 6))
# Ids: pad, bos, eos, then two that begin a unit and two that end one and may not come first.
GRAMMAR = Grammar(
    first=(0, 1, 2, 3, 3, 4, 4),
    last=(0, 1, 2, 3, 3, 4, 4),
    follows=tuple(tuple(b in after for b in range(5)) for after in ((), (3,), (), (4,), (2, 3, 4))),
    units=(False,) * 5 + (True, True),
)


def vocabulary_of(fields, grammar=None):
    return Vocabulary(fields, bos_id=1, eos_id=2, pad_id=0, grammar=grammar)


def prompt_of(vocabulary):
    return np.stack([vocabulary.special_token(1), vocabulary.special_token(3)])


def score(model, prompt, tokens):
    """Sum log p of `tokens` after `prompt`, by the parallel form."""
    ids = torch.from_numpy(np.concatenate([prompt, tokens]))
    with torch.no_grad():
        logits = model(ids[None, :-1], targets=ids[None, 1:])
    nats = token_nats(logits, ids[None, 1:], uses=model.uses)
    return -float(nats[0, len(prompt) - 1 :].double().sum())


def every_way(vocabulary, max_tokens):
    """All continuations that end with EOS or have `max_tokens`, and hold no other special id."""
    eos = tuple(vocabulary.special_token(2).tolist())
    plain = list(product(*(range(3, size) for size in vocabulary.sizes)))
    for n in range(max_tokens):
        yield from ((*way, eos) for way in product(plain, repeat=n))
    yield from product(plain, repeat=max_tokens)


def is_legal(way):
    groups = [GRAMMAR.last[token[0]] for token in ((3,), *way)]
    holds_unit = all(4 in groups[:i] for i, group in enumerate(groups) if group == 2)
    return holds_unit and all(GRAMMAR.follows[a][b] for a, b in pairwise(groups))


@pytest.mark.parametrize("build", EXACT)
@pytest.mark.parametrize(
    ("fields", "grammar"), [(SMALL, None), (PAIRS, None), (SMALL, GRAMMAR)], ids=str
)
def test_beams_wide_enough_find_the_likeliest_of_all(tiny, build, fields, grammar):
    vocabulary = vocabulary_of(fields, grammar)
    model = tiny(vocabulary, n_layers=1)
    with torch.no_grad():  # EOS is likely, but not from the start
        model.lm_head.linears[0].bias[2] += 1.0
    prompt = prompt_of(vocabulary)
    ways = [way for way in every_way(vocabulary, 3) if grammar is None or is_legal(way)]
    scores = {way: score(model, prompt, np.array(way)) for way in ways}
    expected = sorted(ways, key=lambda way: -scores[way])
    found = beam_search(build(model), prompt, len(ways), max_tokens=3)
    assert [tuple(map(tuple, candidate.tokens)) for candidate in found] == expected
    for candidate, way in zip(found, expected, strict=True):
        assert candidate.log_likelihood == pytest.approx(scores[way], abs=1e-4)
        assert candidate.ended == (way[-1][0] == 2)


@pytest.mark.parametrize("first", [3, 4, 5, 6])
def test_few_beams_keep_the_best_at_each_step(tiny, first):
    vocabulary = vocabulary_of(SMALL)
    model, prompt = tiny(vocabulary, n_layers=1), np.array([[1], [first]])
    with torch.no_grad():
        model.lm_head.linears[0].bias[2] += 0.5

    def best(ways):
        return sorted(ways, key=lambda way: -score(model, prompt, np.array(way)))[:3]

    ways, ended = [()], []
    for _ in range(5):
        ended += [(*way, (2,)) for way in ways]
        ways = best([(*way, (i,)) for way in ways for i in range(3, 7)])
    found = beam_search(ReferenceDecoder(model), prompt, 3, max_tokens=5)
    assert [tuple(map(tuple, candidate.tokens)) for candidate in found] == best(ended + ways)


def test_beams_may_leave_the_grammar(tiny):
    vocabulary = vocabulary_of(SMALL, GRAMMAR)
    decoder = ReferenceDecoder(tiny(vocabulary, n_layers=1))
    found = beam_search(decoder, prompt_of(vocabulary), 30, max_tokens=2, grammar=False)
    assert len(found) == 21  # EOS, 4 before EOS, 16


def test_beams_go_forward(tiny):
    vocabulary, parts = bars()
    decoder = ReferenceDecoder(tiny(vocabulary, n_layers=1))
    start = [parts.index([token]) for token in ("bos", "bar", "part 0", "position 2", "note")]
    found = beam_search(decoder, np.array(start)[:, None], 200, max_tokens=5)
    assert len(found) == 200
    for candidate in found:
        ids = [*start, *candidate.tokens[:, 0]]
        assert goes_forward([token for i in ids for token in parts[i]])


@pytest.mark.parametrize("name", ["plain_vocabulary", "toy_vocabulary"])
def test_the_best_are_in_order_of_the_models_own_likelihood(request, tiny, name):
    vocabulary = request.getfixturevalue(name)
    model, prompt = tiny(vocabulary, n_layers=1), prompt_of(vocabulary)
    found = best_of(
        *(ReferenceDecoder(model), prompt, 8),
        sampling=Sampling(temperature=1.5, top_k=8, repetition_penalty=1.3),
        max_tokens=9,
    )
    assert len(found) == 8
    assert [c.per_token for c in found] == sorted((c.per_token for c in found), reverse=True)
    for candidate in found:
        expected = score(model, prompt, candidate.tokens)
        assert candidate.log_likelihood == pytest.approx(expected, abs=1e-4)
        assert candidate.per_token == pytest.approx(expected / len(candidate.tokens), abs=1e-4)
        assert candidate.ended == (candidate.tokens[-1, 0] == 2)


@pytest.mark.parametrize("scored", [False, True])
def test_the_best_forks_of_a_session_are_scored_from_there(tiny, plain_vocabulary, scored):
    model, prompt = tiny(plain_vocabulary, n_layers=1), prompt_of(plain_vocabulary)
    decoder = ReferenceDecoder(model)
    engine = Engine(decoder, scored=scored)
    stream = engine.submit(prompt, sampling=Sampling(logit_bias={2: -1e6}))
    for _ in range(5):
        engine.step()
    session = engine.session(stream)
    before = np.concatenate([prompt, np.stack(stream.tokens)])
    found = best_of(decoder, session, 4, max_tokens=6)
    assert len({tuple(map(tuple, c.tokens)) for c in found}) == 4
    for candidate in found:
        expected = score(model, before, candidate.tokens)
        assert candidate.log_likelihood == pytest.approx(expected, abs=1e-4)


def test_the_best_of_one_prompt_prefill_it_once(tiny, plain_vocabulary):
    decoder = ReferenceDecoder(tiny(plain_vocabulary, n_layers=1))
    calls = []
    inner = decoder.prefill
    decoder.prefill = lambda *given: calls.append(1) or inner(*given)
    best_of(decoder, prompt_of(plain_vocabulary), 6, max_tokens=3, max_streams=2)
    assert len(calls) == 1


def test_impossible_searches_are_refused(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, n_layers=1, positions="learned", max_positions=10)
    decoder, prompt = ReferenceDecoder(model), prompt_of(plain_vocabulary)
    for search, said in (
        (lambda: best_of(decoder, prompt, 0), "best of 0"),
        (lambda: beam_search(decoder, prompt, 0), "n_beams = 0"),
        (lambda: beam_search(decoder, prompt, 2, max_tokens=0), "max_tokens = 0"),
        (lambda: beam_search(decoder, prompt, 2, max_tokens=10), "exceed the 10 positions"),
        (lambda: beam_search(decoder, prompt[:0], 2), "begin it with BOS"),
    ):
        with pytest.raises(UserError, match=said):
            search()


def test_many_drawn_from_a_long_prompt_share_it(tiny, plain_vocabulary):
    decoder = ReferenceDecoder(tiny(plain_vocabulary, n_layers=1))
    prompt = np.full((30_001, 1), 5)
    assert len(best_of(decoder, prompt, 40, max_tokens=1)) == 40
