"""The script of synthetic tasks asks for what can be known, and for nothing else."""

import runpy
from pathlib import Path

import numpy as np
import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "synthetic.py"))
Copy, Recall, Plan, BOS, EOS, MARK, FIRST = (
    SCRIPT[x] for x in ("Copy", "Recall", "Plan", "BOS", "EOS", "MARK", "FIRST")
)
TASKS = [Copy(32), Recall(48, n_pairs=8, n_keys=16, n_values=16)]


def batch(task, k=0, seed=0):
    return SCRIPT["SyntheticBatches"](task, seed=seed, batch_size=20).batch(k)


@pytest.mark.parametrize("task", TASKS)
def test_batches_depend_on_the_seed_and_their_number_alone(task):
    first, again = batch(task, 1), batch(task, 1)
    assert np.array_equal(first.tokens, again.tokens)
    assert np.array_equal(first.targets, again.targets)
    for other in (batch(task, 2), batch(task, 1, seed=1)):
        assert not np.array_equal(first.tokens[:, :20], other.tokens[:, :20])
    assert first.tokens.shape[1] <= task.length
    assert first.tokens.max() < task.vocabulary.sizes[0]


def test_the_copy_and_its_end_are_asked_for():
    copied = batch(TASKS[0])
    lengths = set()
    for prompt, answer in zip(*SCRIPT["questions"](copied), strict=True):
        prompt, answer = prompt[:, 0].tolist(), answer[:, 0].tolist()
        assert (prompt[0], prompt[-1], answer[-1]) == (BOS, MARK, EOS)
        assert prompt[1:-1] == answer[:-1]
        assert min(prompt[1:-1]) >= FIRST
        lengths.add(len(answer) - 1)
    assert min(lengths) >= 8
    assert max(lengths) <= 14
    assert len(lengths) > 3


def test_each_key_is_asked_for_once_and_has_one_value():
    task = TASKS[1]
    recalled = batch(task)
    prompts, answers = SCRIPT["questions"](recalled)
    assert len(answers) == 20 * task.n_pairs
    asked = []
    for prompt, answer in zip(prompts, answers, strict=True):
        (value,), key = answer[:, 0].tolist(), prompt[-1, 0]
        place = 1 + 2 * prompt[1 : 1 + 2 * task.n_pairs : 2, 0].tolist().index(key)
        assert prompt[place + 1, 0] == value
        asked.append(key)
    keys = recalled.tokens[:, 1 : 1 + 2 * task.n_pairs : 2, 0]
    assert np.array_equal(np.sort(np.reshape(asked, keys.shape)), np.sort(keys))


def test_variants_are_trained_tested_and_timed_in_both_forms():
    task = Recall(24, n_pairs=4, n_keys=4, n_values=4)
    plan = Plan(task, 16, 1, 2, batch_size=4, steps=3, lower_rate_after=2, test_rows=3)
    chosen = {name: SCRIPT["VARIANTS"][name] for name in ("softmax", "linear-conv")}
    results = SCRIPT["compare"](plan, chosen, device="cpu")
    assert list(results) == list(chosen)
    for result in results.values():
        assert result.steps == [1, 2, 3]
        assert np.isfinite(result.losses).all()
        # Answers are single tokens here, so that both forms must agree on how many are right.
        assert result.answers == pytest.approx(result.token_accuracy)
        assert result.n_answers == 12
        assert result.step_seconds > 0
    SCRIPT["draw"](results, title="recall", seconds="seconds").draw_without_rendering()
