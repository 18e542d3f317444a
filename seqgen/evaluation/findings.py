"""What a record says of generated pieces (copies, validity, music), in plain sentences."""

from dataclasses import dataclass
from math import comb

FEWEST = 10  # generated pieces, below which measures say little
NAMED = 6  # measures that a sentence names
MANY = 3  # more than one in so many measures beyond the baseline is said as a fault
# Flagged generated pieces are a fault where as many among them would be so improbable by chance...
IMPROBABLE = 0.05
MANY_MORE = 0.5  # ... or where their share is above that of held-out pieces by so much.
IN_A_KEY = ("pitches", "pitch classes")  # measures that transposed training pieces change
GOOD, FAIR, BAD, PLAIN = "good", "fair", "bad", "plain"


@dataclass(frozen=True)
class Sentence:
    """One finding: good, fair, bad, or a plain fact."""

    tone: str
    text: str


def n_copies(record: dict, of: str = "generated") -> tuple[int, int]:
    """How many pieces are flagged as copies, by notes or by tokens, and of how many."""
    flagged, seen = set(), set()
    for kind in ("notes", "tokens"):
        for piece in record["copying"].get(kind, {}).get(of, {}).get("pieces", []):
            seen.add(piece["name"])
            if piece["is_copy"]:
                flagged.add(piece["name"])
    return len(flagged), len(seen)


def copies_clearly(record: dict) -> bool:
    """Whether more generated pieces are flagged than what real pieces' own flags account for.

    Fisher's exact test, one-sided: how probable so many of the flags would be among the generated
    pieces if flags fell on generated and held-out pieces alike. Few pieces leave it without power,
    so a share that is higher by half is enough.
    """
    (copies, n), (held_out, m) = n_copies(record), n_copies(record, "held_out")
    if not copies:
        return False
    flags = copies + held_out
    ways = sum(comb(n, k) * comb(m, flags - k) for k in range(copies, min(n, flags) + 1))
    more = copies / n - (held_out / m if m else 0.0)
    return ways / comb(n + m, flags) < IMPROBABLE or more >= MANY_MORE


def copying_findings(record: dict) -> list[Sentence]:
    """What generated pieces share with the training set, beside what held-out ones do."""
    copying = record["copying"]
    if "left_out" in copying:
        return [Sentence(PLAIN, f"Copying cannot be told: {copying['left_out']}")]
    kind = "notes" if "notes" in copying else "tokens"
    ours, theirs = (copying[kind][x]["summary"] for x in ("generated", "held_out"))
    if not ours["n"]:
        return [Sentence(PLAIN, "Copying cannot be told: no generated piece can be compared.")]
    text = (
        f"The longest run of {kind} that a generated piece shares with a training piece is "
        f"{ours['longest']['median']:,.0f} in the median and {ours['longest']['max']:,.0f} at most"
    )
    if theirs["n"]:
        text += (
            f"; held-out real pieces: {theirs['longest']['median']:,.0f} and "
            f"{theirs['longest']['max']:,.0f}"
        )
    (copies, n), (others, m) = n_copies(record), n_copies(record, "held_out")
    if not copies:
        return [Sentence(GOOD, f"No generated piece is a copy. {text}.")]
    flagged = f"{copies} of {n} generated pieces {_are(copies)} flagged"
    beside = f", and {others} of {m} held-out real ones" if m else ""
    if copies_clearly(record):
        return [Sentence(BAD, f"{flagged} as copies of training pieces{beside}. {text}.")]
    return [Sentence(FAIR, f"{flagged}{beside}: no more than could be chance. {text}.")]


def validity_findings(record: dict) -> list[Sentence]:
    """Whether other programs open what was written."""
    validity = record["validity"]
    if "left_out" in validity:
        return []
    found = validity["generated"]
    n = found["files"] + len(record["generated"]["not_written"])  # drawn without a whole note
    text = f"{found['usable']} of {n} generated pieces open in miditoolkit and symusic"
    is_good = found["usable"] == n
    return [Sentence(GOOD if is_good else FAIR, f"{text} and hold notes.")]


def music_findings(record: dict) -> list[Sentence]:
    """In how many measures generated pieces are unlike real ones."""
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
    return [Sentence(tone, f"{text}: {named}{more}.{_on_keys(record)}")]


def _on_keys(record: dict) -> str:
    """Why pitches may lie apart where training pieces were transposed, and nothing is wrong."""
    semitones = record["subject"]["transpose"]
    if not semitones or not set(IN_A_KEY) & set(record["music"]["beyond"]):
        return ""
    return (
        f" It has learned from pieces transposed by up to {semitones} semitones and may write in "
        f"more keys than theirs, which alone would set pitches and pitch classes apart."
    )


def title_of_copies(record: dict) -> str:
    """What a title adds where pieces are copied; empty where that is not clear."""
    copies, n = n_copies(record)
    if not copies_clearly(record):
        return ""
    return f"; {copies} of {n} generated pieces {_are(copies)} copied"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"
