"""Generation yields what the model says, row by row, and stops where it should."""

import numpy as np
import pytest
import torch
from making import random_tokens

from seqgen.decoding import generate
from seqgen.errors import UserError
from seqgen.model.state import State
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


class Scripted:
    """A decoder that says what token comes at each position of each row, by a table."""

    max_positions = None
    device = torch.device("cpu")

    def __init__(self, vocabulary, scripts):
        self.vocabulary = vocabulary
        self._scripts = scripts
        self.batch_sizes = []

    def _logits(self, rows, position):
        logits = torch.full((len(rows), self.vocabulary.sizes[0]), -50.0)
        for i, row in enumerate(rows):
            script = self._scripts[int(row)]
            logits[i, script[min(position, len(script) - 1)]] = 50.0
        return (logits,)

    def prefill(self, tokens, lengths):
        rows = tokens[:, 1, 0] - 3  # the second prompt token names the script
        nothing = (torch.zeros(1, len(rows), 1),)
        position = torch.zeros(len(rows), dtype=torch.long)
        return self._logits(rows, 0), State(nothing, rows.float()[:, None, None], position)

    def step(self, tokens, state):
        self.batch_sizes.append(len(tokens))
        position = int(state.position[0]) + 1
        new = State(state.attention, state.recent, state.position + 1)
        return self._logits(state.recent[:, 0, 0], position), new


def test_rows_finish_apart_and_others_go_on(plain_vocabulary):
    decoder = Scripted(plain_vocabulary, [[5, 6, 2], [7, 2], [8, 9, 10, 11, 2]])
    prompts = [np.array([[1], [3 + i]]) for i in range(3)]
    steps = list(generate(decoder, prompts, sampling=Sampling(temperature=0)))
    assert rows_of(steps, 3) == [
        [(5,), (6,), (2,)],
        [(7,), (2,)],
        [(8,), (9,), (10,), (11,), (2,)],
    ]
    assert [step.finished for step in steps] == [(), (1,), (0,), (), (2,)]
    assert decoder.batch_sizes == [3, 2, 1, 1]  # a finished row costs nothing


def test_the_cap_and_the_stop_rule_end_rows(plain_vocabulary):
    decoder = Scripted(plain_vocabulary, [[5, 6, 7, 8], [9]])
    prompts = [np.array([[1], [3 + i]]) for i in range(2)]
    steps = list(
        generate(
            decoder,
            prompts,
            sampling=Sampling(temperature=0),
            max_tokens=4,
            stop=lambda row, token: token[0] == 7,
        )
    )
    assert [len(row) for row in rows_of(steps, 2)] == [3, 4]
    assert [step.finished for step in steps] == [(), (), (0,), (1,)]
    assert all(step.ended == () for step in steps)


def test_tokens_are_yielded_as_they_are_drawn(tiny, plain_vocabulary):
    stream = generate(tiny(plain_vocabulary).recurrent(), [prompt(plain_vocabulary)])
    first = next(stream)
    assert first.tokens.shape == (1, 1)


@pytest.mark.parametrize("name", ["plain_vocabulary", "toy_vocabulary"])
@pytest.mark.parametrize("attention", ["causal-linear", "full"])
def test_a_rows_tokens_do_not_depend_on_its_neighbours(request, tiny, name, attention):
    vocabulary = request.getfixturevalue(name)
    decoder = tiny(vocabulary, attention=attention).recurrent()
    prompts = [prompt(vocabulary, 1 + 4 * i, seed=i) for i in range(4)]
    together = rows_of(generate(decoder, prompts, max_tokens=30, seed=7), 4)
    fewer = rows_of(generate(decoder, prompts[:2], max_tokens=30, seed=7), 2)
    assert together[:2] == fewer
    assert len(set(map(tuple, together))) == 4


@pytest.mark.parametrize("attention", ["causal-linear", "full"])
def test_a_prompt_is_continued_as_by_greedy_full_passes(tiny, plain_vocabulary, attention):
    model = tiny(plain_vocabulary, attention=attention)
    start = prompt(plain_vocabulary, 12)
    steps = generate(
        model.recurrent(), [start], sampling=Sampling(temperature=0, grammar=False), max_tokens=25
    )
    drawn = [int(step.tokens[0, 0]) for step in steps]
    ids = torch.from_numpy(start)[None]
    for token in drawn:
        with torch.no_grad():
            scores = model(ids)[0][0, -1]
        scores[[0, 1]] = -torch.inf
        assert int(scores.argmax()) == token
        ids = torch.cat([ids, torch.tensor([[[token]]])], dim=1)


def test_equal_prompts_are_prefilled_once_and_drawn_apart(tiny, plain_vocabulary):
    decoder = tiny(plain_vocabulary).recurrent()
    sizes = []
    inner = decoder.prefill
    decoder.prefill = lambda tokens, lengths: sizes.append(len(tokens)) or inner(tokens, lengths)
    rows = rows_of(generate(decoder, [prompt(plain_vocabulary)] * 5, max_tokens=10), 5)
    assert sizes == [1]
    assert len(set(map(tuple, rows))) == 5


def test_prompts_too_many_for_one_pass_are_prefilled_in_groups(tiny, plain_vocabulary, monkeypatch):
    decoder = tiny(plain_vocabulary).recurrent()
    prompts = [prompt(plain_vocabulary, length, seed=length) for length in (9, 2, 17, 5)]
    whole = rows_of(generate(decoder, prompts, max_tokens=8), 4)
    monkeypatch.setattr("seqgen.decoding.generation.PREFILL_TOKENS", 18)
    assert rows_of(generate(decoder, prompts, max_tokens=8), 4) == whole


def test_learned_positions_bound_the_length(tiny, plain_vocabulary):
    decoder = tiny(plain_vocabulary, positions="learned", max_positions=20).recurrent()
    assert list(generate(decoder, [prompt(plain_vocabulary, 5)], max_tokens=16))
    with pytest.raises(UserError, match="exceed the 20 positions"):
        next(generate(decoder, [prompt(plain_vocabulary, 5)], max_tokens=17))


def test_impossible_requests_are_refused(tiny, plain_vocabulary):
    decoder = tiny(plain_vocabulary).recurrent()
    for prompts, options, said in (
        ([], {}, "at least one prompt"),
        ([np.zeros((0, 1), dtype=np.int64)], {}, "begin it with BOS"),
        ([prompt(plain_vocabulary)], {"max_tokens": 0}, "max_tokens"),
    ):
        with pytest.raises(UserError, match=said):
            next(generate(decoder, prompts, **options))
