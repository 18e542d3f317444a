"""The verdict tells an untrained model, an over-fitted one and one that has learned apart."""

import pytest

from seqgen.evaluation.verdict import copies_clearly, judge, judge_likelihood, music_sentences

NGRAMS = {"unigram": 3.4, "bigram": 2.4, "5-gram": 1.6}


def value(x, width=0.05):
    return {"value": x, "low": x - width, "high": x + width}


def entry(name, nats, kind, form="windows"):
    of = {"name": name, "kind": kind, "form": form, "targets": 900}
    return {**of, "nats_per_token": value(nats)}


def likelihood(ours, training, *, whole=None, agree=True, beside=()):
    own = [entry("run", ours, "own"), entry("run", whole or ours, "own", "whole pieces")]
    part = {
        "name": "validation",
        "is_split": True,
        "pieces": 42,
        "models": [*own, *(entry(n, x, "n-gram", "whole pieces") for n, x in NGRAMS.items())],
        "best_ngram": {"name": "5-gram", "difference": value(ours - NGRAMS["5-gram"])},
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
        (1.62, 1.60, "fair", "Has learned no more than an n-gram model"),
        (1.1, 1.05, "good", "Has learned"),
        (1.2, 0.9, "fair", "Has learned; relies on its training pieces"),
        (2.9, 0.9, "bad", "Over-fitted"),
        (5.3, 0.2, "bad", "Over-fitted"),  # however bad it is for other pieces
    ],
)
def test_levels(ours, training, tone, title):
    verdict = judge_likelihood(likelihood(ours, training), None)
    assert verdict["tone"] == tone
    assert verdict["title"].startswith(title)


@pytest.mark.parametrize("training", [3.38, 3.45])
def test_what_is_hardly_better_than_a_unigram_is_not_called_over_fitted(training):
    record = likelihood(3.5, training)
    record["sets"][0]["gap"] = value(3.5 - training, width=0.01)
    verdict = judge_likelihood(record, None)
    assert verdict["title"] == "Has not learned"
    assert not any("of what it gains" in x["text"] for x in verdict["sentences"])


def test_grids_are_told_per_cell_and_per_frame():
    record = likelihood(0.4, 0.35)
    of = {"cells": 7200, "frames": 1800}
    of |= {"nats_per_cell": value(0.3949), "nats_per_frame": value(1.5796)}
    record["sets"][0]["grid"] = of
    said = " ".join(x["text"] for x in judge_likelihood(record, None)["sentences"])
    assert "0.3949 nats per cell (7,200 cells), 1.580 nats per frame (1,800 frames)" in said
    record["sets"][0]["grid"] = None
    assert "cell" not in str(judge_likelihood(record, None))


def test_a_gap_that_could_be_chance_is_no_over_fitting():
    record = likelihood(1.2, 0.5)
    record["sets"][0]["gap"] = value(0.7, width=0.8)
    assert judge_likelihood(record, None)["title"] == "Has learned"


def test_other_files_are_not_taken_for_over_fitting():
    record = likelihood(1.2, 1.1)
    other = {**likelihood(2.9, 1.1)["sets"][0], "name": "songs", "is_split": False}
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
    assert verdict["title"] == "Has learned; over-trained"
    assert verdict["tone"] == "fair"


def test_forms_that_disagree_and_long_pieces_that_get_worse_are_told():
    verdict = judge_likelihood(likelihood(1.0, 1.0, whole=1.3, agree=False), None)
    assert verdict["tone"] == "bad"
    assert verdict["title"].startswith("ERROR")
    said = verdict["sentences"]
    assert any(x["tone"] == "bad" and "ERROR" in x["text"] for x in said)
    assert any("0.300 nats per token more than windows" in x["text"] for x in said)


def copy(name, is_copy):
    return {"name": name, "is_copy": is_copy}


def summary(n, copies):
    return {"n": n, "n_copies": copies, "longest": {"median": 10.0, "max": 90.0}}


def generated(n, copies, m=40, others=0):
    """A record of so many generated and held-out pieces, some of each flagged."""
    notes = {
        name: {
            "summary": summary(total, flagged),
            "pieces": [copy(f"{name}{i}", i < flagged) for i in range(total)],
        }
        for name, total, flagged in (("generated", n, copies), ("held_out", m, others))
    }
    return {
        "likelihood": likelihood(1.0, 0.98),
        "copying": {"notes": notes},
        "validity": None,
        "music": None,
    }


@pytest.mark.parametrize(
    ("flags", "tone"),
    [
        ((20, 0), "good"),
        ((20, 1), "fair"),  # one in twenty
        ((20, 3), "bad"),
        ((20, 3, 40, 6), "fair"),  # as many of the real pieces
        ((20, 20, 40, 6), "bad"),
        ((2, 1, 2), "bad"),  # half of them, and no real one
        ((3, 3, 0), "bad"),  # nothing to compare with
    ],
)
def test_flags_are_copies_where_real_pieces_have_clearly_fewer(flags, tone):
    record = generated(*flags)
    verdict = judge(record)
    assert verdict["tone"] == tone
    assert ("copied" in verdict["title"]) == (tone == "bad") == copies_clearly(record)


def test_other_files_never_make_a_model_untrained():
    record = likelihood(1.1, 1.05)
    other = {**likelihood(5.1, 1.05)["sets"][0], "name": "songs", "is_split": False}
    verdict = judge_likelihood({**record, "sets": [other, *record["sets"]]}, None)
    assert verdict["title"] == "Has learned"
    assert verdict["tone"] == "fair"
    (said,) = [x for x in verdict["sentences"] if "does not carry over to songs" in x["text"]]
    assert said["tone"] == "fair"
    blind = likelihood(5.2, 5.2)
    verdict = judge_likelihood({**blind, "sets": [other, *blind["sets"]]}, None)
    assert verdict["title"] == "Untrained"
    assert not any("carry over" in x["text"] for x in verdict["sentences"])
    alone = judge_likelihood({**record, "sets": [other]}, None)
    assert "ntrained" not in alone["title"]
    assert not any("untrained" in x["text"] for x in alone["sentences"])


@pytest.mark.parametrize("change", ["pieces", "interval"])
@pytest.mark.parametrize(
    ("ours", "training", "title"), [(1.1, 1.05, "Has learned"), (2.9, 0.9, "Over-fitted")]
)
def test_few_pieces_are_not_sure(change, ours, training, title):
    record = likelihood(ours, training)
    (part,) = record["sets"]
    if change == "pieces":
        part["pieces"] = 4
    else:
        for found in (part["models"][0]["nats_per_token"], part["gap"]):
            found["low"] = found["high"] = None
    verdict = judge_likelihood(record, None)
    assert verdict["tone"] == "fair"
    assert verdict["title"].startswith(title)
    assert "too few to be sure" in verdict["title"]


def test_other_files_and_training_pieces_that_are_guessed_mean_untrained():
    record = likelihood(5.1, 5.1)
    record["sets"][0] |= {"name": "songs", "is_split": False}
    verdict = judge_likelihood(record, None)
    assert (verdict["tone"], verdict["title"]) == ("bad", "Untrained")
    record["training"] = {"models": [entry("run", 1.0, "own")]}
    record["sets"][0]["gap"] = value(4.1)
    assert judge_likelihood(record, None)["title"].startswith("Does not carry over to songs")


@pytest.mark.parametrize("where", ["windows", "training"])
def test_what_is_no_number_is_bad(where):
    record = likelihood(1.1, 1.05)
    part = record["training"] if where == "training" else record["sets"][0]
    part["models"][0]["nats_per_token"] = value(float("nan"))
    verdict = judge_likelihood(record, None)
    assert verdict["tone"] == "bad"
    assert verdict["title"].startswith("Broken")


def test_beginnings_are_not_set_beside_windows_of_the_whole():
    record = likelihood(1.0, 1.0, whole=1.3)
    record["sets"][0]["models"][1]["targets"] = 500
    said = judge_likelihood(record, None)["sentences"]
    assert not any("beyond that length" in x["text"] for x in said)


def test_files_that_were_learned_from_are_said_to_be_left_out():
    record = likelihood(1.0, 1.0)
    record["sets"][0]["training_files_among_them"] = 3
    said = judge_likelihood(record, None)["sentences"]
    assert any(x["text"].startswith("Left out of validation") for x in said)
    assert any(x["text"].endswith("3 files.") for x in said)


def compared(name, aspect, times, verdict="beyond"):
    of = {"title": name.replace("_", " "), "plain": f"what {name} is", "times": times}
    return {"name": name, "aspect": aspect, "verdict": verdict, **of}


def music(*comparisons, transpose=0, pieces=50):
    of = {"generated_pieces": pieces, "comparisons": list(comparisons)}
    return music_sentences({"subject": {"transpose": transpose}, "music": of})


def test_like_and_unlike_are_told_by_what_a_musician_hears_and_the_furthest_is_named():
    like, unlike = music(
        compared("recurring_bars", "repetition", 8.14),
        compared("pitch_histogram", "pitch range", 2.0),
        compared("bar_similarity_1", "repetition", 1.5),
        compared("duration_histogram", "rhythm", 0.5, "within"),
        compared("range", "pitch range", 0.4, "within"),
        compared("ended_by_itself", None, 9.0),
        compared("polyphony", "texture", None, None),
    )
    assert like.text == "Sounds like your music: rhythm."
    assert unlike.text.startswith("Does not: repetition, pitch range. ")
    assert "recurring bars (what recurring_bars is), 8.1 times as far" in unlike.text
    assert unlike.tone == "fair"
    assert "more than 10 times as far" in music(compared("a", "rhythm", 106.8))[1].text
    few = music(compared("recurring_bars", "repetition", 8.14), pieces=5)[1]
    assert few.tone == "plain"


def test_nothing_is_claimed_of_too_few_pieces_and_praised_only_where_all_is_within():
    assert [x.tone for x in music(compared("polyphony", "texture", None, None))] == ["plain"] * 2
    like, unlike = music(compared("polyphony", "texture", 0.5, "within"))
    assert (like.tone, unlike.tone) == ("good", "good")
    assert music(compared("polyphony", "texture", 2.0))[0].tone == "fair"


@pytest.mark.parametrize(
    ("transpose", "beyond", "said"),
    [(3, "pitch_class_histogram", True), (3, "polyphony", False), (0, "pitch_histogram", False)],
)
def test_keys_that_transposed_training_pieces_explain_are_explained(transpose, beyond, said):
    unlike = music(compared(beyond, "key", 2.0), transpose=transpose)[1]
    assert ("up to 3 semitones" in unlike.text) == said


@pytest.mark.parametrize("gap", [(0.0, 0.1), (0.05, 0.01)])
def test_no_over_fitting_is_not_claimed_where_near_duplicates_are_on_both_sides(gap):
    record = likelihood(1.0, 0.95)
    record["sets"][0]["gap"] = value(*gap)
    words = ("no over-fitting", "little over-fitting")

    def said(near):
        sentences = judge_likelihood(record, None, near=near, of=40)["sentences"]
        return " ".join(x["text"] for x in sentences)

    assert any(word in said(0) for word in words)
    assert not any(word in said(2) for word in words)
    assert "near-duplicates of training pieces among the held-out ones (2 of 40)" in said(2)
    whole = judge(generated(20, 0, 40, 2))["sentences"]
    assert any("the held-out ones (2 of 40)" in x["text"] for x in whole)


def test_what_is_no_music_is_summed_up_by_what_it_has_learned_and_by_copies():
    verdict = judge(generated(20, 0))
    learned, copies = [x["text"] for x in verdict["summary"]]
    assert learned.startswith("On 42 validation pieces it needs 1.000 nats per token")
    assert copies.startswith("Copies: none found")
    assert learned not in [x["text"] for x in verdict["sentences"]]
