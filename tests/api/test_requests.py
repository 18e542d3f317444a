"""What is asked of a model: files change where they should and nowhere else, and say what came."""

import random
from dataclasses import replace
from itertools import pairwise

import mido
import numpy as np
import pytest
from making import TICKS, write_band

from seqgen.api.model import load
from seqgen.api.picking import Picking, nats_per_unit
from seqgen.api.prompts import read_prompts
from seqgen.api.requests import Editing, guidance_of, plan_edit, plan_pieces
from seqgen.checkpoint import save_model
from seqgen.config import DataConfig, LimitsConfig, ModelConfig, TokenizerConfig
from seqgen.errors import UserError
from seqgen.evaluation.asked import read_bars
from seqgen.midi import TempoChange, TimeSignature, open_midi
from seqgen.model.sequence_model import SequenceModel
from seqgen.tasks import with_marks
from seqgen.tasks.asking import find_parts
from seqgen.tasks.harmony import key_of
from seqgen.tokenizers import build_tokenizer, settled

TRACKS = {"parts": "tracks", "part_names": ["0", "33", "40", "drums"], "use_time_signatures": True}
TRACKS |= {"use_tempos": True, "use_velocities": True, "positions_per_beat": 12}
BAR = 4 * TICKS
TASKS = {"continue": 1.0, "infill": 1.0, "accompany": 1.0}


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    """A band whose notes are off the grid, with notes that are held over bar lines."""
    path = write_band(tmp_path_factory.mktemp("song") / "song.mid", bars=8)
    midi, rng = open_midi(path), random.Random(0)
    for track in midi.instruments:
        for note in track.notes:
            note.start += rng.randint(0, 15)
            note.end += rng.randint(20, 3 * TICKS) if rng.random() < 0.2 else rng.randint(20, 30)
    midi.dump(str(path))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that has learned nothing, with tokens for all tasks and controls."""
    data = DataConfig(tasks=TASKS, controls=["all"])
    config = with_marks(settled(TokenizerConfig(**TRACKS)), data)
    levels = {"levels": {"density": [1.0, 2.0, 4.0, 8.0], "register": [40.0, 50.0, 60.0, 70.0]}}
    tokenizer = build_tokenizer(config.model_copy(update=levels), LimitsConfig())
    sequence_model = SequenceModel(
        ModelConfig(d_model=16, n_layers=1, n_heads=2), tokenizer.vocabulary
    )
    folder = tmp_path_factory.mktemp("model")
    save_model(folder / "model", sequence_model, tokenizer, step=0, context_length=256)
    return load(folder)


def notes_of(path):
    """The notes of each instrument: (start, end, pitch, velocity)."""
    found = {}
    for track in open_midi(path).instruments:
        key = "drums" if track.is_drum else str(track.program)
        notes = {(n.start, n.end, n.pitch, n.velocity) for n in track.notes}
        found[key] = found.get(key, set()) | notes
    return found


def inside(notes, first, last):
    """Those that begin in bars first … last of 4/4, counted from 1."""
    begin, end = (first - 1) * 4 * TICKS, last * 4 * TICKS
    return {note for note in notes if begin <= note[0] < end}


def overlaps(notes):
    """How often two notes of one key sound at the same time."""
    by_pitch = {}
    for start, end, pitch, _ in sorted(notes):
        by_pitch.setdefault(pitch, []).append((start, end))
    return sum(a[1] > b[0] for one in by_pitch.values() for a, b in pairwise(one))


@pytest.mark.parametrize("seed", range(6))
def test_what_is_rewritten_changes_inside_its_bars_alone(tmp_path, model, song, seed):
    rng = random.Random(seed)
    first = rng.randint(1, 8)
    last = rng.randint(first, 8)
    tracks = rng.choice([None, "piano", "bass,drums", "40"])
    [piece] = model.edit(song, rewrite=f"{first}-{last}", tracks=tracks, seed=seed, max_tokens=60)
    before, after = notes_of(song), notes_of(piece.save(tmp_path / "new.mid"))
    names = {None: set(before), "piano": {"0"}, "bass,drums": {"33", "drums"}, "40": {"40"}}[tracks]
    for name, notes in before.items():
        kept = notes - (inside(notes, first, last) if name in names else set())
        assert kept == after.get(name, set()) - inside(after.get(name, set()), first, last) | (
            inside(kept, first, last)
        )
        if name not in names:
            assert after[name] == notes
        assert overlaps(after.get(name, set())) <= overlaps(kept)


def test_tempo_and_metre_stay_where_the_first_notes_go(tmp_path, model, song):
    """Also where bars before a change are silent then."""
    midi = open_midi(song)
    midi.tempo_changes = [TempoChange(90, 0), TempoChange(140, 2 * BAR)]
    midi.time_signature_changes = [TimeSignature(4, 4, 0), TimeSignature(3, 4, 3 * BAR)]
    midi.dump(str(tmp_path / "song.mid"))
    [piece] = model.edit(tmp_path / "song.mid", rewrite="1-3", max_tokens=10)
    silent = replace(piece, tokens=piece.tokens[:0])
    file = mido.MidiFile(silent.save(tmp_path / "new.mid"))
    assert min(n[0] for notes in notes_of(tmp_path / "new.mid").values() for n in notes) >= 3 * BAR
    found, now = [], 0
    for message in file.tracks[0]:
        now += message.time
        if message.type == "set_tempo":
            found.append((now, round(mido.tempo2bpm(message.tempo))))
        elif message.type == "time_signature":
            found.append((now, f"{message.numerator}/{message.denominator}"))
    assert set(found) == {(0, 90), (2 * BAR, 140), (0, "4/4"), (3 * BAR, "3/4")}


def test_bars_that_the_tokens_count_in_another_way_are_refused(tmp_path, song):
    """Four bars of 3/4 end where three of 4/4 do: these are not the bars that were asked for."""
    config = settled(TokenizerConfig(**TRACKS | {"use_time_signatures": False}))
    tokenizer = build_tokenizer(with_marks(config, DataConfig(tasks=TASKS)), LimitsConfig())
    midi = open_midi(song)
    midi.time_signature_changes = [TimeSignature(3, 4, 0)]
    midi.dump(str(tmp_path / "waltz.mid"))
    for bars in ("1-3", "4-6"):
        editing = Editing(str(tmp_path / "waltz.mid"), rewrite=bars)
        with pytest.raises(UserError, match="its bars are not those"):
            plan_edit(tokenizer, editing, {}, n_rows=1, seed=0, context_length=256)


def test_a_tempo_is_never_drawn_in_bars_of_a_file(model, song):
    drawn = [
        token
        for seed in range(4)
        for [piece] in [model.edit(song, rewrite="2-7", seed=seed, max_tokens=60)]
        for token in piece.tokens[:, 0]
    ]
    names = model.tokenizer.names()
    assert len(drawn) > 500
    assert not any(names[token].startswith("Tempo") for token in drawn)


def test_variation_leaves_the_share_of_bars_that_it_should(tmp_path, model, song):
    [piece] = model.edit(song, vary="2-5", amount=0.25, seed=3, max_tokens=60)
    places = piece.prompt.original.places
    assert len(places) == 4  # of four bars and four parts
    before, after = notes_of(song), notes_of(piece.save(tmp_path / "new.mid"))
    for name, notes in before.items():
        for bar in range(1, 9):
            is_place = any(p == name and b == (bar - 1) * 4 for p, b, _ in places)
            if not is_place:
                assert inside(after[name], bar, bar) == inside(notes, bar, bar)


def test_an_added_part_leaves_the_others_as_they_are(tmp_path, model, song):
    midi = open_midi(song)
    midi.instruments = [track for track in midi.instruments if track.program == 40]
    midi.dump(str(tmp_path / "melody.mid"))
    [piece] = model.edit(tmp_path / "melody.mid", add="bass, drums", seed=1, max_tokens=60)
    before = notes_of(tmp_path / "melody.mid")
    after = notes_of(piece.save(tmp_path / "new.mid"))
    assert after["40"] == before["40"]
    assert set(after) <= {"40", "33", "drums"}


def test_bars_are_as_many_as_are_asked_for_and_in_their_metre(tmp_path, model):
    pieces = model.generate(
        asked={"key": "Am", "chords": "Am F", "density": "low", "instruments": "piano"},
        metre="4/4",
        bars=3,
        samples=2,
        max_tokens=20_000,
        seed=2,
    )
    for i, piece in enumerate(pieces):
        assert piece.ended
        path = piece.save(tmp_path / f"{i}.mid")
        assert open_midi(path).max_tick <= (3 + 16) * 4 * TICKS
        tokens = np.concatenate([piece.prompt.ids, piece.tokens])
        assert (tokens == model.tokenizer.bar).sum() == 4  # with the one that ended it
        found = {finding.name: finding for finding in piece.findings(path)}
        assert set(found) == {"bars", "metre", "key", "chords", "density", "instruments"}
        assert found["metre"].met == 1


def test_a_prompt_goes_on_as_it_is(tmp_path, model, song):
    [piece] = model.generate(song, prompt_bars=3, asked={"key": "C"}, bars=2, max_tokens=5000)
    before, after = notes_of(song), notes_of(piece.save(tmp_path / "new.mid"))
    for name, notes in before.items():
        starts = {(n[0], n[2]) for n in inside(notes, 1, 3)}
        assert starts == {(n[0], n[2]) for n in inside(after[name], 1, 3)}


def test_a_continuation_keeps_the_key_and_the_instruments_of_its_prompt(tmp_path, model, song):
    """Unless something else is asked for, or nothing: what is kept is that of the last bars."""
    options = {"bars": 2, "max_tokens": 512}
    bars = [bar for _, bar in read_bars(open_midi(song))]
    kept = {"key": key_of(note for bar in bars[-8:] for note in bar.notes)}
    kept["instruments"] = "0,33,40,drums"

    def asked(**words):
        [piece] = model.generate(song, asked=words or None, alternatives=1, **options)
        found = piece.findings(piece.save(tmp_path / f"{len(words)}-{words.get('key')}.mid"))
        return {one.name: one.asked for one in found if one.name != "bars"}

    assert asked() == kept
    assert asked(key="Am", density="same") == kept | {"key": "Am", "density": "high"}
    assert asked(key="-") == {"instruments": kept["instruments"]}
    words = {"key": "same", "density": "-"}  # of the bars before those that are written anew
    [piece] = model.edit(song, rewrite="3", asked=words, alternatives=1, max_tokens=60)
    [found] = piece.findings(piece.save(tmp_path / "edited.mid"))
    key = key_of(note for bar in bars[:2] for note in bar.notes)
    assert (found.name, found.asked) == ("key", key)
    with pytest.raises(UserError, match="--key same: as in what"):
        model.generate(asked={"key": "same"})
    with pytest.raises(UserError, match="chords change"):
        model.generate(song, asked={"chords": "same"})


def test_a_role_means_its_part_and_not_the_first_of_that_instrument():
    parts = ["0.melody", "0.piano", "0", "33"]
    assert find_parts("piano", parts, option="--tracks") == ["0.piano"]
    assert find_parts("bass", parts, option="--tracks") == ["33"]
    # The second piano is called "2" for short, and so is the third program in full.
    assert find_parts("2", ["0", "0.2", "2"], option="--tracks") == ["2"]
    assert find_parts("2", ["0", "0.2"], option="--tracks") == ["0.2"]


def test_what_is_added_is_a_part_that_the_file_lacks(tmp_path, song):
    tokens = {**TRACKS, "part_names": ["0", "0.2", "33", "40", "drums"]}
    config = with_marks(settled(TokenizerConfig(**tokens)), DataConfig(tasks=TASKS))
    tokenizer = build_tokenizer(config, LimitsConfig())
    options = {"n_rows": 1, "seed": 0, "context_length": 256}
    asking = plan_edit(tokenizer, Editing(str(song), add="piano"), {}, **options)
    assert {part for part, _, _ in asking.prompts[0].original.places} == {"0.2"}


def test_guidance_compares_with_a_stream_that_knows_which_bar_is_the_last(model, song):
    prompts = read_prompts([str(song)], model.tokenizer, bars=4)
    asking = plan_pieces(model.tokenizer, prompts, {"key": "Am"}, bars=3)
    names = model.tokenizer.names()
    for number in range(3):
        told, free = (
            [name for name in (names[i] for i in request.opening(number)) if "Held_" in name]
            for request in (asking.requests[0], asking.free[0])
        )
        assert free == [f"Held_bars.{3 - number}"]
        assert told == ([] if number else ["Held_key.Am"]) + free


def test_what_is_asked_weighs_more_by_default_and_what_is_only_kept_does_not(
    model, song, monkeypatch
):
    assert guidance_of(None, {"key": "Am", "density": None}) == 2.0
    assert guidance_of(1.5, {"key": "Am"}) == 1.5
    assert guidance_of(None, {"key": "-", "density": None}) == guidance_of(None, {}) == 1.0
    monkeypatch.setattr("seqgen.api.requests.GUIDANCE", 100.0)  # so that little learned shows
    options = {"prompt": song, "prompt_bars": 4, "bars": 1, "max_tokens": 30, "seed": 3}
    [kept], [plain] = model.generate(**options), model.generate(guidance=1, **options)
    assert np.array_equal(kept.tokens, plain.tokens)
    options |= {"asked": {"key": "Am"}, "alternatives": 1}
    [asked], [more] = model.generate(**options), model.generate(guidance=100, **options)
    assert np.array_equal(asked.tokens, more.tokens)
    [once] = model.generate(guidance=1, **options)
    assert not np.array_equal(once.tokens, more.tokens)


def test_guidance_without_anything_asked_or_without_sense_is_refused(model, song):
    for call in (model.generate, lambda **options: model.edit(song, rewrite="2", **options)):
        with pytest.raises(UserError, match="guidance weighs what is asked for"):
            call(guidance=2.0)
        with pytest.raises(UserError, match="ask for chords or a density too"):
            call(tries=3, asked={"key": "Am"})
        with pytest.raises(UserError, match="tries 0: must be 1 or more"):
            call(tries=0, asked={"density": "low"})
    for scale in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="must be 0 or more"):
            model.generate(asked={"key": "Am"}, guidance=scale)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vary": "2", "amount": 1.5}, "above 0, at most 1"),
        ({"vary": "2", "amount": 0.0}, "above 0, at most 1"),
        ({"rewrite": "9"}, "has bars 1 to 8"),
        ({"rewrite": "5-3"}, "has bars 1 to 8"),
        ({"rewrite": "one"}, "write bars as in"),
        ({"rewrite": "2", "tracks": "tuba"}, "no part called 'tuba'"),
        ({"add": "drums"}, "has Drums already"),
        ({"add": "kazoo"}, "no part called 'kazoo'"),
        ({"rewrite": "2", "asked": {"key": "H"}}, "is no key"),
        ({"rewrite": "2", "asked": {"chords": "Am Xy"}}, "'Xy' is no chord"),
        ({"rewrite": "2", "asked": {"density": "loud"}}, "must be one of"),
        ({}, "one of rewrite, vary and add"),
    ],
)
def test_what_cannot_be_done_is_said(model, song, options, said):
    with pytest.raises(UserError, match=said):
        model.edit(song, **options)


def test_alternatives_that_meet_most_are_kept_and_of_equal_ones_the_likeliest(model, tmp_path):
    options = {"asked": {"density": "high low"}, "bars": 2, "max_tokens": 200, "seed": 1}
    drawn = model.generate(samples=8, alternatives=8, **options)
    ranks = {}
    for k, piece in enumerate(drawn):
        found = piece.findings(piece.save(tmp_path / f"{k}.mid"))
        met = sum(finding.met for finding in found) / len(found)
        given = piece.prompt.ids
        nats = nats_per_unit(model.model, model.tokenizer, given, piece.tokens)
        ranks[piece.tokens.tobytes()] = (-met, nats)
    assert len({met for met, _ in ranks.values()}) < len(ranks)  # some are equal
    best = sorted(drawn, key=lambda piece: ranks[piece.tokens.tobytes()])[:2]
    kept = model.generate(samples=2, alternatives=8, **options)
    assert [piece.tokens.tolist() for piece in kept] == [piece.tokens.tolist() for piece in best]


@pytest.mark.parametrize(
    ("asked", "tries", "given", "expected"),
    [
        ({"key": "Am"}, None, (None, 2, None), ("asked", 2, 8)),
        ({"key": "Am"}, None, (None, 2, 5), ("asked", 2, 5)),
        ({"key": "Am", "chords": "Am"}, 4, ("likeliest", 2, None), ("likeliest", 2, 8)),
        ({"chords": "Am F", "key": "-"}, None, (None, 2, None), ("asked", 2, 2)),
        ({"chords": "Am F"}, None, ("most-different", 2, None), ("most-different", 2, 8)),
        ({"density": "low"}, 1, (None, 2, None), ("asked", 2, 8)),
        ({"key": None}, None, (None, 2, None), ("likeliest", 2, 2)),
    ],
)
def test_alternatives_are_drawn_for_what_is_asked_of_whole_pieces(asked, tries, given, expected):
    assert Picking.choose(*given, asked, tries=tries) == Picking(*expected)


def test_picking_by_what_was_asked_needs_something_asked(model):
    with pytest.raises(UserError, match="nothing is asked for"):
        model.generate(alternatives=4, pick="asked")
