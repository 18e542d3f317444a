"""The page: whole in one file, nothing of a file's name is markup, each number with its scale."""

import base64
import re

import pytest

from seqgen.evaluation.page import build
from seqgen.evaluation.page.render import PagePicture, render
from seqgen.rendering.curves import draw_loss_curves

EVIL = '<img src="http://example.org/x">&"\'.mid'


def value(x):
    return {"value": x, "low": x - 0.1, "high": x + 0.1}


def entry(name, kind, form="windows"):
    return {
        "name": name,
        "kind": kind,
        "form": form,
        "targets": 12345,
        "nats_per_token": value(1.234),
        "bits_per_token": value(1.78),
        "nats_by_field": {"family": 0.4, "pitch": 0.834},
        "bits_per_unit": value(4.56),
        "bits_per_second": None,
    }


def part():
    forms = {"agree": True, "targets": 10, "pieces": 1, "largest_difference_nats": 1e-6}
    return {
        "name": "validation",
        "is_split": True,
        "pieces": 1,
        "available": 2,
        "targets": 10,
        "counted_in": "tokens",
        "units": 5,
        "units_in_tokens": 5,
        "seconds": 3.0,
        "skipped": [{"file": EVIL, "reason": EVIL}],
        "training_files_among_them": 0,
        "models": [
            entry("run", "own"),
            entry("run", "own", "whole pieces"),
            entry("bigram", "n-gram", "whole pieces"),
        ],
        "forms": forms,
        "repeats": [],
        "best_ngram": None,
        "gap": None,
        "beside": [],
    }


@pytest.fixture
def record():
    fields = [["family", 12], ["pitch", 20]]
    tokenizer = {"type": "compound", "fingerprint": "f", "unit": "note", "is_music": True}
    tokenizer["fields"] = fields
    model = dict.fromkeys(("n_layers", "d_model", "n_heads", "conv_width", "positions"), 1)
    return {
        "subject": {
            "run": EVIL,
            "name": EVIL,
            "step": 7,
            "parameters": 1000,
            "attention": "causal linear attention",
            "model": model,
            "context_length": 32,
            "training": None,
            "tokenizer": tokenizer,
        },
        "data": {"folder": None, "prepared": None, "missing": "gone"},
        "likelihood": {
            "context_length": 32,
            "chance_nats_per_token": 5.48,
            "no_ngram_models": "",
            "counted": {"tokens": 3_000_000, "of": 7_654_321},
            "training": None,
            "beside": [],
            "sets": [part()],
        },
        "train_beside": "python cli.py train",
        "show_beside": "python cli.py evaluate",
        "other_attention": "softmax",
        "music": None,
        "copying": {"left_out": "no copies"},
        "validity": None,
        "samples": [{"file": EVIL, "problem": EVIL, "ended_by_itself": None}],
        "generated": {
            "folder": EVIL,
            "files": 1,
            "not_written": [EVIL],
            "settings": {},
            "unreadable": 1,
        },
        "texts": {of: [{"file": EVIL, "text": EVIL}] for of in ("generated", "held_out")},
        "made": {
            "command": EVIL,
            "date": "2030-01-01T00:00:00",
            "seconds": 100.0,
            "device": "cpu",
            "threads": 1,
            "seed": 0,
            "versions": {"torch": "2"},
        },
        "verdict": {
            "tone": "bad",
            "title": "Untrained",
            "summary": [{"tone": "good", "text": "Copies: none"}],
            "sentences": [{"tone": "bad", "text": EVIL}],
        },
    }


def page_of(record):
    picture = PagePicture("<svg>light</svg>", "<svg>dark</svg>", EVIL, EVIL)
    kinds = ("samples", "grid", "held_out", "distributions", "runs", "curves", "position")
    return render(record, {kind: [picture] for kind in kinds}, about_sound="no sound")


def test_names_of_files_are_text_and_never_markup(record):
    page = page_of(record)
    assert "<img src=&#34;http://example.org" not in page  # the bracket is escaped too
    assert '<img src="http' not in page
    assert page.count("&lt;img src=") >= 8


def test_nothing_is_loaded_from_elsewhere(record):
    page = page_of(record)
    for address in re.findall(r'(?:src|srcset|href)="([^"]*)"', page):
        assert address.startswith(("data:", "#")), address
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_each_picture_is_there_for_light_and_for_dark(record):
    page = page_of(record)
    light, dark = (base64.b64encode(f"<svg>{x}</svg>".encode()).decode() for x in ("light", "dark"))
    dark_source = '<source media="(prefers-color-scheme: dark)" srcset="data:image/svg+xml;base64,'
    assert page.count(f"{dark_source}{dark}") == 5  # music and copying are left out
    assert page.count(f'<img src="data:image/svg+xml;base64,{light}') == 5
    assert "@media (prefers-color-scheme: dark)" in page


def test_numbers_stand_with_their_scale_and_fields_apart(record):
    page = page_of(record)
    for said in ("nats per token", "bits per note", "1.234", "1.134 … 1.334", "4.56"):
        assert said in page
    assert "By field of a token" in page
    assert "0.834" in page
    assert "—" in page  # no bits per second, and no zero in their place
    assert "python cli.py train" in page


def test_units_are_called_what_the_tokenizer_calls_them(record):
    record["subject"]["tokenizer"] |= {"unit": "character", "is_music": False}
    record["samples"] = [{"file": "a", "units": 77, "seconds": 0.0, "ended_by_itself": None}]
    page = page_of(record)
    assert page.count("bits per character") == 2  # a tile, and a column
    assert "5 characters" in page
    assert '<th class="n">characters</th>' in page
    assert '<td class="n">77</td>' in page
    assert "byte" not in page.replace("base64", "")
    assert "per second" not in page


def test_repeated_bars_are_told_apart_where_tokens_have_bars(record):
    assert "are repeated" not in page_of(record)
    repeated = {"targets": 5, "units": 6, "nats": 1.0, "nats_per_token": 0.2, "bits_per_unit": 0.24}
    other = {"targets": 3, "units": 0, "nats": 3.0, "nats_per_token": 1.0, "bits_per_unit": None}
    record["likelihood"]["sets"][0]["repeats"] = [
        {"name": "run", "kind": "own", "repeated": repeated, "other": other}
    ]
    page = page_of(record)
    assert "100% of the notes are repeated" in page
    row = page[page.index("repeated: share of all nats") :]
    row = row[row.index("<tbody>") : row.index("</tbody>")]
    assert re.findall(r'<td class="n">(.*?)</td>', row)[:4] == ["25%", "0.200", "0.24", "1.000"]


def test_forms_that_disagree_are_loud(record):
    record["likelihood"]["sets"][0]["forms"]["agree"] = False
    assert "do NOT agree" in page_of(record)


def test_rows_tell_their_targets_and_ngram_models_what_they_have_counted(record):
    page = page_of(record)
    assert page.count('<td class="n">12,345</td>') == 3
    assert "3,000,000 of the 7,654,321 tokens" in page


def test_with_other_files_gap_and_levels_are_those_of_the_split(record, monkeypatch):
    other = {**part(), "name": "songs", "is_split": False, "gap": value(2.0)}
    other["models"] = [*other["models"][:2], entry("5-gram", "n-gram", "whole pieces")]
    own = {**part(), "gap": value(0.125)}
    record["likelihood"]["sets"] = [other, own]
    picture = PagePicture("", "", "", "")
    kinds = ("samples", "grid", "held_out", "distributions", "runs", "curves")
    pictures = {kind: [picture] for kind in kinds} | {"position": [picture] * 2}
    page = render(record, pictures)
    (tile,) = re.findall(r"minus training pieces</span><b>(.*?)</b>", page)
    assert tile == "+0.125"
    record["likelihood"]["step"] = 2
    record["learning_curve"] = {"training": [[1, 2.0], [2, 1.5]], "validation": []}
    references = {}

    def draw(*arguments, **choices):
        references.update(choices["references"])
        return draw_loss_curves(*arguments, **choices)

    monkeypatch.setattr(build, "draw_loss_curves", draw)
    (drawn,) = build._learning(record)
    assert "of the validation pieces" in drawn.caption
    assert set(references) == {"bigram", "untrained"}  # the 5-gram is one of the other files


def shared(name, **choices):
    place = {"name": name, "first": 1, "last": 50, "bars": (1, 9)}
    return {
        "name": name,
        "n_units": 100,
        "longest": 50,
        "fresh": 45,
        "coverage": 0.5,
        "here": place,
        "there": {**place, "name": "run.mid"},
        "likeness": {"name": "alike.mid", "share": 0.77, "semitones": 2},
        "exceeded": ("likeness",),
        "closest": "alike.mid",
        "is_copy": True,
        **choices,
    }


def test_a_flagged_piece_tells_why_and_the_closest_training_piece(record):
    spread = {"median": 1.0, "p95": 1.0, "max": 1.0}
    summary = {"n": 1, "n_copies": 1, "longest": spread, "coverage": spread}
    notes = {
        "n_training": 1,
        "n_training_units": 1,
        "limits": {"run": 64.0, "block": 32, "coverage": 0.5, "likeness": 0.61, "least": 32},
        "generated": {"summary": summary, "pieces": [shared("a.mid")]},
        "held_out": {"summary": summary, "pieces": [shared("b.mid")]},
    }
    record["copying"] = {"baseline": "validation and test", "notes": notes}
    page = page_of(record)
    row = next(line for line in page.splitlines() if "<td>a.mid</td>" in line)
    assert "<td>alike.mid</td>" in row
    assert "<td>likeness</td>" in row
    assert '<td class="n">77%</td>' in row
    assert "61% of the notes in one training piece" in page
    assert "(fresh)" in page
    assert "holds twice" in page


def test_the_sources_of_measures_are_on_the_page(record):
    record["music"] = {
        "generated_pieces": 3,
        "real_pieces": 3,
        "real": "validation",
        "opening_bars": 7,
        "ended_by_themselves": 0.0,
        "comparisons": [],
    }
    record["generated"]["prompted"] = 0
    page = page_of(record)
    assert "Museformer: Transformer with" in page
    assert "first 7 bars" in page


def compared(title, times, **choices):
    numbers = {"generated": {"mean": 0.25}, "real": {"mean": 0.5}, "distance": 1.0}
    of = {"kind": "scalar", "aspect": "key", "unit": "share of notes", "verdict": "beyond"}
    words = {"title": title, "plain": f"{title} in plain words", "meaning": "m", "source": "s"}
    return {"times": times, "interval": None, "baseline": None, "in_openings": False,
            **numbers, **of, **words, **choices}  # fmt: skip


def with_music(record):
    record["music"] = {
        "generated_pieces": 20,
        "real_pieces": 20,
        "real": "validation",
        "opening_bars": None,
        "ended_by_themselves": None,
        "comparisons": [
            compared("loops", 7.25),
            compared("names", 2.0, kind="histogram"),
            compared("few", None, verdict=None),
        ],
    }
    record["generated"]["prompted"] = 0
    return page_of(record)


def test_players_come_first_then_the_summary_and_likelihood_is_folded(record):
    page = with_music(record)
    places = [
        "no sound", "Generated by the model", "Real pieces that it may have", "Copies: none",
        "How far", "<h2>Copies", '<details id="researchers">', "<h2>Likelihood",
    ]  # fmt: skip
    found = [page.lower().index(place.lower()) for place in places]
    assert found == sorted(found)
    record["data"] |= {"prepared": "songs", "pieces": {"train": 9}}
    assert "<h2>Real pieces that it was not trained on</h2>" in page_of(record)
    researchers = page[page.index('<details id="researchers">') :]
    assert "nats" not in page[: -len(researchers)]


def test_measures_stand_by_distance_with_plain_words_and_shares_as_percent(record):
    page = with_music(record)
    table = page[page.index('<table class="measures">') :]
    rows = [row for row in table[: table.index("</table>")].split("<tr") if "<td" in row]
    assert [re.search("<b>(.*?)</b>", row)[1] for row in rows] == ["loops", "names", "few"]
    assert "loops in plain words" in rows[0]
    assert "<b>7.2&times;</b>" in rows[0]
    assert '<td class="n">25%</td><td class="n">50%</td>' in rows[0]
    assert "see the picture" in rows[1]
    assert "too few to tell" in rows[2]


def test_the_table_leaves_out_what_the_sentence_does_and_says_why(record):
    with_music(record)
    rows = [compared("duration", 9.0, aspect=None), *record["music"]["comparisons"]]
    record["music"] |= {"opening_bars": 7, "ended_by_themselves": 0.2, "comparisons": rows}
    page = page_of(record)
    table, distances = page[page.index('class="measures"') :].split("</table>", 1)
    assert "duration" not in table
    assert "<td>duration</td>" in distances
    assert "So length is not compared" in page
