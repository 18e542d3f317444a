"""What the figures mean, in plain sentences; every threshold that they rest on stands here.

A model is set beside what asks for no learning: all tokens equally likely, how often each is (a
unigram), which follows which (a bigram), and the best count model. What it gains on the pieces it
was trained on but not on others is over-fitting.
"""

from dataclasses import asdict
from math import exp, isfinite

from seqgen.evaluation.findings import (
    BAD,
    FAIR,
    GOOD,
    PLAIN,
    Sentence,
    copying_findings,
    music_findings,
    title_of_copies,
    validity_findings,
)

UNTRAINED_SHARE = 0.9  # of the nats of blind guessing: a model above it has learned next to nothing
# Share of what is gained over a unigram on training pieces that is not gained on held-out ones.
OVERFITTED, LEANING = 0.25, 0.10
RISE = 0.05  # nats by which a validation loss must rise after its best to be called a rise
DRIFT = 0.05  # nats by which whole pieces are worse than windows before it is said
FEWEST_SURE = 5  # held-out pieces, below which an interval over pieces means little
UNSURE = "too few to be sure"


def judge(record: dict) -> dict:
    """Return a title, its tone, and sentences, from the parts of a record."""
    verdict = judge_likelihood(record["likelihood"], record.get("learning_curve"))
    findings = [*copying_findings(record), *validity_findings(record), *music_findings(record)]
    sentences = [*verdict["sentences"], *(asdict(finding) for finding in findings)]
    tone = _worst([verdict["tone"], *(sentence["tone"] for sentence in sentences)])
    title = verdict["title"] + title_of_copies(record)
    return {"tone": tone, "title": title, "sentences": sentences}


def judge_likelihood(likelihood: dict, curve: dict | None) -> dict:
    """The verdict that rests on likelihood and learning curve alone.

    It is about the run's own held-out pieces where there are any: how other files fare is said
    beside it, and makes no model untrained.
    """
    parts = likelihood["sets"]
    if not parts:
        return _verdict(FAIR, "Cannot be judged: no piece was held out", [])
    broken = _broken(likelihood)
    if broken:
        return _verdict(BAD, "Broken: it gives no finite likelihood", [broken])
    own = next((part for part in parts if part["is_split"]), None)
    level_tone, level_title, level = _level(own or parts[0], likelihood)
    fit_tone, fit_title, fit = _fit(own or parts[0], likelihood)
    sentences = [level, *fit, *_course(curve, likelihood)]
    for part in parts:
        if own is not None and not part["is_split"]:
            has_learned = not level_title.startswith(("Untrained", "Has not learned"))
            sentences.append(_carried_over(part, likelihood, has_learned=has_learned))
        sentences += [*_left_out(part), *_beside(part), *_length(part), *_forms(part)]
    over_fitted = fit_title.startswith("Over-fitted")
    titles = [fit_title] if over_fitted else [level_title, fit_title]
    if over_trained(curve) and not over_fitted:
        titles.append("over-trained")
    if any(_forms(part) for part in parts):
        titles.insert(0, "ERROR: its two forms disagree")
    tone = _worst([level_tone, fit_tone, *(sentence.tone for sentence in sentences)])
    return _verdict(tone, "; ".join(title for title in titles if title), sentences)


def _broken(likelihood: dict) -> Sentence | None:
    """Say where the model's own nats are not numbers: no comparison holds for these."""
    parts = [*likelihood["sets"], *filter(None, [likelihood["training"]])]
    for part in parts:
        entries = [entry for entry in part["models"] if entry["kind"] == "own"]
        if not all(entry["nats_per_token"] and isfinite(nats(entry)) for entry in entries):
            text = f"ERROR: the likelihood of {part.get('label', 'training')} pieces is not a"
            return Sentence(BAD, f"{text} finite number: the weights are damaged or have diverged.")
    return None


def _level(part: dict, likelihood: dict) -> tuple[str, str, Sentence]:
    """How much better than no learning at all; other files than the run's own are never bad."""
    tone, title, sentence = _level_of_any(part, likelihood)
    if not part["is_split"] and title == "Untrained" and _is_blind_at_home(likelihood):
        text = f"{sentence.text[:-1]}, and those it was trained on are no better: it is untrained."
        return BAD, title, Sentence(BAD, text)
    if not part["is_split"] and (tone == BAD or title == "Has learned little"):
        title = f"Does not carry over to {part['label']}"
        text = f"What it has learned does not carry over to {part['label']}. {sentence.text}"
        return FAIR, title, Sentence(FAIR, text)
    is_sure = _is_sure(part) or title == "Untrained"  # no choice of pieces makes it blind
    if not is_sure and tone in (GOOD, BAD):
        return FAIR, f"{title} ({UNSURE})", Sentence(FAIR, sentence.text)
    return tone, title, sentence


def _is_blind_at_home(likelihood: dict) -> bool:
    """Whether it guesses its own training pieces too."""
    training = likelihood["training"]
    chance = likelihood["chance_nats_per_token"]
    return training is not None and own_nats(training) >= UNTRAINED_SHARE * chance


def _carried_over(part: dict, likelihood: dict, *, has_learned: bool) -> Sentence:
    """How other files fare; what was never learned cannot be carried over."""
    if has_learned:
        return _level(part, likelihood)[2]
    tone, _, sentence = _level_of_any(part, likelihood)
    return Sentence(FAIR if tone == BAD else tone, sentence.text)


def _level_of_any(part: dict, likelihood: dict) -> tuple[str, str, Sentence]:
    """Its tone, title and sentence, whatever the pieces are."""
    ours, chance = own_nats(part), likelihood["chance_nats_per_token"]
    counts = {entry["name"]: nats(entry) for entry in part["models"] if entry["kind"] == "counts"}
    where = f"On {part['pieces']} {part['label']} piece{'' if part['pieces'] == 1 else 's'}"
    where += f"{'' if _is_sure(part) else f', {UNSURE},'} it needs {ours:.3f} nats per token"
    if ours >= UNTRAINED_SHARE * chance:
        guess = f"guessing blindly among {exp(chance):,.0f} equally likely ones needs {chance:.3f}"
        said = ": it is untrained" if part["is_split"] else ""
        return BAD, "Untrained", Sentence(BAD, f"{where}; {guess}{said}.")
    if not counts:
        text = f"{where}; guessing blindly needs {chance:.3f}. There are no count models beside it"
        reason = likelihood.get("no_count_models", "")
        if not part["is_split"]:  # what it was trained on is gone: how much carries over is open
            return PLAIN, "Has learned something", Sentence(PLAIN, f"{text}: {reason}.")
        return FAIR, "Has learned something", Sentence(FAIR, f"{text}: {reason}.")
    if ours >= counts["unigram"]:
        text = f"{where}, no better than a unigram ({counts['unigram']:.3f})"
        return BAD, "Has not learned", Sentence(BAD, f"{text}: not even which tokens are frequent.")
    if ours >= counts["bigram"]:
        text = f"{where}, worse than a bigram ({counts['bigram']:.3f})"
        return BAD, "Has not learned", Sentence(BAD, f"{text}: not even which token follows which.")
    return _beside_counting(part, where, counts)


def _beside_counting(part: dict, where: str, counts: dict[str, float]) -> tuple[str, str, Sentence]:
    """Its level where it is better than a bigram: beside the best count model."""
    best = part["best_count"]
    difference = best["difference"]
    than = f"the best count model, a {best['name']} ({counts[best['name']]:.3f})"
    by = f"{abs(difference['value']):.3f} nats{_interval(difference)}"
    if (difference["low"] if difference["low"] is not None else difference["value"]) > 0:
        text = f"{where}, {by} more than {than}: counting short contexts does better."
        return FAIR, "Has learned little", Sentence(FAIR, text)
    if (difference["high"] if difference["high"] is not None else difference["value"]) >= 0:
        text = f"{where}, about as many as {than}; the difference of {by} could be chance."
        return FAIR, "Has learned what counting gives", Sentence(FAIR, text)
    text = f"{where}, {by} fewer than {than}: it has learned more than short contexts tell."
    return GOOD, "Has learned", Sentence(GOOD, text)


def _fit(part: dict, likelihood: dict) -> tuple[str, str, list[Sentence]]:
    """Whether what it has learned holds for other pieces too."""
    gap, training = part["gap"], likelihood["training"]
    if gap is None:
        reason = likelihood.get("no_training", "there are no training pieces to compare with")
        return PLAIN, "", [Sentence(PLAIN, f"Over-fitting cannot be told: {reason}.")]
    base = next((nats(e) for e in part["models"] if e["name"] == "unigram"), None)
    base = likelihood["chance_nats_per_token"] if base is None else base
    gained = base - own_nats(training)
    share = gap["value"] / gained if gained > 0 else 0.0
    size = f"{gap['value']:.3f} nats per token{_interval(gap)}"
    sure = gap["low"] is None or gap["low"] > 0
    is_few = not _is_sure(part) or gap["low"] is None
    text = f"Training pieces are predicted {size} better than {part['label']} ones"
    of = f"{share:.0%} of what it gains there over a unigram"
    if not part["is_split"] and sure and share >= OVERFITTED:
        text = f"{text}, {of}: over-fitted, or the other files are another kind of music."
        return FAIR, "these files are not what it was trained on", [Sentence(FAIR, text)]
    if sure and share >= OVERFITTED:
        title = "Over-fitted: it predicts its training pieces far better than others"
        if is_few:
            few = f"{text}, {of}: over-fitted, if these pieces, {UNSURE}, are like others."
            return FAIR, f"{title} ({UNSURE})", [Sentence(FAIR, few)]
        return BAD, title, [Sentence(BAD, f"{text}, {of}: over-fitted.")]
    if sure and share >= LEANING:
        text = f"{text}, {of}: it leans on its training pieces."
        return FAIR, "leans on its training pieces", [Sentence(FAIR, text)]
    if gap["value"] <= 0 or not sure:
        text = f"Training pieces are predicted no better than {part['label']} ones ({size})"
        said = f"{UNSURE} that there is no over-fitting" if is_few else "no over-fitting"
        return PLAIN, "", [Sentence(PLAIN, f"{text}: {said}.")]
    if is_few:
        return PLAIN, "", [Sentence(PLAIN, f"{text}, {of}; the pieces are {UNSURE}.")]
    return GOOD, "", [Sentence(GOOD, f"{text}, {of}: little over-fitting.")]


def over_trained(curve: dict | None) -> bool:
    """Whether the validation loss rose after its best."""
    validation = (curve or {}).get("validation", [])
    losses = [loss for _, loss in validation]
    return len(losses) > 1 and losses[-1] - min(losses) >= RISE


def _course(curve: dict | None, likelihood: dict) -> list[Sentence]:
    """Whether training went on after the best validation."""
    validation = (curve or {}).get("validation", [])
    if len(validation) < 2:
        return []
    best, last = min(validation, key=lambda point: point[1]), validation[-1]
    rise = last[1] - best[1]
    if over_trained(curve):
        text = (
            f"Training went on too long: the validation loss was lowest at step {best[0]:,} "
            f"({best[1]:.3f}) and {rise:.3f} nats higher at step {last[0]:,}. The model kept, and "
            f"evaluated here, is that of step {likelihood['step']:,}."
        )
        return [Sentence(FAIR, text)]
    if best[0] == last[0]:
        text = f"The validation loss was still at its lowest at the last step, {last[0]:,}"
        return [Sentence(PLAIN, f"{text}: longer training may help.")]
    return []


def _beside(part: dict) -> list[Sentence]:
    sentences = []
    for rival in part["beside"]:
        d = rival["difference"]
        sure = d["low"] is not None and (d["low"] > 0 or d["high"] < 0)
        word = "fewer" if d["value"] < 0 else "more"
        size = f"{abs(d['value']):.3f} nats per token{_interval(d)} {word} than"
        text = f"On {part['label']} pieces it needs {size} {rival['name']} ({rival['attention']})"
        sentences.append(Sentence(PLAIN, text + ("." if sure else "; that could be chance.")))
    return sentences


def _length(part: dict) -> list[Sentence]:
    whole = next(e for e in part["models"] if e["kind"] == "own" and e["form"] == "whole pieces")
    windows = next(e for e in part["models"] if e["kind"] == "own" and e["form"] == "windows")
    drift = nats(whole) - nats(windows)
    # Learned positions end: then whole pieces are only their beginnings, and other targets.
    if whole["targets"] != windows["targets"] or drift < DRIFT:
        return []
    text = f"Whole {part['label']} pieces cost {drift:.3f} nats per token more than windows of the "
    return [Sentence(FAIR, f"{text}training length: it gets worse beyond that length.")]


def _forms(part: dict) -> list[Sentence]:
    forms = part["forms"]
    if forms is None or forms["agree"]:
        return []
    text = f"ERROR: parallel and recurrent form differ by {forms['largest_difference_nats']:.3g} "
    return [Sentence(BAD, f"{text}nats for one token of the {part['label']} pieces.")]


def _left_out(part: dict) -> list[Sentence]:
    """Say how many files were not counted because the model has learned from them."""
    n = part.get("training_files_among_them", 0)
    if not n:
        return []
    text = f"{n} file{' was' if n == 1 else 's were'} left out of {part['label']}: the model was"
    return [Sentence(PLAIN, f"{text} trained on {'it' if n == 1 else 'them'}.")]


def _is_sure(part: dict) -> bool:
    """Whether there are pieces enough for an interval over pieces to mean something."""
    own = next(e for e in part["models"] if e["kind"] == "own" and e["form"] == "windows")
    return part["pieces"] >= FEWEST_SURE and own["nats_per_token"]["low"] is not None


def own_nats(part: dict) -> float:
    """Nats per token of the evaluated model in windows of its training length."""
    own = (e for e in part["models"] if e["kind"] == "own" and e["form"] == "windows")
    return nats(next(own))


def nats(entry: dict) -> float:
    """Nats per token of an entry."""
    return entry["nats_per_token"]["value"]


def _interval(value: dict) -> str:
    if value["low"] is None:
        return ""
    ends = sorted(abs(end) for end in (value["low"], value["high"]))
    if value["low"] < 0 < value["high"]:
        return f" ({value['low']:+.3f} to {value['high']:+.3f})"
    return f" ({ends[0]:.3f} to {ends[1]:.3f})"


def _worst(tones: list[str]) -> str:
    return next((tone for tone in (BAD, FAIR, GOOD) if tone in tones), FAIR)


def _verdict(tone: str, title: str, sentences: list[Sentence]) -> dict:
    return {"tone": tone, "title": title, "sentences": [asdict(x) for x in sentences]}
