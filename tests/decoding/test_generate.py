"""Generation yields what the model says, row by row, and stops where it should."""

import numpy as np
import pytest
import torch
from decoders import PAIRS
from making import random_tokens

from seqgen.decoding import ReferenceDecoder, continuations, generate
from seqgen.decoding.pool import Pool
from seqgen.decoding.rules import Rule
from seqgen.errors import UserError
from seqgen.sampling import Sampling


def prompt(vocabulary, length=1, seed=0):
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    return np.concatenate([bos, random_tokens(vocabulary, 1, length - 1, seed)[0].numpy()])


def rows_of(steps, n_rows):
    rows = [[] for _ in range(n_rows)]
    for step in steps:
        for row, token in zip(step.rows, step.tokens, strict=True):
            rows[row].append(tuple(token))
    return rows


class Scripted(ReferenceDecoder):
    """Says what comes at each position by a table: a prompt BOS, 3 + i takes line i of it."""

    def __init__(self, model, scripts):
        super().__init__(model)
        self.scripts = scripts
        self.batch_sizes = []

    def open(self, n_slots):
        return ScriptedPool(self, n_slots)


class ScriptedPool(Pool):
    def __init__(self, decoder, n_slots):
        self.decoder = decoder
        self.scripts = [None] * n_slots
        self.positions = [0] * n_slots

    def write(self, slots, state):
        for slot in slots.tolist():
            self.scripts[slot], self.positions[slot] = None, 0

    def read(self, slots):
        raise NotImplementedError

    def advance(self, slots, tokens):
        self.decoder.batch_sizes.append(len(slots))
        logits = torch.full((len(slots), self.decoder.vocabulary.sizes[0]), -50.0)
        for row, slot in enumerate(slots.tolist()):
            if self.scripts[slot] is None:
                self.scripts[slot] = self.decoder.scripts[int(tokens[row, 0]) - 3]
            logits[row, self.scripts[slot][self.positions[slot]]] = 50.0
            self.positions[slot] += 1
        return (logits,)


def test_rows_finish_apart_and_others_go_on(tiny, plain_vocabulary):
    decoder = Scripted(tiny(plain_vocabulary), [[5, 6, 2], [7, 2], [8, 9, 10, 11, 2]])
    prompts = [np.array([[1], [3 + i]]) for i in range(3)]
    steps = list(generate(decoder, prompts, sampling=Sampling(temperature=0)))
    assert rows_of(steps, 3) == [
        [(5,), (6,), (2,)],
        [(7,), (2,)],
        [(8,), (9,), (10,), (11,), (2,)],
    ]
    assert [step.finished for step in steps] == [(), (1,), (0,), (), (2,)]
    assert [step.ended for step in steps] == [(), (1,), (0,), (), (2,)]
    assert decoder.batch_sizes == [3, 3, 2, 1, 1]  # a finished row costs nothing


class Ending(Rule):
    """Ends with an id."""

    def __init__(self, last):
        self.last = last

    def take(self, token):
        return token[0] == self.last


def test_the_cap_and_the_stop_rule_end_rows(tiny, plain_vocabulary):
    decoder = Scripted(tiny(plain_vocabulary), [[5, 6, 7, 8], [9] * 4])
    prompts = [np.array([[1], [3 + i]]) for i in range(2)]
    steps = list(
        generate(
            decoder,
            prompts,
            sampling=Sampling(temperature=0),
            max_tokens=4,
            rules=[Ending(7), Ending(0)],
        )
    )
    assert [len(row) for row in rows_of(steps, 2)] == [3, 4]
    assert [step.finished for step in steps] == [(), (), (0,), (1,)]
    assert all(step.ended == () for step in steps)


def test_several_steps_in_a_call_are_told_one_by_one(tiny, plain_vocabulary):
    scripts = [[5, 6, 2, 9, 9, 9], [7, 2, 9, 9, 9, 9], [8, 9, 10, 11, 12, 2]]
    prompts = [np.array([[1], [3 + i]]) for i in range(3)]
    told = []
    for n_steps in (1, 3):
        decoder = Scripted(tiny(plain_vocabulary), scripts)
        decoder.steps_per_call = n_steps
        steps = generate(decoder, prompts, sampling=Sampling(temperature=0))
        told.append([(s.rows, s.tokens.tolist(), s.finished, s.ended) for s in steps])
    assert told[0] == told[1]


def test_continuations_come_whole_in_the_order_in_which_rows_finish(tiny, plain_vocabulary):
    decoder = Scripted(tiny(plain_vocabulary), [[5, 6, 2], [7, 2], [8, 9, 10, 11, 12]])
    prompts = [np.array([[1], [3 + i]]) for i in range(3)]
    steps = generate(decoder, prompts, sampling=Sampling(temperature=0), max_tokens=4)
    told = []
    found = list(continuations(steps, on_step=lambda *now: told.append(now)))
    assert [(c.row, c.tokens[:, 0].tolist(), c.end) for c in found] == [
        (1, [7, 2], "eos"),
        (0, [5, 6, 2], "eos"),
        (2, [8, 9, 10, 11], "limit"),
    ]
    assert [now[:2] for now in told] == [(3, 0), (6, 1), (8, 2), (9, 3)]
    assert [now[2] for now in told] == sorted(now[2] for now in told)
    assert found[-1].tokens_per_second == 9 / found[-1].seconds


def test_an_interruption_yields_what_was_drawn_and_draws_no_more(tiny, plain_vocabulary):
    decoder = Scripted(tiny(plain_vocabulary), [[5, 6, 7, 8], [9, 2]])
    prompts = [np.array([[1], [3 + i]]) for i in range(2)]
    steps = generate(decoder, prompts, sampling=Sampling(temperature=0))
    found = continuations(steps, is_interrupted=lambda: len(decoder.batch_sizes) == 3)
    assert [(c.row, c.tokens[:, 0].tolist(), c.end) for c in found] == [
        (1, [9, 2], "eos"),
        (0, [5, 6, 7], "interrupted"),
    ]
    assert decoder.batch_sizes == [2, 2, 1]


def test_tokens_are_yielded_as_they_are_drawn(tiny, plain_vocabulary):
    decoder = Scripted(tiny(plain_vocabulary), [[5] * 9])
    stream = generate(decoder, [np.array([[1], [3]])])
    assert next(stream).tokens.tolist() == [[5]]
    assert decoder.batch_sizes == [1]


def test_what_a_stop_rule_raises_reaches_the_caller(tiny, plain_vocabulary):
    class Wrong(Rule):
        def take(self, token):
            raise KeyError("a rule")

    decoder = ReferenceDecoder(tiny(plain_vocabulary))
    with pytest.raises(KeyError, match="a rule"):
        next(generate(decoder, [np.array([[1]])], rules=[Wrong()]))


@pytest.mark.parametrize(("attention", "build"), PAIRS)
@pytest.mark.parametrize("name", ["plain_vocabulary", "toy_vocabulary"])
def test_a_rows_tokens_do_not_depend_on_its_neighbours(request, tiny, build, name, attention):
    vocabulary = request.getfixturevalue(name)
    decoder = build(tiny(vocabulary, attention=attention))
    prompts = [prompt(vocabulary, 1 + 4 * i, seed=i) for i in range(4)]
    together = rows_of(generate(decoder, prompts, max_tokens=30, seed=7), 4)
    fewer = rows_of(generate(decoder, prompts[:2], max_tokens=30, seed=7), 2)
    assert together[:2] == fewer
    assert len(set(map(tuple, together))) == 4


@pytest.mark.parametrize(("attention", "build"), PAIRS)
def test_a_prompt_is_continued_as_by_greedy_full_passes(tiny, plain_vocabulary, build, attention):
    model = tiny(plain_vocabulary, attention=attention)
    start = prompt(plain_vocabulary, 12)
    steps = generate(
        build(model), [start], sampling=Sampling(temperature=0, grammar=False), max_tokens=25
    )
    drawn = [int(step.tokens[0, 0]) for step in steps]
    ids = torch.from_numpy(start)[None]
    for token in drawn:
        with torch.no_grad():
            scores = model(ids)[0][0, -1]
        scores[[0, 1]] = -torch.inf
        assert int(scores.argmax()) == token
        ids = torch.cat([ids, torch.tensor([[[token]]])], dim=1)


def test_rows_may_have_settings_of_their_own(tiny, plain_vocabulary):
    decoder = ReferenceDecoder(tiny(plain_vocabulary))
    settings = [Sampling(temperature=0), Sampling(top_k=3), Sampling(repetition_penalty=2.0)]
    prompts = [prompt(plain_vocabulary)] * 3
    mixed = rows_of(generate(decoder, prompts, sampling=settings, max_tokens=12), 3)
    for row, setting in enumerate(settings):
        same = rows_of(generate(decoder, prompts, sampling=setting, max_tokens=12), 3)
        assert mixed[row] == same[row]


def test_equal_prompts_are_prefilled_once_and_drawn_apart(tiny, plain_vocabulary):
    decoder = ReferenceDecoder(tiny(plain_vocabulary))
    sizes = []
    inner = decoder.prefill
    decoder.prefill = lambda t, lengths, state: sizes.append(len(t)) or inner(t, lengths, state)
    rows = rows_of(generate(decoder, [prompt(plain_vocabulary, 4)] * 5, max_tokens=10), 5)
    assert sizes == [1]
    assert len(set(map(tuple, rows))) == 5


def test_learned_positions_bound_the_length(tiny, plain_vocabulary):
    decoder = ReferenceDecoder(tiny(plain_vocabulary, positions="learned", max_positions=20))
    assert list(generate(decoder, [prompt(plain_vocabulary, 5)], max_tokens=16))
    with pytest.raises(UserError, match="exceed the 20 positions"):
        next(generate(decoder, [prompt(plain_vocabulary, 5)], max_tokens=17))


def test_impossible_requests_are_refused(tiny, plain_vocabulary):
    decoder = ReferenceDecoder(tiny(plain_vocabulary))
    for prompts, options, said in (
        ([], {}, "at least one prompt"),
        ([np.zeros((0, 1), dtype=np.int64)], {}, "begin it with BOS"),
        ([prompt(plain_vocabulary)], {"max_tokens": 0}, "max_tokens"),
    ):
        with pytest.raises(UserError, match=said):
            next(generate(decoder, prompts, **options))
