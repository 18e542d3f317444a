"""Rules: passages that fall short are drawn again, and what stays is as if drawn at once."""

import numpy as np
import pytest
import torch
from decoders import EXACT
from streams import ENDLESS, make_prompt

from seqgen.decoding import Engine, generate
from seqgen.decoding.guided import Guidance
from seqgen.decoding.rules import Follower, Rule
from seqgen.sampling import Sampling

BAR = 5  # the id that begins a passage
LIVELY = Sampling(temperature=1.5, logit_bias=ENDLESS | {BAR: 3.2})
OPENING = np.array([[7], [8]])  # forced at the beginning of each passage
MIDDLE = np.array([[9]])  # forced after each 11


@pytest.fixture(params=EXACT, ids=lambda build: build.__name__)
def decoder(request, tiny, plain_vocabulary):
    return request.param(tiny(plain_vocabulary))


class Passages(Rule):
    """Ends after some passages; each is as asked as its score says."""

    is_passive = False

    def __init__(self, score, *, n=4, tries=4, gives=False):
        self.score, self.n, self.tries, self.gives = score, n, tries, gives
        self.ids, self.seen = [], []

    def take(self, token):
        self.ids.append(int(token[0]))
        return self.ids.count(BAR) >= self.n

    def given(self):
        if not self.gives:
            return None
        return {BAR: OPENING, 11: MIDDLE}.get(self.ids[-1])

    def review(self):
        if self.ids[-1] != BAR:
            return None
        passage = passages(self.ids)[-1]
        self.seen.append(passage)
        return self.score(passage)

    def go_back(self, n_tokens):
        del self.ids[-n_tokens:]


def passages(ids):
    """Split ids behind each that begins a passage; the rest that follows the last is left out."""
    ends = [k + 1 for k, i in enumerate(ids) if i == BAR]
    return [tuple(ids[a:b]) for a, b in zip([0, *ends], ends, strict=False)]


def short(passage):
    return float(len(passage) <= 6)


def in_parts(passage):
    """Never as asked; odd sums are nearer."""
    return 0.25 + 0.5 * (sum(passage) % 2)


def rows_of(decoder, rules, **options):
    n = len(rules)
    prompts = [make_prompt(decoder.vocabulary, 3, seed=row) for row in range(n)]
    found = {row: [] for row in range(n)}
    options = {"sampling": LIVELY, "max_tokens": 200, "seed": 2} | options
    for step in generate(decoder, prompts, rules=rules, **options):
        for row, token in zip(step.rows, step.tokens, strict=True):
            found[row].append(int(token[0]))
        assert all(row in step.rows for row in step.finished)
    return [found[row] for row in range(n)]


@pytest.mark.parametrize("gives", [False, True])
def test_passages_are_drawn_again_until_they_are_as_asked(decoder, gives):
    rules = [Passages(short, tries=30, gives=gives) for _ in range(3)]
    rows, n_seen = rows_of(decoder, rules), 0
    for rule, row in zip(rules, rows, strict=True):
        assert row == rule.ids  # what was yielded is what the rule knows
        assert [len(p) <= 6 for p in passages(row)] == [True] * 4
        n_seen += len(rule.seen)
        if gives:
            for k, i in enumerate(row[:-1]):
                following = {BAR: [7, 8], 11: [9]}.get(i, [])
                assert row[k + 1 : k + 1 + len(following)] == following
    assert n_seen > 4 * len(rows)
    assert rows == rows_of(decoder, [Passages(short, tries=30, gives=gives) for _ in range(3)])


def test_after_the_last_try_the_best_is_taken(decoder):
    rules = [Passages(in_parts, n=5, tries=3) for _ in range(3)]
    for rule, row in zip(rules, rows_of(decoder, rules), strict=True):
        assert len(rule.seen) == 5 * 3  # none is good enough
        groups = [rule.seen[k : k + 3] for k in range(0, 15, 3)]
        assert passages(row) == [max(group, key=in_parts) for group in groups]
        assert len({passage for group in groups for passage in group}) > 5


def test_one_try_draws_as_without_a_review(decoder):
    for tries in (1, 5):
        always = [Passages(lambda passage: 1.0, tries=tries) for _ in range(2)]
        never = [Passages(lambda passage: 0.0, tries=1) for _ in range(2)]
        assert rows_of(decoder, always) == rows_of(decoder, never)


def test_rows_do_not_depend_on_their_neighbours(decoder):
    rules = [Passages(short), Passages(in_parts, n=6), Passages(short, tries=9)]
    together = rows_of(decoder, rules)
    assert rows_of(decoder, [Passages(short), Passages(in_parts, n=6)]) == together[:2]


@pytest.mark.parametrize("guided", [False, True])
def test_nothing_of_what_was_thrown_away_is_left(decoder, guided):
    """Whenever a passage is settled, the states are those after its tokens as a prompt."""
    vocabulary = decoder.vocabulary
    prompt, free = make_prompt(vocabulary, 3), make_prompt(vocabulary, 5, seed=8)
    guidance = Guidance(free, 2.0) if guided else None
    engine, rule, told = Engine(decoder), Passages(in_parts, gives=True), []
    beginning = engine.begin(prompt, sampling=LIVELY, seed=(1,), guidance=guidance)
    follower = Follower(engine, rule, lambda stream, token: told.append(token), beginning=beginning)
    stream = engine.resume(beginning, stop=follower.stop, on_token=follower.on_token)
    settled = set()
    while engine.step():
        if follower.n_held or not told:
            continue
        settled.add(len(told))
        session = engine.session(stream)
        assert np.array_equal(np.stack(told), np.stack(stream.tokens))
        states = [(prompt, session.state)]
        states += [(free, session.guide.state)] if guided else []
        for begin, state in states:
            tokens = np.concatenate([begin, *(token[None] for token in told)])[:-1]
            lengths = torch.tensor([len(tokens)])
            _, expected = decoder.prefill(torch.from_numpy(tokens)[None], lengths)
            assert int(state.position) == int(expected.position)
            for x, y in zip(state.attention, expected.attention, strict=True):
                torch.testing.assert_close(x, y, atol=2e-5, rtol=2e-5)
    assert len(settled) == 3
    assert passages(rule.ids) == passages([int(token[0]) for token in told])


def test_a_limit_ends_a_passage_that_falls_short(decoder):
    rule = Passages(lambda passage: 0.0, n=99)
    [row] = rows_of(decoder, [rule], max_tokens=25)
    assert len(row) >= 25 - 1
    assert row[:-1] == rule.ids  # which is not asked about the last


def test_what_a_rule_raises_reaches_the_caller(decoder):
    class Wrong(Passages):
        def review(self):
            raise KeyError("a review")

    with pytest.raises(KeyError, match="a review"):
        rows_of(decoder, [Wrong(short)])
