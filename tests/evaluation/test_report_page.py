"""The page: whole in one file, nothing of a file's name is markup, each number with its scale."""

import base64
import re

import pytest

from seqgen.evaluation.page import Picture, render

EVIL = '<img src="http://example.org/x">&"\'.mid'


def value(x):
    return {"value": x, "low": x - 0.1, "high": x + 0.1}


def entry(name, kind, form="windows"):
    return {
        "name": name,
        "kind": kind,
        "form": form,
        "nats_per_token": value(1.234),
        "bits_per_token": value(1.78),
        "nats_by_field": {"family": 0.4, "pitch": 0.834},
        "bits_per_note": value(4.56),
        "bits_per_second": None,
        "bits_per_byte": None,
    }


def part():
    forms = {"agree": True, "targets": 10, "pieces": 1, "largest_difference_nats": 1e-6}
    return {
        "name": "validation",
        "label": "validation",
        "is_split": True,
        "pieces": 1,
        "available": 2,
        "targets": 10,
        "counted_in": "tokens",
        "notes": 5,
        "notes_in_tokens": 5,
        "seconds": 3.0,
        "bytes": 0,
        "skipped": [{"file": EVIL, "reason": EVIL}],
        "training_files_among_them": 0,
        "models": [
            entry("run", "own"),
            entry("run", "own", "whole pieces"),
            entry("bigram", "counts", "whole pieces"),
        ],
        "forms": forms,
        "best_count": None,
        "gap": None,
        "beside": [],
    }


@pytest.fixture
def record():
    fields = [["family", 12], ["pitch", 20]]
    tokenizer = {"type": "compound", "fingerprint": "f", "unit": "note", "fields": fields}
    model = dict.fromkeys(("n_layers", "d_model", "n_heads", "input_window", "positions"), 1)
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
            "no_count_models": "",
            "training": None,
            "beside": [],
            "sets": [part()],
        },
        "train_beside": "python cli.py train",
        "music": {"left_out": "no music"},
        "copying": {"left_out": "no copies"},
        "validity": {"left_out": "no files"},
        "samples": [{"file": EVIL, "problem": EVIL, "ended_by_itself": None}],
        "generated": {"folder": EVIL, "files": 1, "not_written": [EVIL], "settings": {}},
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
            "sentences": [{"tone": "bad", "text": EVIL}],
        },
    }


def page_of(record):
    picture = Picture("<svg>light</svg>", "<svg>dark</svg>", EVIL, EVIL)
    kinds = ("curves", "position", "distributions", "runs", "samples")
    return render(record, {kind: [picture] for kind in kinds})


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
    assert page.count(f"{dark_source}{dark}") == 3  # music and copying are left out
    assert page.count(f'<img src="data:image/svg+xml;base64,{light}') == 3
    assert "@media (prefers-color-scheme: dark)" in page


def test_numbers_stand_with_their_scale_and_fields_apart(record):
    page = page_of(record)
    for said in ("nats per token", "bits per note", "1.234", "1.134 … 1.334", "4.56"):
        assert said in page
    assert "By field of a token" in page
    assert "0.834" in page
    assert "—" in page  # no bits per second, and no zero in their place
    assert "python cli.py train" in page


def test_forms_that_disagree_are_loud(record):
    record["likelihood"]["sets"][0]["forms"]["agree"] = False
    assert "do NOT agree" in page_of(record)
