"""What the figures mean, in plain sentences: tables of rules, and all their thresholds.

A model is compared with what needs no learning: all tokens equally likely, how often each is (a
unigram), which follows which (a bigram), and the best n-gram model. What it gains on the pieces it
was trained on but not on others is over-fitting.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import exp, isfinite
from types import SimpleNamespace as Facts
from typing import NamedTuple

from scipy.stats import fisher_exact

from seqgen.evaluation.music.definitions import ASPECTS

UNTRAINED_SHARE = 0.9  # of the nats of blind guessing: a model above it has learned next to nothing
# Share of what is gained over a unigram on training pieces that is not gained on held-out ones.
OVERFITTED, LEANING = 0.25, 0.10
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


class Rule(NamedTuple):
    """A sentence that is said of facts for which `when` holds; what it adds to the title."""

    tone: str
    when: Callable[[Facts], bool]
    title: str
    text: str

    def said(self, facts: Facts) -> Sentence:
        """The sentence with the facts in it."""
        texts = (text.format(**vars(facts)) for text in (self.text, self.title))
        return Sentence(self.tone, *texts)


def _otherwise(_: Facts) -> bool:
    return True


# The first rule of a table that holds is said.
# fmt: off
LEVEL = [Rule(*row) for row in (  # how much better than no learning at all
    (BAD, lambda f: f.ours >= UNTRAINED_SHARE * f.chance, "Untrained",
     "{where}; guessing blindly among {guess:,.0f} equally likely ones needs {chance:.3f}{so}."),
    (PLAIN, lambda f: f.best is None, "Has learned something",
     "{where}; guessing blindly needs {chance:.3f}. There are no n-gram models to compare with: "
     "{no_ngrams}."),
    (BAD, lambda f: f.ours >= f.unigram, "Has not learned",
     "{where}, no better than a unigram ({unigram:.3f}): not even which tokens are frequent."),
    (BAD, lambda f: f.ours >= f.bigram, "Has not learned",
     "{where}, worse than a bigram ({bigram:.3f}): not even which token follows which."),
    (FAIR, lambda f: f.low > 0, "Has learned little",
     "{where}, {by} more than {best}: counting short contexts does better."),
    (FAIR, lambda f: f.high >= 0, "Has learned no more than an n-gram model",
     "{where}, about as many as {best}; the difference of {by} could be chance."),
    (GOOD, _otherwise, "Has learned",
     "{where}, {by} fewer than {best}: it has learned more than short contexts tell."),
)]
FIT = [Rule(*row) for row in (  # whether what it has learned holds for other pieces too
    (PLAIN, lambda f: f.gap is None, "", "Over-fitting cannot be judged: {no_training}."),
    (FAIR, lambda f: f.is_over and not f.is_split, "these files are not what it was trained on",
     "{better}, {of}: over-fitted, or the other files are another kind of music."),
    (FAIR, lambda f: f.is_over and f.is_few, f"{OVER_TITLE} ({UNSURE})",
     "{better}, {of}: over-fitted, if these pieces, {unsure}, are like others."),
    (BAD, lambda f: f.is_over, OVER_TITLE, "{better}, {of}: over-fitted."),
    (FAIR, lambda f: f.is_above and f.share >= LEANING, "leans on its training pieces",
     "{better}, {of}: it leans on its training pieces."),
    (PLAIN, lambda f: f.n_near > 0, "",
     "{similar}, but there are near-duplicates of training pieces among the held-out ones "
     "({n_near} of {n_held_out}): over-fitting cannot be ruled out."),
    (PLAIN, lambda f: not f.is_above and f.is_few, "",
     "{similar}: {unsure} that there is no over-fitting."),
    (PLAIN, lambda f: not f.is_above, "", "{similar}: no over-fitting."),
    (PLAIN, lambda f: f.is_few, "", "{better}, {of}; the pieces are {unsure}."),
    (GOOD, _otherwise, "", "{better}, {of}: little over-fitting."),
)]
COURSE = [Rule(*row) for row in (  # whether training went on after the best validation
    (FAIR, lambda f: f.rise >= RISE, "over-trained",
     "Training went on too long: the validation loss was lowest at step {best_step:,} "
     "({best:.3f}) and {rise:.3f} nats higher at step {last_step:,}. The model kept, and evaluated "
     "here, is that of step {step:,}."),
    (PLAIN, lambda f: f.best_step == f.last_step, "",
     "The validation loss was still at its lowest at the last step, {last_step:,}: longer training "
     "may help."),
)]
LIKE = [Rule(*row) for row in (
    (PLAIN, lambda f: not f.judged, "", "Sounds like your music: too few pieces to tell."),
    (FAIR, lambda f: not f.like, "", "Sounds like your music: in no respect that was measured."),
    (GOOD, _otherwise, "", "Sounds like your music: {like}."),
)]
FURTHEST = (
    "Does not: {unlike}. Furthest from it: {furthest} ({plain}), {times} times as far as real "
    "pieces are from each other.{keys}"
)
UNLIKE = [Rule(*row) for row in (
    (PLAIN, lambda f: not f.judged, "", "Does not: too few pieces to tell."),
    (GOOD, lambda f: not f.unlike, "", "Does not: no difference found that is more than chance."),
    (FAIR, lambda f: f.is_much, "", FURTHEST),
    (PLAIN, _otherwise, "", FURTHEST),
)]
COPIES = [Rule(*row) for row in (
    (PLAIN, lambda f: f.left_out, "", "Copies: cannot be checked. {left_out}"),
    (PLAIN, lambda f: not f.n, "",
     "Copies: cannot be checked, since no generated piece can be compared."),
    (GOOD, lambda f: not f.copies, "", "Copies: none found in {n} pieces. {longest}"),
    (BAD, lambda f: f.is_clear, "{copies} of {n} generated pieces copied",
     "Copies: {copies} of {n} generated pieces copy training pieces{real}. {longest}"),
    (FAIR, _otherwise, "",
     "Copies: {copies} of {n} generated pieces are flagged{real}, no more than could be chance. "
     "{longest}"),
)]
# All rules that hold are said.
OF_A_SET = [Rule(*row) for row in (
    (PLAIN, lambda f: f.n_known, "",
     "Left out of {set}, since the model was trained on them: {n_known} files."),
    # Learned positions end: then whole pieces are only their beginnings, and other targets.
    (FAIR, lambda f: f.same_targets and f.drift >= DRIFT, "",
     "Whole {set} pieces cost {drift:.3f} nats per token more than windows of the training length: "
     "it gets worse beyond that length."),
    (BAD, lambda f: f.forms is not None and not f.forms["agree"], "ERROR: its two forms disagree",
     "ERROR: parallel and recurrent form differ by {forms[largest_difference_nats]:.3g} nats for "
     "one token of the {set} pieces."),
)]
# fmt: on


def judge(record: dict) -> dict:
    """Return a title, its tone, three sentences for a musician, and more for researchers."""
    summary = [*music_sentences(record), copying_sentence(record)]
    near, n_held_out = n_copies(record, "held_out")
    likelihood = judge_likelihood(
        record["likelihood"], record.get("learning_curve"), near=near, of=n_held_out
    )
    more = _valid(record)
    sentences = [*(Sentence(**x) for x in likelihood["sentences"]), *more]
    titles = [likelihood["title"], *(sentence.title for sentence in summary)]
    tone = _worst([likelihood["tone"], *(x.tone for x in (*summary, *more))])
    verdict = _verdict(tone, "; ".join(title for title in titles if title), sentences)
    return verdict | {"summary": [asdict(sentence) for sentence in summary]}


def judge_likelihood(likelihood: dict, curve: dict | None, *, near: int = 0, of: int = 0) -> dict:
    """The verdict that rests on likelihood and learning curve alone.

    It is about the run's own held-out pieces where there are any: how other files fare is said
    beside it, and makes no model untrained. `near` of `of` held-out pieces are near-duplicates of
    training pieces: then nothing is said about there being no over-fitting.
    """
    parts = likelihood["sets"]
    if not parts:
        return _verdict(FAIR, "Cannot be judged: no piece was held out", [])
    broken = _broken(likelihood)
    if broken:
        return _verdict(BAD, "Broken: it gives no finite likelihood", [broken])
    own = next((part for part in parts if part["is_split"]), None)
    level = _level(own or parts[0], likelihood)
    fit = _fit(own or parts[0], likelihood, near=near, of=of)
    course = _course(curve, likelihood)
    forms: list[str] = []
    sentences = [level, fit, *course]
    has_learned = not level.title.startswith(("Untrained", "Has not learned"))
    for part in parts:
        if own is not None and not part["is_split"]:
            sentences.append(_carried_over(part, likelihood, has_learned=has_learned))
        found = _of_a_set(part)
        forms += [sentence.title for sentence in found if sentence.title][: not forms]
        sentences += [*found, *(_rival(part, rival) for rival in part["beside"])]
    titles = [level.title, fit.title, *(sentence.title for sentence in course)]
    if fit.title.startswith("Over-fitted"):
        titles = [fit.title]
    tone = _worst([sentence.tone for sentence in sentences])
    return _verdict(tone, "; ".join(title for title in [*forms, *titles] if title), sentences)


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
    facts = Facts(left_out=copying.get("left_out", ""), n=0, copies=0)
    if not facts.left_out:
        kind = "notes" if "notes" in copying else "tokens"
        sets = (copying[kind][name]["summary"] for name in ("generated", "held_out"))
        ours, theirs = (found.get("longest") for found in sets)
        (facts.copies, facts.n), (others, m) = n_copies(record), n_copies(record, "held_out")
        facts.n = facts.n if ours else 0
        facts.real = f", and {others} of {m} held-out real ones" if theirs else ""
        facts.longest = _longest(kind, ours, theirs)
        facts.is_clear = copies_clearly(record)
    return _first(COPIES, facts)


def _longest(kind: str, ours: dict | None, theirs: dict | None) -> str:
    """The longest runs of both sets."""
    if not ours:
        return ""
    text = f"The longest run of {kind} that a generated piece shares with a training piece is "
    text += f"{ours['median']:,.0f} in the median and {ours['max']:,.0f} at most"
    if theirs:
        text += f"; held-out real pieces: {theirs['median']:,.0f} and {theirs['max']:,.0f}"
    return f"{text}."


def music_sentences(record: dict) -> list[Sentence]:
    """In what generated pieces sound like real ones, and in what they do not, furthest first."""
    music = record["music"]
    if "left_out" in music:
        return []
    judged = [c for c in music["comparisons"] if c["verdict"] is not None and c["aspect"]]
    if music["opening_bars"] is not None:  # cut pieces tell the limit of their length
        judged = [c for c in judged if c["aspect"] != "length"]
    beyond = [c for c in judged if c["verdict"] == "beyond"]
    unlike = list(dict.fromkeys(c["aspect"] for c in beyond))
    measured = {c["aspect"] for c in judged}
    like = [aspect for aspect in ASPECTS if aspect in measured and aspect not in unlike]
    is_much = len(beyond) > len(judged) / MANY and music["generated_pieces"] >= FEWEST
    facts = Facts(judged=judged, like=", ".join(like), unlike=", ".join(unlike), is_much=is_much)
    if beyond:
        furthest = beyond[0]
        facts.furthest, facts.plain = furthest["title"], furthest["plain"]
        facts.times, facts.keys = in_words(furthest["times"]), _on_keys(record, beyond)
    return [_first(LIKE, facts), _first(UNLIKE, facts)]


def in_words(times: float) -> str:
    """How many times as far; where real pieces hardly differ, the number itself means nothing."""
    return f"{times:.1f}" if times <= MOST_TIMES else f"more than {MOST_TIMES}"


def _on_keys(record: dict, beyond: Sequence[dict]) -> str:
    """Why pitches may lie apart where training pieces were transposed, and nothing is wrong."""
    semitones = record["subject"]["transpose"]
    if not semitones or not any(c["name"] in IN_A_KEY for c in beyond):
        return ""
    return (
        f" The model has learned from pieces transposed by up to {semitones} semitones and may "
        f"write in more keys than yours, which alone would set pitches and note names apart."
    )


def _valid(record: dict) -> list[Sentence]:
    """Whether other programs open what was written."""
    if "left_out" in record["validity"]:
        return []
    usable = record["validity"]["generated"]["usable"]
    n = record["generated"]["files"] + len(record["generated"]["not_written"])  # no whole note
    text = f"{usable} of {n} generated pieces open in miditoolkit and symusic and hold notes."
    return [Sentence(GOOD if usable == n else FAIR, text)]


def _broken(likelihood: dict) -> Sentence | None:
    """Say where the model's own nats are not numbers: no comparison holds for these."""
    parts = [*likelihood["sets"], *filter(None, [likelihood["training"]])]
    for part in parts:
        entries = [entry for entry in part["models"] if entry["kind"] == "own"]
        if not all(entry["nats_per_token"] and isfinite(nats(entry)) for entry in entries):
            text = f"ERROR: the likelihood of {part.get('name', 'training')} pieces is not a"
            return Sentence(BAD, f"{text} finite number: the weights are damaged or have diverged.")
    return None


def _level(part: dict, likelihood: dict) -> Sentence:
    """How much better than no learning at all; other files than the run's own are never bad."""
    found = _level_of_any(part, likelihood)
    tone, title, text = found.tone, found.title, found.text
    if not part["is_split"] and title == "Untrained" and _is_blind_at_home(likelihood):
        text = f"{text[:-1]}, and those it was trained on are no better: it is untrained."
        return Sentence(BAD, text, title)
    if not part["is_split"] and (tone == BAD or title == "Has learned little"):
        title = f"Does not carry over to {part['name']}"
        text = f"What it has learned does not carry over to {part['name']}. {text}"
        return Sentence(FAIR, text, title)
    is_sure = _is_sure(part) or title == "Untrained"  # no choice of pieces makes it blind
    if not is_sure and tone in (GOOD, BAD):
        return Sentence(FAIR, text, f"{title} ({UNSURE})")
    return found


def _is_blind_at_home(likelihood: dict) -> bool:
    """Whether it guesses its own training pieces too."""
    training = likelihood["training"]
    chance = likelihood["chance_nats_per_token"]
    return training is not None and own_nats(training) >= UNTRAINED_SHARE * chance


def _carried_over(part: dict, likelihood: dict, *, has_learned: bool) -> Sentence:
    """How other files fare; what was never learned cannot be carried over."""
    if has_learned:
        return _level(part, likelihood)
    found = _level_of_any(part, likelihood)
    return Sentence(FAIR if found.tone == BAD else found.tone, found.text)


def _level_of_any(part: dict, likelihood: dict) -> Sentence:
    """Its level, whatever the pieces are."""
    ngrams = {entry["name"]: nats(entry) for entry in part["models"] if entry["kind"] == "n-gram"}
    ours, chance = own_nats(part), likelihood["chance_nats_per_token"]
    noun, few = "piece" if part["pieces"] == 1 else "pieces", f", {UNSURE},"
    where = f"On {part['pieces']} {part['name']} {noun}{'' if _is_sure(part) else few}"
    facts = Facts(
        where=f"{where} it needs {ours:.3f} nats per token",
        ours=ours,
        chance=chance,
        guess=exp(chance),
        so=": it is untrained" if part["is_split"] else "",
        no_ngrams=likelihood.get("no_ngram_models", ""),
        unigram=ngrams.get("unigram"),
        bigram=ngrams.get("bigram"),
        best=None,
    )
    if ngrams:
        name, difference = part["best_ngram"]["name"], part["best_ngram"]["difference"]
        facts.best = f"the best n-gram model, a {name} ({ngrams[name]:.3f})"
        facts.by = f"{abs(difference['value']):.3f} nats{_interval(difference)}"
        ends = (difference[end] for end in ("low", "high"))
        facts.low, facts.high = (difference["value"] if end is None else end for end in ends)
    return _first(LEVEL, facts)


def _fit(part: dict, likelihood: dict, *, near: int, of: int) -> Sentence:
    """Whether what it has learned holds for other pieces too."""
    gap, training = part["gap"], likelihood["training"]
    facts = Facts(gap=gap, is_split=part["is_split"], n_near=near, n_held_out=of, unsure=UNSURE)
    facts.no_training = "there are no training pieces to compare with"
    if gap is not None:
        base = next((nats(e) for e in part["models"] if e["name"] == "unigram"), None)
        base = likelihood["chance_nats_per_token"] if base is None else base
        gained = base - own_nats(training)
        facts.share = gap["value"] / gained if gained > 0 else 0.0
        size = f"{gap['value']:.3f} nats per token{_interval(gap)}"
        facts.better = f"Training pieces are predicted {size} better than {part['name']} ones"
        facts.similar = f"Training pieces are predicted no better than {part['name']} ones ({size})"
        facts.of = f"{facts.share:.0%} of what it gains there over a unigram"
        facts.is_above = gap["value"] > 0 and (gap["low"] is None or gap["low"] > 0)
        facts.is_over = facts.is_above and facts.share >= OVERFITTED
        if facts.is_above:
            facts.similar = facts.better
        facts.is_few = not _is_sure(part) or gap["low"] is None
    return _first(FIT, facts)


def _course(curve: dict | None, likelihood: dict) -> list[Sentence]:
    """Whether training went on after the best validation."""
    validation = (curve or {}).get("validation", [])
    if len(validation) < 2:
        return []
    best, last = min(validation, key=lambda point: point[1]), validation[-1]
    steps = {"best_step": best[0], "last_step": last[0], "step": likelihood["step"]}
    facts = Facts(best=best[1], rise=last[1] - best[1], **steps)
    return [rule.said(facts) for rule in COURSE if rule.when(facts)][:1]


def _of_a_set(part: dict) -> list[Sentence]:
    """What else is to be said of a held-out set."""
    own = {entry["form"]: entry for entry in part["models"] if entry["kind"] == "own"}
    whole, windows = own["whole pieces"], own["windows"]
    facts = Facts(
        set=part["name"],
        n_known=part.get("training_files_among_them", 0),
        same_targets=whole["targets"] == windows["targets"],
        drift=nats(whole) - nats(windows),
        forms=part["forms"],
    )
    return [rule.said(facts) for rule in OF_A_SET if rule.when(facts)]


def _rival(part: dict, rival: dict) -> Sentence:
    """How another run does on the same pieces."""
    d = rival["difference"]
    is_sure = d["low"] is not None and (d["low"] > 0 or d["high"] < 0)
    size = f"{abs(d['value']):.3f} nats per token{_interval(d)} "
    size += f"{'fewer' if d['value'] < 0 else 'more'} than {rival['name']} ({rival['attention']})"
    chance = "" if is_sure else "; that could be chance"
    return Sentence(PLAIN, f"On {part['name']} pieces it needs {size}{chance}.")


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


def _first(rules: Sequence[Rule], facts: Facts) -> Sentence:
    return next(rule for rule in rules if rule.when(facts)).said(facts)


def _worst(tones: list[str]) -> str:
    return next((tone for tone in (BAD, FAIR, GOOD) if tone in tones), FAIR)


def _verdict(tone: str, title: str, sentences: list[Sentence]) -> dict:
    return {"tone": tone, "title": title, "sentences": [asdict(x) for x in sentences]}
