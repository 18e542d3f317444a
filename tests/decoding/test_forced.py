"""Tokens that a stream is forced to take are as if it had drawn them, or begun with them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from decoders import DECODERS, PAIRS
from ordered import bars
from streams import ENDLESS, ids, make_prompt, run_out, start

from seqgen.decoding import Engine, ReferenceDecoder, generate
from seqgen.decoding.rules import Rule
from seqgen.errors import UserError
from seqgen.sampling import Sampling
from seqgen.sampling.state import SamplerState

GREEDY = Sampling(temperature=0, logit_bias=ENDLESS)


def tokens_of(vocabulary, length, seed=5):
    return make_prompt(vocabulary, length + 1, seed=seed)[1:]


def force_after(decoder, n_drawn, tokens, **wishes):
    """An engine with a stream that is forced to take tokens after so many draws, and the stream."""
    engine, stream = start(decoder, **wishes)
    while stream.n_tokens < n_drawn:
        engine.step()
    engine.force(stream, tokens)
    return engine, stream


@pytest.mark.parametrize(("attention", "build"), PAIRS)
@pytest.mark.parametrize("name", ["plain_vocabulary", "toy_vocabulary"])
@pytest.mark.parametrize("n_forced", [1, 9])
def test_the_state_is_that_after_the_same_tokens_as_a_prompt(
    request, tiny, attention, build, name, n_forced
):
    vocabulary = request.getfixturevalue(name)
    decoder = build(tiny(vocabulary, attention=attention))
    for n_drawn in (1, 7):
        forced = tokens_of(vocabulary, n_forced)
        engine, stream = force_after(decoder, n_drawn, forced, sampling=GREEDY)
        assert (stream.n_tokens, stream.n_drawn) == (n_drawn + n_forced, n_drawn)
        assert stream.forced == list(range(n_drawn, n_drawn + n_forced))
        whole = np.concatenate([stream.prompt, np.stack(stream.tokens)])
        other = Engine(decoder)
        again = other.submit(whole, sampling=GREEDY, max_tokens=20 - n_drawn)
        run_out(engine, stream)
        assert stream.n_drawn == 20
        assert run_out(other, again) == ids(stream)[n_drawn + n_forced :]


@pytest.mark.parametrize("build", DECODERS)
def test_each_position_has_the_logits_of_the_parallel_form(tiny, plain_vocabulary, build):
    decoder = build(tiny(plain_vocabulary))
    forced = tokens_of(plain_vocabulary, 6)
    tolerance = 0.2 if getattr(decoder, "weights", "") == "w8a8" else 2e-5
    for n in range(1, len(forced) + 1):
        engine, stream = force_after(decoder, 3, forced[:n], sampling=GREEDY)
        session = engine.session(stream)
        whole = np.concatenate([stream.prompt, np.stack(stream.tokens)])
        with torch.no_grad():
            [wanted] = decoder.model(torch.from_numpy(whole)[None])
        pool = decoder.open(1)
        pool.write(torch.tensor([0]), session.state)
        [logits] = pool.advance(torch.tensor([0]), torch.from_numpy(session.pending)[None])
        assert torch.allclose(logits[0], wanted[0, -1], atol=tolerance)


def test_random_numbers_penalties_and_grammar_go_on():
    vocabulary, _ = bars()
    prompt, forced = np.array([[1], [3], [4]]), np.array([[7], [11], [6], [8]])
    first = SamplerState.first(vocabulary, Sampling(), seed=(1, 2), prompt=prompt)
    after, whole = first, np.concatenate([prompt, forced])
    for cut in (forced, forced[:2], forced[:1]):
        after = first.after(vocabulary, cut)
        wanted = SamplerState.first(
            vocabulary, Sampling(), seed=(1, 2), prompt=whole[: len(prompt) + len(cut)]
        )
        assert after.registers == wanted.registers
        assert torch.equal(after.seen, wanted.seen)
        assert (after.previous, after.has_unit) == (wanted.previous, wanted.has_unit)
        assert after.drawn == 0
        assert not after.counts.any()


def test_other_streams_do_not_notice(decoder):
    forced = tokens_of(decoder.vocabulary, 5)
    found = []
    for forces in (False, True):
        engine, stream = start(decoder)
        others = [engine.submit(stream.prompt, max_tokens=15, seed=9) for _ in range(3)]
        while stream.n_tokens < 6:
            engine.step()
        if forces:
            engine.force(stream, forced)
        engine.run()
        found.append([ids(other) for other in others])
    assert found[0] == found[1]


def test_marks_before_between_and_after_lead_back(decoder):
    engine, stream = start(decoder)
    while stream.n_tokens < 4:
        engine.step()
    before = engine.session(stream)
    forced = tokens_of(decoder.vocabulary, 3)
    engine.force(stream, forced)
    after = engine.session(stream)
    engine.force(stream, forced[:1])
    engine.run()
    whole = ids(stream)
    assert (stream.n_tokens, stream.n_drawn, stream.forced) == (24, 20, [4, 5, 6, 7])
    engine.rewind(stream, after)
    assert (stream.n_tokens, stream.forced) == (7, [4, 5, 6])
    engine.force(stream, forced[:1])
    assert run_out(engine, stream) == whole
    engine.rewind(stream, before)
    assert (stream.n_tokens, stream.forced) == (4, [])
    plain_engine, plain = start(decoder)
    assert run_out(engine, stream) == run_out(plain_engine, plain)
    fork = Engine(decoder).resume(after.fork(1)[0], max_tokens=3)
    assert (fork.n_tokens, fork.position) == (0, after.position)


def told(decoder, during: Callable, **wishes):
    """Run a stream whose `on_token` does something, and list what it and `stop` were told."""
    engine, heard = Engine(decoder), []

    def on_token(stream, token):
        heard.append((int(token[0]), stream.is_forced))
        during(engine, stream)

    stream = engine.submit(
        make_prompt(decoder.vocabulary),
        sampling=Sampling(logit_bias=ENDLESS),
        on_token=on_token,
        **wishes,
    )
    engine.run()
    return stream, heard


def test_callbacks_are_told_which_tokens_were_forced(decoder):
    forced = tokens_of(decoder.vocabulary, 3)

    def twice(engine, stream):
        if not stream.is_forced and stream.n_drawn in (2, 4):
            engine.force(stream, forced)

    stream, heard = told(decoder, twice, max_tokens=6)
    assert stream.finished == "length"
    assert [was for _, was in heard] == [False] * 2 + [True] * 3 + [False] * 2 + [True] * 3 + [
        False
    ] * 2
    assert [token for token, _ in heard] == [int(token[0]) for token in stream.tokens]


def test_a_rule_that_ends_at_a_forced_token_ends_after_the_last(decoder):
    forced = tokens_of(decoder.vocabulary, 4)
    asked = []

    def stop(stream, token):
        asked.append(stream.is_forced)
        return stream.is_forced

    stream, heard = told(
        decoder,
        lambda engine, stream: None if stream.n_drawn != 3 else force_once(engine, stream, forced),
        max_tokens=9,
        stop=stop,
    )
    assert (stream.finished, stream.n_tokens, stream.n_drawn) == ("stop", 7, 3)
    assert asked == [False] * 3 + [True] * 4
    assert len(heard) == 7


def force_once(engine, stream, tokens):
    if not stream.forced:
        engine.force(stream, tokens)


def test_rows_of_generate_are_given_tokens_after_those_they_draw(decoder):
    prompts = [make_prompt(decoder.vocabulary)] * 2
    forced, seen = tokens_of(decoder.vocabulary, 2), {0: [], 1: []}

    class Forcing(Rule):
        is_passive = False

        def __init__(self, row):
            self.row = row

        def take(self, token):
            self.latest = int(token[0])
            return False

        def given(self):
            seen[self.row].append(self.latest)
            return forced if self.row == 1 and len(seen[1]) == 2 else None

    found = {0: [], 1: []}
    rules, sampling = [Forcing(0), Forcing(1)], Sampling(logit_bias=ENDLESS)
    steps = generate(decoder, prompts, sampling=sampling, max_tokens=4, rules=rules)
    for step in steps:
        for row, token in zip(step.rows, step.tokens, strict=True):
            found[row].append(int(token[0]))
    assert found[0][:-1] == seen[0]  # a row that ends is not asked
    assert found[1][:-1] == [*seen[1][:2], *(int(token[0]) for token in forced), *seen[1][2:]]
    assert [len(found[row]) for row in (0, 1)] == [4, 6]


def test_what_cannot_be_forced_is_refused_and_changes_nothing(decoder):
    engine, stream = start(decoder)
    one = tokens_of(decoder.vocabulary, 1)
    with pytest.raises(UserError, match="it has not begun"):
        engine.force(stream, one)
    engine.step()
    for tokens, said in (
        (np.array([[2]]), "EOS cannot be forced"),
        (one[:0], "no tokens are given"),
        (np.array([[99]]), "ids from 99"),
    ):
        with pytest.raises(UserError, match=said):
            engine.force(stream, tokens)
    plain_engine, plain = start(decoder)
    assert run_out(engine, stream) == run_out(plain_engine, plain)
    with pytest.raises(UserError, match="has ended: rewind it"):
        engine.force(stream, one)


def test_another_streams_callback_cannot_hide_a_token(decoder):
    engine = Engine(decoder)
    prompt, one = make_prompt(decoder.vocabulary), tokens_of(decoder.vocabulary, 1)
    second = None

    def force_second(stream, token):
        engine.force(second, one)

    first = engine.submit(prompt, on_token=force_second, max_tokens=3)
    second = engine.submit(prompt, sampling=Sampling(logit_bias=ENDLESS), max_tokens=3)
    engine.run()
    assert first.finished == "error"
    assert "force tokens from its own on_token" in str(first.error)
    assert (second.finished, second.forced) == ("length", [])


def test_they_must_fit_the_learned_positions(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, positions="learned", max_positions=24)
    engine, stream = start(ReferenceDecoder(model), max_tokens=18)
    engine.step()
    engine.force(stream, tokens_of(plain_vocabulary, 4))
    with pytest.raises(UserError, match="exceed the 24 positions"):
        engine.force(stream, tokens_of(plain_vocabulary, 1))
    engine.run()
    assert stream.n_drawn == 18
