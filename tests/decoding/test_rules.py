"""Rules: passages that fall short are drawn again, and what stays is as if drawn at once."""

import numpy as np
import pytest
import torch
from decoders import EXACT
from streams import ENDLESS, make_prompt

from seqgen.decoding import Engine, ReferenceDecoder, generate
from seqgen.decoding.guided import Guidance
from seqgen.decoding.rules import Follower, Rule
from seqgen.sampling import Sampling

BAR = 5  # the id that begins a passage
LIVELY = Sampling(temperature=1.5, logit_bias=ENDLESS | {BAR: 3.2})
OPENING = np.array([[7], [8]])  # forced at the beginning of each passage
MIDDLE = np.array([[9]])  # forced after each 11


@pytest.fixture(params=EXACT[::2], ids=lambda build: build.__name__)
def decoder(request, tiny, plain_vocabulary):
    return request.param(tiny(plain_vocabulary))


class Passages(Rule):
    """Ends after some passages; each is as asked as its score says."""

    is_passive = False

    def __init__(self, score, *, n=4, tries=4, gives=False, second=None):
        self.score, self.n, self.tries, self.gives, self.second = score, n, tries, gives, second
        self.ids, self.seen = [], []

    def take(self, token):
        self.ids.append(int(token[0]))
        return self.ids.count(BAR) >= self.n

    def given(self):
        if not self.gives:
            return None
        return {BAR: OPENING, 11: MIDDLE}.get(self.ids[-1])

    def given_second(self):
        return self.second

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


def heard(ids, second):
    """What the second stream takes where the first takes ids [T, 1] with what is forced."""
    found, k = [], 0
    while k < len(ids):
        forced = {BAR: OPENING, 11: MIDDLE}.get(int(ids[k, 0]), OPENING[:0])
        found += [ids[k : k + 1], forced if second is None or not len(forced) else second]
        k += 1 + len(forced)
    return np.concatenate(found)


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
        seen = iter(rule.seen)
        for taken in passages(row):
            tries = [next(seen) for _ in range(3)]  # none is good enough
            best = max(tries, key=in_parts)
            assert taken == best
            if best is not tries[-1]:
                assert next(seen) == best  # drawn once more
        assert list(seen) == []
        assert len(set(rule.seen)) > 5


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
@pytest.mark.parametrize("second", [None, OPENING[:1]])
def test_nothing_of_what_was_thrown_away_is_left(decoder, guided, second):
    """Whenever a passage is settled, the states are those after its tokens as a prompt."""
    vocabulary = decoder.vocabulary
    prompt, free = make_prompt(vocabulary, 3), make_prompt(vocabulary, 5, seed=8)
    guidance = Guidance(free, 2.0) if guided else None
    engine, rule, told = Engine(decoder), Passages(in_parts, gives=True, second=second), []
    follower = Follower(engine, rule, lambda stream, token: told.append(token))
    stream = engine.submit(prompt, sampling=LIVELY, guidance=guidance, **follower.options)
    settled = set()
    while engine.step():
        if follower.n_held or not told:
            continue
        settled.add(len(told))
        session = engine.session(stream)
        assert np.array_equal(np.stack(told), np.stack(stream.tokens))
        whole = np.stack(told)
        states = [(np.concatenate([prompt, whole]), session.state)]
        if guided:
            states.append((np.concatenate([free, heard(whole, second)]), session.guide.state))
        for tokens, state in states:
            tokens = tokens[:-1]
            lengths = torch.tensor([len(tokens)])
            _, expected = decoder.prefill(torch.from_numpy(tokens)[None], lengths)
            assert int(state.position) == int(expected.position)
            for x, y in zip(state.attention, expected.attention, strict=True):
                torch.testing.assert_close(x, y, atol=2e-5, rtol=2e-5)
    assert len(settled) == 3
    assert passages(rule.ids) == passages([int(token[0]) for token in told])


@pytest.mark.parametrize("tries", [1, 4])
def test_the_limit_counts_what_is_drawn_again_once(decoder, tries):
    rules = [Passages(in_parts, n=99, tries=tries) for _ in range(3)]
    for rule, row in zip(rules, rows_of(decoder, rules, max_tokens=25), strict=True):
        assert len(row) == 25
        assert row[:-1] == rule.ids  # which is not asked about the last


def test_positions_that_are_learned_suffice_for_what_stays(tiny, plain_vocabulary):
    model = tiny(plain_vocabulary, positions="learned", max_positions=40)
    rows = rows_of(
        ReferenceDecoder(model), [Passages(in_parts, n=99) for _ in range(2)], max_tokens=38
    )
    assert [len(row) for row in rows] == [38, 38]


def test_whoever_reads_can_end_it_while_nothing_is_settled(decoder):
    never = Passages(lambda passage: 0.0, tries=10**6)
    steps = generate(decoder, [make_prompt(decoder.vocabulary)], rules=[never], sampling=LIVELY)
    for step in (next(steps) for _ in range(50)):
        assert step.rows == step.finished == ()
        assert step.tokens.shape == (0, 1)


def test_a_cancelled_stream_is_told_nothing_more(decoder):
    engine, told = Engine(decoder), []

    def tell(stream, token):
        told.append(token)
        engine.cancel(stream)

    follower = Follower(engine, Passages(lambda passage: float(len(passage) > 1)), tell)
    prompt = make_prompt(decoder.vocabulary)
    stream = engine.submit(prompt, sampling=LIVELY, **follower.options)
    engine.run()
    assert (stream.finished, len(told)) == ("cancelled", 1)


def test_what_a_rule_raises_reaches_the_caller(decoder):
    class Wrong(Passages):
        def review(self):
            raise KeyError("a review")

    with pytest.raises(KeyError, match="a review"):
        rows_of(decoder, [Wrong(short)])
