"""What the figures mean, in plain sentences; every threshold that they rest on stands here.

A model is set beside what asks for no learning: all tokens equally likely, how often each is (a
unigram), which follows which (a bigram), and the best count model. What it gains on the pieces it
was trained on but not on others is over-fitting.
"""

from dataclasses import asdict, dataclass
from math import exp

UNTRAINED_SHARE = 0.9  # of the nats of blind guessing: a model above it has learned next to nothing
# Share of what is gained over a unigram on training pieces that is not gained on held-out ones.
OVERFITTED, LEANING = 0.25, 0.10
RISE = 0.05  # nats by which a validation loss must rise after its best to be called a rise
DRIFT = 0.05  # nats by which whole pieces are worse than windows before it is said
FEWEST = 10  # generated pieces, below which measures say little
NAMED = 6  # measures that a sentence names
MANY = 3  # more than one in so many measures beyond the baseline is said as a fault
GOOD, FAIR, BAD, PLAIN = "good", "fair", "bad", "plain"


@dataclass(frozen=True)
class Sentence:
    """One finding: good, fair, bad, or a plain fact."""

    tone: str
    text: str


def judge(record: dict) -> dict:
    """Return a title, its tone, and sentences, from the parts of a record."""
    verdict = judge_likelihood(record["likelihood"], record.get("learning_curve"))
    title, tones = verdict["title"], [verdict["tone"]]
    sentences = list(verdict["sentences"])
    for sentence in (*_copies(record), *_validity(record), *_music(record)):
        sentences.append(asdict(sentence))
        if sentence.tone in (BAD, FAIR):
            tones.append(FAIR)
    copies, n = n_copies(record)
    if copies:
        title += f"; {copies} of {n} generated pieces {'is' if copies == 1 else 'are'} copied"
        tones.append(BAD)
    tone = next(t for t in (BAD, FAIR, GOOD, PLAIN) if t in tones)
    return {"tone": tone, "title": title, "sentences": sentences}


def judge_likelihood(likelihood: dict, curve: dict | None) -> dict:
    """The verdict that rests on likelihood and learning curve alone."""
    held_out = likelihood["sets"]
    if not held_out:
        return _verdict(FAIR, "Cannot be judged: no piece was held out", [])
    main = held_out[0]
    level_tone, level_title, level = _level(main, likelihood)
    own = next((part for part in held_out if part["is_split"]), main)
    fit_tone, fit_title, fit = _fit(own, likelihood)
    if fit_tone == BAD:
        title = f"{fit_title}: it predicts its training pieces far better than others"
    elif fit_tone == FAIR:
        title = f"{level_title}; {fit_title}"
    else:
        title = level_title
    sentences = [level, *fit, *_course(curve, likelihood)]
    for part in held_out:
        sentences += [*_beside(part), *_length(part), *_forms(part)]
    tones = [level_tone, fit_tone]
    tone = next((t for t in (BAD, FAIR, GOOD) if t in tones), FAIR)
    return _verdict(tone, title, sentences)


def _level(part: dict, likelihood: dict) -> tuple[str, str, Sentence]:
    """How much better than no learning at all."""
    ours, chance = own_nats(part), likelihood["chance_nats_per_token"]
    counts = {entry["name"]: nats(entry) for entry in part["models"] if entry["kind"] == "counts"}
    one = part["pieces"] == 1
    where = f"On {part['pieces']} {part['label']} piece{'' if one else 's'}"
    where += f"{', too few to be sure,' if one else ''} it needs {ours:.3f} nats per token"
    if ours >= UNTRAINED_SHARE * chance:
        guess = f"guessing blindly among {exp(chance):,.0f} equally likely ones needs {chance:.3f}"
        return BAD, "Untrained", Sentence(BAD, f"{where}; {guess}: it is untrained.")
    if not counts:
        text = f"{where}; guessing blindly needs {chance:.3f}. There are no count models beside it"
        reason = likelihood.get("no_count_models", "")
        return FAIR, "Has learned something", Sentence(PLAIN, f"{text}: {reason}.")
    if ours >= counts["unigram"]:
        text = f"{where}, no better than a unigram ({counts['unigram']:.3f})"
        return BAD, "Has not learned", Sentence(BAD, f"{text}: not even which tokens are frequent.")
    if ours >= counts["bigram"]:
        text = f"{where}, worse than a bigram ({counts['bigram']:.3f})"
        return BAD, "Has not learned", Sentence(BAD, f"{text}: not even which token follows which.")
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
    text = f"Training pieces are predicted {size} better than {part['label']} ones"
    of = f"{share:.0%} of what it gains there over a unigram"
    if not part["is_split"] and sure and share >= OVERFITTED:
        text = f"{text}, {of}: over-fitted, or the other files are another kind of music."
        return FAIR, "these files are not what it was trained on", [Sentence(FAIR, text)]
    if sure and share >= OVERFITTED:
        return BAD, "Over-fitted", [Sentence(BAD, f"{text}, {of}: over-fitted.")]
    if sure and share >= LEANING:
        text = f"{text}, {of}: it leans on its training pieces."
        return FAIR, "leans on its training pieces", [Sentence(FAIR, text)]
    if gap["value"] <= 0 or not sure:
        text = f"Training pieces are predicted no better than {part['label']} ones ({size})"
        return PLAIN, "", [Sentence(PLAIN, f"{text}: no over-fitting.")]
    return GOOD, "", [Sentence(GOOD, f"{text}, {of}: little over-fitting.")]


def _course(curve: dict | None, likelihood: dict) -> list[Sentence]:
    """Whether training went on after the best validation."""
    validation = (curve or {}).get("validation", [])
    if len(validation) < 2:
        return []
    best, last = min(validation, key=lambda point: point[1]), validation[-1]
    rise = last[1] - best[1]
    if rise >= RISE:
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
    drift = nats(whole) - own_nats(part)
    if drift < DRIFT:
        return []
    text = f"Whole {part['label']} pieces cost {drift:.3f} nats per token more than windows of the "
    return [Sentence(FAIR, f"{text}training length: it gets worse beyond that length.")]


def _forms(part: dict) -> list[Sentence]:
    forms = part["forms"]
    if forms is None or forms["agree"]:
        return []
    text = f"ERROR: parallel and recurrent form differ by {forms['largest_difference_nats']:.3g} "
    return [Sentence(BAD, f"{text}nats for one token of the {part['label']} pieces.")]


def n_copies(record: dict) -> tuple[int, int]:
    """How many generated pieces are flagged as copies, by notes or by tokens, and of how many."""
    flagged, seen = set(), set()
    for kind in ("notes", "tokens"):
        for piece in record["copying"].get(kind, {}).get("generated", {}).get("pieces", []):
            seen.add(piece["name"])
            if piece["is_copy"]:
                flagged.add(piece["name"])
    return len(flagged), len(seen)


def _copies(record: dict) -> list[Sentence]:
    copying = record["copying"]
    if "left_out" in copying:
        return [Sentence(PLAIN, f"Copying cannot be told: {copying['left_out']}")]
    kind = "notes" if "notes" in copying else "tokens"
    ours, theirs = (copying[kind][x]["summary"] for x in ("generated", "held_out"))
    if not ours["n"] or not theirs["n"]:
        return []
    text = (
        f"The longest run of {kind} that a generated piece shares with a training piece is "
        f"{ours['longest']['median']:,.0f} in the median and {ours['longest']['max']:,.0f} at "
        f"most; held-out real pieces: {theirs['longest']['median']:,.0f} and "
        f"{theirs['longest']['max']:,.0f}"
    )
    copies, n = n_copies(record)
    if copies:
        return [Sentence(BAD, f"{copies} of {n} generated pieces copy the training set. {text}.")]
    return [Sentence(GOOD, f"No generated piece is a copy. {text}.")]


def _validity(record: dict) -> list[Sentence]:
    validity = record["validity"]
    if "left_out" in validity:
        return []
    found = validity["generated"]
    n = found["files"] + len(record["generated"]["not_written"])  # drawn without a whole note
    text = f"{found['usable']} of {n} generated pieces open in miditoolkit and symusic"
    is_good = found["usable"] == n
    return [Sentence(GOOD if is_good else FAIR, f"{text} and hold notes.")]


def _music(record: dict) -> list[Sentence]:
    music = record["music"]
    if "left_out" in music or not music["judged"]:
        return []
    beyond = music["beyond"]
    text = (
        f"In {len(beyond)} of {music['judged']} musical measures generated pieces are further from "
        f"real ones than real ones are from each other"
    )
    if not beyond:
        return [Sentence(GOOD, f"{text}.")]
    is_much = len(beyond) > music["judged"] / MANY and music["generated_pieces"] >= FEWEST
    tone = FAIR if is_much else PLAIN
    named = "; ".join(beyond[:NAMED])
    more = f"; and {len(beyond) - NAMED} more" if len(beyond) > NAMED else ""
    return [Sentence(tone, f"{text}: {named}{more}.")]


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


def _verdict(tone: str, title: str, sentences: list[Sentence]) -> dict:
    return {"tone": tone, "title": title, "sentences": [asdict(x) for x in sentences]}
