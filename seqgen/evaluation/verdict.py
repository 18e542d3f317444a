"""What the figures mean, in plain sentences: tables of rules, and all their thresholds.

A model is compared with what needs no learning: all tokens equally likely, how often each is (a
unigram), which follows which (a bigram), and the best n-gram model. What it gains on the pieces it
was trained on but not on others is over-fitting.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, isfinite
from types import SimpleNamespace as Facts

from scipy.stats import fisher_exact

from seqgen.evaluation.music.definitions import ASPECTS
from seqgen.files import counted

UNTRAINED_SHARE = 0.9  # of the nats of blind guessing: a model above it has learned next to nothing
# Share of what is gained over a unigram on training pieces that is not gained on held-out ones.
OVERFITTED, RELYING = 0.25, 0.10
LEAST_GAIN = 0.05  # nats over a unigram on training pieces: with less, there is nothing to over-fit
RISE = 0.05  # nats by which a validation loss must rise after its best to be called a rise
DRIFT = 0.05  # nats by which whole pieces are worse than windows before it is said
FEWEST_SURE = 5  # held-out pieces, below which an interval over pieces means little
UNSURE = "too few to be sure"
OVER_TITLE = "Over-fitted: it predicts its training pieces far better than others"
FEWEST = 10  # generated pieces, below which measures say little
MOST_TIMES = 10  # times as far as real pieces are from each other; what is more is not counted
MANY = 3  # more than one in so many measures beyond real pieces is a fault
# Flagged generated pieces are a fault where as many among them would be so improbable by chance...
IMPROBABLE = 0.05
MANY_MORE = 0.5  # ... or where their share is above that of held-out pieces by so much.
IN_A_KEY = ("pitch_histogram", "pitch_class_histogram")  # transposed training pieces change them
GOOD, FAIR, BAD, PLAIN = "good", "fair", "bad", "plain"


@dataclass(frozen=True)
class Sentence:
    """One finding: good, fair, bad, or a plain fact; what it adds to the title of the verdict."""

    tone: str
    text: str
    title: str = ""


# A sentence with facts in braces: its tone, when it is said, what it adds to the title, its text.
Rule = tuple[str, Callable[[Facts], bool], str, str]


def _otherwise(_: Facts) -> bool:
    return True


def _blind(chance: float) -> float:
    """Nats from which on a model is no better than guessing."""
    return UNTRAINED_SHARE * chance


NEEDS = "On {of_pieces}{few} it needs {ours:.3f} nats per token"
BETTER = "Training pieces are predicted {size} better than {name} ones"
SHARE = BETTER + ", {share:.0%} of what it gains there over a unigram"
SAME = "Training pieces are not predicted better than {name} ones by more than chance; the "
SAME += "difference is {size}"
NEAR = (
    ", but there are near-duplicates of training pieces among the held-out ones ({n_near} of "
    "{n_held_out}): over-fitting cannot be ruled out."
)

# The first rule of a table that holds is said.
# fmt: off
LEVEL: tuple[Rule, ...] = (  # how much better than no learning at all
    (BAD, lambda f: f.ours >= _blind(f.chance), "Untrained",
     NEEDS + "; guessing blindly among {guess:,.0f} equally likely ones needs {chance:.3f}{so}."),
    (PLAIN, lambda f: f.best is None, "Has learned something",
     NEEDS + "; guessing blindly needs {chance:.3f}. There are no n-gram models to compare with: "
     "{no_ngrams}."),
    (BAD, lambda f: f.ours >= f.unigram, "Has not learned",
     NEEDS + ", no better than a unigram ({unigram:.3f}): not even which tokens are frequent."),
    (BAD, lambda f: f.ours >= f.bigram, "Has not learned",
     NEEDS + ", no better than a bigram ({bigram:.3f}): not even which token follows which."),
    (FAIR, lambda f: f.low > 0, "Has learned little",
     NEEDS + ", {by} more than {best}: counting short contexts predicts better."),
    (FAIR, lambda f: f.high >= 0, "Has learned no more than an n-gram model",
     NEEDS + ", about as many as {best}; the difference of {by} could be chance."),
    (GOOD, _otherwise, "Has learned",
     NEEDS + ", {by} fewer than {best}: it has learned more than short contexts tell."),
)
FIT: tuple[Rule, ...] = (  # whether what it has learned holds for other pieces too
    (PLAIN, lambda f: f.gap is None, "",
     "Over-fitting cannot be judged: there are no training pieces to compare with."),
    (PLAIN, lambda f: f.gained < LEAST_GAIN, "",
     "It predicts its training pieces hardly better than a unigram: too little for over-fitting."),
    (FAIR, lambda f: f.is_over and not f.is_split, "these files are not what it was trained on",
     SHARE + ": over-fitted, or the other files are another kind of music."),
    (FAIR, lambda f: f.is_over and f.is_few, f"{OVER_TITLE} ({UNSURE})",
     f"{SHARE}: over-fitted, if these pieces, {UNSURE}, are like others."),
    (BAD, lambda f: f.is_over, OVER_TITLE, SHARE + ": over-fitted."),
    (FAIR, lambda f: f.is_above and f.share >= RELYING, "relies on its training pieces",
     SHARE + ": it relies on its training pieces."),
    (PLAIN, lambda f: f.n_near and f.is_above, "", BETTER + NEAR),
    (PLAIN, lambda f: f.n_near, "", SAME + NEAR),
    (PLAIN, lambda f: not f.is_above and f.is_few, "",
     f"{SAME}: {UNSURE} that there is no over-fitting."),
    (PLAIN, lambda f: not f.is_above, "", SAME + ": no over-fitting."),
    (PLAIN, lambda f: f.is_few, "", f"{SHARE}; the pieces are {UNSURE}."),
    (GOOD, _otherwise, "", SHARE + ": little over-fitting."),
)
COURSE: tuple[Rule, ...] = (  # whether training went on after the best validation
    (FAIR, lambda f: f.rise >= RISE, "over-trained",
     "Training went on too long: the validation loss was lowest at step {best_step:,} "
     "({best:.3f}) and {rise:.3f} nats higher at step {last_step:,}. The model evaluated here is "
     "that of step {step:,}."),
    (PLAIN, lambda f: f.best_step == f.last_step, "",
     "The validation loss was lowest at the last step, {last_step:,}: longer training may help."),
)
# All rules that hold are said.
OF_A_SET: tuple[Rule, ...] = (
    (PLAIN, lambda f: f.grid and f.grid["nats_per_cell"], "",
     "Whole {name} pieces need {grid[nats_per_cell][value]:.4f} nats per cell ({grid[cells]:,} "
     "cells), {grid[nats_per_frame][value]:.3f} nats per frame ({grid[frames]:,} frames); the ends "
     "of pieces are not counted."),
    (PLAIN, lambda f: f.published, "", "Published for the whole {name} set: {published}."),
    (PLAIN, lambda f: f.training_files_among_them, "",
     "Left out of {name}, since the model was trained on them: {left_out}."),
    # Learned positions end: then whole pieces are only their beginnings, and other targets.
    (FAIR, lambda f: f.same_targets and f.drift >= DRIFT, "",
     "Whole {name} pieces need {drift:.3f} nats per token more than windows of the training "
     "length: the model gets worse beyond that length."),
    (BAD, lambda f: not f.forms["agree"], "ERROR: its two forms disagree",
     "ERROR: parallel and recurrent form differ by {forms[largest_difference_nats]:.3g} nats for "
     "one token of the {name} pieces."),
)
BROKEN: Rule = (
    BAD, _otherwise, "Broken: it gives no finite likelihood",
    "ERROR: the likelihood of {name} pieces is not a finite number: the weights are damaged or "
    "have diverged.")
ELSEWHERE: Rule = (
    FAIR, _otherwise, "Does not carry over to {name}",
    "What it has learned does not carry over to {name}. {text}")
# fmt: on


def judge(record: dict) -> dict:
    """Return a title, its tone, a summary for a musician, and sentences for researchers.

    The summary are three sentences; of what is no music, what it has learned, and copies.
    """
    near, n_held_out = n_copies(record, "held_out")
    curve = record.get("learning_curve")
    likelihood = judge_likelihood(record["likelihood"], curve, near=near, of=n_held_out)
    found, valid = [*music_sentences(record), copying_sentence(record)], _valid(record)
    titles = [likelihood["title"], *(sentence.title for sentence in found)]
    tones = [likelihood["tone"], *(sentence.tone for sentence in (*found, *valid))]
    learned, n_first = likelihood["sentences"], int(record["music"] is None)
    whole = _verdict(titles, tones, found)
    return whole | {
        "summary": [*learned[:n_first], *whole["sentences"]],
        "sentences": [*learned[n_first:], *map(asdict, valid)],
    }


def judge_likelihood(likelihood: dict, curve: dict | None, *, near: int = 0, of: int = 0) -> dict:
    """The verdict that rests on likelihood and learning curve alone.

    It is about the run's own held-out pieces if there are any; how other files fare is said beside
    it, and makes no model untrained. `near` of `of` held-out pieces are near-duplicates of training
    pieces: then nothing is said about there being no over-fitting.
    """
    parts = likelihood["sets"]
    if broken := _broken(likelihood):
        return _verdict([broken.title], [broken.tone], [broken])
    sets = [_facts(part, likelihood, near=near, of=of) for part in parts]
    own = next((facts for facts in sets if facts.is_split), None)
    main = own or sets[0]
    level, fit, course = _level(main), next(_said(FIT, main)), _course(curve, likelihood)
    has_learned = not level.title.startswith(("Untrained", "Has not learned"))
    said = [level, fit, *course]
    wrong: list[Sentence] = []
    for facts, part in zip(sets, parts, strict=True):
        if own is not None and not facts.is_split:
            said.append(_level(facts, has_learned=has_learned))
        found = list(_said(OF_A_SET, facts))
        wrong += [sentence for sentence in found if sentence.title][: not wrong]
        said += [*found, *(_rival(part, rival) for rival in part["beside"])]
    titled = [fit] if fit.title.startswith(OVER_TITLE) else [level, fit, *course]
    titles = [sentence.title for sentence in (*wrong, *titled)]
    return _verdict(titles, [sentence.tone for sentence in said], said)


def n_copies(record: dict, of: str = "generated") -> tuple[int, int]:
    """How many pieces are flagged as copies, by notes or by tokens, and of how many."""
    parts = [record["copying"].get(kind, {}).get(of, {}) for kind in ("notes", "tokens")]
    pieces = [piece for part in parts for piece in part.get("pieces", [])]
    flagged = {piece["name"] for piece in pieces if piece["is_copy"]}
    return len(flagged), len({piece["name"] for piece in pieces})


def copies_clearly(record: dict) -> bool:
    """Whether more generated pieces are flagged than what real pieces' own flags account for.

    Fisher's exact test, one-sided: how probable so many of the flags would be among the generated
    pieces if flags fell on generated and held-out pieces alike. Few pieces leave it without power,
    so a share that is higher by half is enough.
    """
    (copies, n), (held_out, m) = n_copies(record), n_copies(record, "held_out")
    if not copies:
        return False
    table = [[copies, n - copies], [held_out, m - held_out]]
    more = copies / n - (held_out / m if m else 0.0)
    return fisher_exact(table, alternative="greater").pvalue < IMPROBABLE or more >= MANY_MORE


def copying_sentence(record: dict) -> Sentence:
    """What generated pieces share with the training set, beside what held-out ones do."""
    copying = record["copying"]
    if "left_out" in copying:
        return Sentence(PLAIN, f"Copies: cannot be checked. {copying['left_out']}")
    kind = "notes" if "notes" in copying else "tokens"
    ours, real = (copying[kind][of]["summary"].get("longest") for of in ("generated", "held_out"))
    if not ours:
        why = "since no generated piece can be compared"
        return Sentence(PLAIN, f"Copies: cannot be checked, {why}.")
    (copies, n), (others, m) = n_copies(record), n_copies(record, "held_out")
    longest = f"The longest run of {kind} that a generated piece shares with a training piece is "
    longest += _spread(ours) + (f"; held-out real pieces: {_spread(real)}." if real else ".")
    if not copies:
        return Sentence(GOOD, f"Copies: none found in {counted(n, 'piece')}. {longest}")
    flags = f", and {others} of {m} held-out real ones" if real else ""
    who = f"{copies} of {n} generated pieces"
    if copies_clearly(record):
        text = f"Copies: {who} copy training pieces{flags}. {longest}"
        return Sentence(BAD, text, f"{who} copied")
    text = f"Copies: {who} are flagged{flags}, no more than could be chance. {longest}"
    return Sentence(FAIR, text)


def _spread(found: dict) -> str:
    return f"{found['median']:,.0f} in the median and {found['max']:,.0f} at most"


def music_sentences(record: dict) -> list[Sentence]:
    """In what generated pieces sound like real ones, and in what they do not, furthest first."""
    music = record["music"]
    if music is None:
        return []
    judged = [c for c in music["comparisons"] if c["verdict"] is not None and c["aspect"]]
    if not judged:
        parts = "Sounds like your music", "Does not"
        return [Sentence(PLAIN, f"{part}: too few pieces to tell.") for part in parts]
    beyond = [c for c in judged if c["verdict"] == "beyond"]
    unlike = list(dict.fromkeys(c["aspect"] for c in beyond))
    measured = {c["aspect"] for c in judged}
    like = [aspect for aspect in ASPECTS if aspect in measured and aspect not in unlike]
    named = ", ".join(like) or "in no respect that was measured"
    alike = Sentence(GOOD if like else FAIR, f"Sounds like your music: {named}.")
    n = music["generated_pieces"]
    if not beyond:
        text = f"Does not: no difference found that is more than chance, in {counted(n, 'piece')}."
        return [alike, Sentence(GOOD, text)]
    furthest, semitones = beyond[0], record["subject"]["transpose"]
    text = (
        f"Does not: {', '.join(unlike)}. Furthest from it: {furthest['title']} "
        f"({furthest['plain']}), {in_words(furthest['times'])} times as far as real pieces are "
        "from each other."
    )
    if semitones and any(c["name"] in IN_A_KEY for c in beyond):
        moved = counted(semitones, "semitone")
        text += (
            f" The model was trained on pieces transposed by up to {moved} and may write in more "
            "keys than yours; this alone makes pitches and note names differ."
        )
    is_much = len(beyond) > len(judged) / MANY and n >= FEWEST
    return [alike, Sentence(FAIR if is_much else PLAIN, text)]


def in_words(times: float) -> str:
    """How many times as far; where real pieces hardly differ, the number itself means nothing."""
    return f"{times:.1f}" if times <= MOST_TIMES else f"more than {MOST_TIMES}"


def _valid(record: dict) -> list[Sentence]:
    """Whether other programs open what was written."""
    if record["validity"] is None:
        return []
    usable = record["validity"]["generated"]["usable"]
    n = record["generated"]["files"] + len(record["generated"]["not_written"])  # no whole note
    text = f"{usable} of {n} generated pieces open in miditoolkit and symusic and hold notes."
    return [Sentence(GOOD if usable == n else FAIR, text)]


def _broken(likelihood: dict) -> Sentence | None:
    """Say where the model's own nats are not numbers: no comparison holds for these."""
    for part in (*likelihood["sets"], *filter(None, [likelihood["training"]])):
        entries = [entry for entry in part["models"] if entry["kind"] == "own"]
        if not all(entry["nats_per_token"] and isfinite(nats(entry)) for entry in entries):
            return next(_said([BROKEN], Facts(name=part.get("name", "training"))))
    return None


def _facts(part: dict, likelihood: dict, *, near: int, of: int) -> Facts:
    """All that the rules ask about a held-out set: its entry of the record, and what follows."""
    ngrams = {entry["name"]: nats(entry) for entry in part["models"] if entry["kind"] == "n-gram"}
    windows, whole = own_entry(part), own_entry(part, "whole pieces")
    chance, training = likelihood["chance_nats_per_token"], likelihood["training"]
    facts = Facts(**{"training_files_among_them": 0, "grid": None, "published": None} | part)
    facts.is_sure = part["pieces"] >= FEWEST_SURE and windows["nats_per_token"]["low"] is not None
    facts.few = "" if facts.is_sure else f", {UNSURE},"
    facts.of_pieces = counted(facts.pieces, f"{facts.name} piece")
    facts.so = ": it is untrained" * facts.is_split
    facts.ours, facts.chance, facts.guess = nats(windows), chance, exp(chance)
    facts.is_blind_at_home = bool(training) and nats(own_entry(training)) >= _blind(chance)
    facts.unigram, facts.bigram, facts.best = ngrams.get("unigram"), ngrams.get("bigram"), None
    facts.no_ngrams = likelihood.get("no_ngram_models", "")
    facts.left_out = counted(facts.training_files_among_them, "file")
    facts.n_near, facts.n_held_out = near, of
    facts.same_targets = whole["targets"] == windows["targets"]
    facts.drift = nats(whole) - nats(windows)
    if ngrams:
        name, difference = part["best_ngram"]["name"], part["best_ngram"]["difference"]
        facts.best = f"the best n-gram model, a {name} ({ngrams[name]:.3f})"
        facts.by = f"{abs(difference['value']):.3f} nats{_interval(difference)}"
        facts.low, facts.high = _ends(difference)
    if (gap := facts.gap) is not None:
        unlearned = chance if facts.unigram is None else facts.unigram
        facts.gained = unlearned - nats(own_entry(training))
        facts.share = gap["value"] / max(facts.gained, LEAST_GAIN)
        facts.size = f"{gap['value']:.3f} nats per token{_interval(gap)}"
        facts.is_above = min(gap["value"], _ends(gap)[0]) > 0
        facts.is_over = facts.is_above and facts.share >= OVERFITTED
        facts.is_few = not facts.is_sure or gap["low"] is None
    return facts


def _level(facts: Facts, *, has_learned: bool = True) -> Sentence:
    """How much better than no learning at all; other files than the run's own are never bad.

    What was never learned (not `has_learned`) cannot be carried over to them.
    """
    found = next(_said(LEVEL, facts))
    is_blind = found.title == "Untrained"
    if not facts.is_split and (found.tone == BAD or found.title == "Has learned little"):
        if not has_learned:
            return Sentence(FAIR, found.text)
        if is_blind and facts.is_blind_at_home:
            text = f"{found.text[:-1]}, and those it was trained on are no better: it is untrained."
            return replace(found, text=text)
        return next(_said([ELSEWHERE], Facts(name=facts.name, text=found.text)))
    if not facts.is_sure and not is_blind and found.tone in (GOOD, BAD):
        return Sentence(FAIR, found.text, f"{found.title} ({UNSURE})")
    return found


def _course(curve: dict | None, likelihood: dict) -> list[Sentence]:
    """Whether training went on after the best validation."""
    validation = (curve or {}).get("validation", [])
    if len(validation) < 2:
        return []
    best, last = min(validation, key=lambda point: point[1]), validation[-1]
    steps = {"best_step": best[0], "last_step": last[0], "step": likelihood["step"]}
    return list(_said(COURSE, Facts(best=best[1], rise=last[1] - best[1], **steps)))[:1]


def _rival(part: dict, rival: dict) -> Sentence:
    """How another run does on the same pieces."""
    d = rival["difference"]
    low, high = _ends(d)
    is_sure = d["low"] is not None and (low > 0 or high < 0)
    size = f"{abs(d['value']):.3f} nats per token{_interval(d)} "
    size += f"{'fewer' if d['value'] < 0 else 'more'} than {rival['name']} ({rival['attention']})"
    chance = "" if is_sure else "; that could be chance"
    return Sentence(PLAIN, f"On {part['name']} pieces it needs {size}{chance}.")


def own_part(parts: Sequence[Mapping]) -> Mapping | None:
    """The first set of the run's own held-out pieces; None where there are only other files."""
    return next((part for part in parts if part["is_split"]), None)


def own_entry(part: Mapping, form: str = "windows") -> Mapping:
    """The entry of the evaluated model for a set of pieces."""
    return next(e for e in part["models"] if e["kind"] == "own" and e["form"] == form)


def nats(entry: Mapping) -> float:
    """Nats per token of an entry."""
    return entry["nats_per_token"]["value"]


def _ends(value: dict) -> tuple[float, float]:
    """The ends of an interval; the value itself where there is none."""
    return (value["value"],) * 2 if value["low"] is None else (value["low"], value["high"])


def _interval(value: dict) -> str:
    if value["low"] is None:
        return ""
    ends = sorted(abs(end) for end in (value["low"], value["high"]))
    if value["low"] < 0 < value["high"]:
        return f" ({value['low']:+.3f} to {value['high']:+.3f})"
    return f" ({ends[0]:.3f} to {ends[1]:.3f})"


def _said(rules: Iterable[Rule], facts: Facts) -> Iterator[Sentence]:
    """The sentences of the rules that hold."""
    for tone, when, title, text in rules:
        if when(facts):
            yield Sentence(tone, text.format(**vars(facts)), title.format(**vars(facts)))


def _verdict(titles: Iterable[str], tones: Iterable[str], said: Iterable[Sentence]) -> dict:
    """The worst tone, one title of all, and the sentences."""
    worst = min(tones, key=(BAD, FAIR, GOOD, PLAIN).index)
    return {
        "tone": FAIR if worst == PLAIN else worst,
        "title": "; ".join(filter(None, titles)),
        "sentences": [asdict(sentence) for sentence in said],
    }
