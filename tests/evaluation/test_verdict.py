"""The verdict tells an untrained model, an over-fitted one and one that has learned apart."""

import pytest

from seqgen.evaluation.verdict import judge, judge_likelihood

COUNTS = {"unigram": 3.4, "bigram": 2.4, "5-gram": 1.6}


def value(x, width=0.05):
    return {"value": x, "low": x - width, "high": x + width}


def entry(name, nats, kind, form="windows"):
    return {"name": name, "kind": kind, "form": form, "nats_per_token": value(nats)}


def likelihood(ours, training, *, whole=None, agree=True, beside=()):
    own = [entry("run", ours, "own"), entry("run", whole or ours, "own", "whole pieces")]
    part = {
        "label": "validation",
        "is_split": True,
        "pieces": 42,
        "models": [*own, *(entry(n, x, "counts", "whole pieces") for n, x in COUNTS.items())],
        "best_count": {"name": "5-gram", "difference": value(ours - COUNTS["5-gram"])},
        "gap": value(ours - training),
        "forms": {"agree": agree, "largest_difference_nats": 0.5},
        "beside": list(beside),
    }
    return {
        "step": 100,
        "chance_nats_per_token": 5.2,
        "training": {"models": [entry("run", training, "own")]},
        "sets": [part],
    }


@pytest.mark.parametrize(
    ("ours", "training", "tone", "title"),
    [
        (5.2, 5.2, "bad", "Untrained"),
        (3.5, 3.5, "bad", "Has not learned"),
        (2.6, 2.6, "bad", "Has not learned"),
        (2.0, 2.0, "fair", "Has learned little"),
        (1.62, 1.60, "fair", "Has learned what counting gives"),
        (1.1, 1.05, "good", "Has learned"),
        (1.2, 0.9, "fair", "Has learned; leans on its training pieces"),
        (2.9, 0.9, "bad", "Over-fitted"),
        (5.3, 0.2, "bad", "Over-fitted"),  # however bad it is for other pieces
    ],
)
def test_levels(ours, training, tone, title):
    verdict = judge_likelihood(likelihood(ours, training), None)
    assert verdict["tone"] == tone
    assert verdict["title"].startswith(title)


def test_a_gap_that_could_be_chance_is_no_over_fitting():
    record = likelihood(1.2, 0.5)
    record["sets"][0]["gap"] = value(0.7, width=0.8)
    assert judge_likelihood(record, None)["title"] == "Has learned"


def test_other_files_are_not_taken_for_over_fitting():
    record = likelihood(1.2, 1.1)
    other = {**likelihood(2.9, 1.1)["sets"][0], "label": "songs", "is_split": False}
    alone = judge_likelihood({**record, "sets": [other]}, None)
    assert alone["tone"] != "good"
    assert not alone["title"].startswith("Over-fitted")
    assert any("another kind of music" in x["text"] for x in alone["sentences"])
    both = judge_likelihood({**record, "sets": [other, *record["sets"]]}, None)
    assert not any("over-fitted" in x["text"] for x in both["sentences"])


def test_a_validation_loss_that_rose_is_told_with_its_steps():
    curve = {"validation": [[100, 1.1], [200, 1.0], [300, 1.4]]}
    verdict = judge_likelihood(likelihood(1.0, 0.98), curve)
    (said,) = [x["text"] for x in verdict["sentences"] if "too long" in x["text"]]
    assert "step 200" in said
    assert "0.400" in said


def test_forms_that_disagree_and_long_pieces_that_get_worse_are_told():
    said = judge_likelihood(likelihood(1.0, 1.0, whole=1.3, agree=False), None)["sentences"]
    assert any(x["tone"] == "bad" and "ERROR" in x["text"] for x in said)
    assert any("0.300 nats per token more than windows" in x["text"] for x in said)


def copy(name, is_copy):
    return {"name": name, "is_copy": is_copy}


def summary(n, copies):
    return {"n": n, "n_copies": copies, "longest": {"median": 10.0, "max": 90.0}}


@pytest.mark.parametrize(("copies", "tone"), [(0, "good"), (1, "bad")])
def test_copies_make_the_verdict_bad(copies, tone):
    pieces = [copy("a", False), copy("b", bool(copies))]
    notes = {
        "generated": {"summary": summary(2, copies), "pieces": pieces},
        "held_out": {"summary": summary(2, 0), "pieces": []},
    }
    verdict = judge(
        {
            "likelihood": likelihood(1.0, 0.98),
            "copying": {"notes": notes},
            "validity": {"left_out": "text"},
            "music": {"left_out": "text"},
        }
    )
    assert verdict["tone"] == tone
    assert ("1 of 2 generated pieces is copied" in verdict["title"]) == bool(copies)
