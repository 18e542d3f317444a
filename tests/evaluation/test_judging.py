"""What generated pieces are set beside: the same grid, no prompts, no files learned from."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from making import TICKS, random_tokens, write_song, write_songs
from preparing import prepare

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data.shards import Pieces, StoredPiece, make_table
from seqgen.errors import UserError
from seqgen.evaluation import ngrams
from seqgen.evaluation.copying import report, runs
from seqgen.evaluation.copying.report import copied_notes, copied_tokens
from seqgen.evaluation.evaluate import judge_generated
from seqgen.evaluation.generated import GeneratedFile, read_generated
from seqgen.evaluation.music.comparison import compare_music, measure_sets
from seqgen.evaluation.music.definitions import GROWING
from seqgen.evaluation.piece_sets import PieceSet, Sets, folder_set, item_of, split_set
from seqgen.midi import Instrument, MidiFile, Note, open_midi

LIMITS = LimitsConfig()


def quiet(*_):
    return


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judging")
    write_songs(folder / "songs", 8, bars=6)
    settings = {"validation": 0.3, "test": 0.0, "workers": 1, "transpose": 1}
    place = {"source": str(folder / "songs"), "prepared_dir": str(folder / "prepared")}
    return prepare(DataConfig(**place, **settings), LIMITS, TokenizerConfig()).data


def generated(path, data, **record):
    """A generated file, with a record where there is something to say."""
    path.with_suffix(".json").write_text(json.dumps(record))
    options = {"folder": path.parent, "tokenizer": data.tokenizer, "progress": quiet}
    return read_generated([path], **options)[0]


def read_item(data, path):
    vocabulary = data.tokenizer.vocabulary
    bos = vocabulary.special_token(vocabulary.bos_id)[None]
    ids = np.concatenate([bos, data.tokenizer.encode(path)])
    return item_of(path.name, ids, path, data.tokenizer)


def songs_of(data):
    """Where the songs are that prepared data were made of."""
    return next(place for place in data.folder.parents if (place / "songs").is_dir()) / "songs"


def sets_of(data, tmp_path):
    """The run's own validation beside another file."""
    other = write_song(tmp_path / "other.mid", seed=99, bars=6)
    own = split_set(data, "validation", max_targets=10**6, progress=quiet)
    return Sets(None, (PieceSet("songs", (read_item(data, other),), 1), own))


@pytest.mark.parametrize("max_targets", [10**6, 20])
def test_files_that_were_learned_from_are_left_out_also_where_they_would_be_cut(
    data, tmp_path, max_targets
):
    (tmp_path / "both").mkdir()
    known = data.of_split("train")
    for piece in known[:2]:
        shutil.copy(songs_of(data) / piece.file, tmp_path / "both")
    choices = {
        "cache": tmp_path,
        "max_targets": max_targets,
        "known": {piece.file_hash for piece in known},
        "progress": quiet,
    }
    with pytest.raises(UserError, match=r"trained on all files in it \(2\)"):
        folder_set(str(tmp_path / "both"), data.tokenizer, **choices)
    write_song(tmp_path / "both/other.mid", seed=99, bars=6)
    found = folder_set(str(tmp_path / "both"), data.tokenizer, **choices)
    assert [item.name for item in found.items] == ["other.mid"]
    assert found.n_known == 2


def test_limits_of_copying_come_from_the_own_split_and_music_from_the_files(data, tmp_path):
    sets = sets_of(data, tmp_path)
    piece = generated(write_song(tmp_path / "made.mid", seed=5, bars=6), data)
    run = SimpleNamespace(loaded=SimpleNamespace(tokenizer=data.tokenizer))
    parts, material = judge_generated(run, [piece], sets, data=data, seed=0, progress=quiet)
    names = [p["name"] for p in parts["copying"]["notes"]["held_out"]["pieces"]]
    assert names == [item.name for item in sets.held_out[1].items]
    assert parts["copying"]["baseline"] == "validation"
    assert [name for name, _ in material.held_out] == ["other.mid"]
    assert len(material.real) == 1
    json.dumps(parts)


def test_a_prompt_is_not_counted_as_copied(data, tmp_path):
    source = write_song(tmp_path / "a.mid", seed=1, bars=6, tempo=120.0)
    begins = 2 * 4 * 60 / 120  # seconds of two bars
    plain = generated(source, data)
    cut = generated(source, data, prompt="x.mid", prompt_seconds=begins)
    count = [sum(len(t.notes) for t in m.instruments) for m in (plain.drawn_midi, cut.drawn_midi)]
    assert count[1] == pytest.approx(count[0] * 4 / 6, abs=2)
    first = min(n.start for t in cut.drawn_midi.instruments for n in t.notes)
    assert first >= 8 * cut.drawn_midi.ticks_per_beat
    assert cut.token_midi == plain.token_midi
    assert len(cut.drawn_ids) < len(plain.drawn_ids)
    unknown = generated(source, data, prompt="x")
    assert unknown.drawn_ids is None
    found = copied_tokens([unknown, plain], [], data, progress=quiet)
    assert [p["name"] for p in found["generated"]["pieces"]] == ["a.mid"]
    (left_out,) = found["not_compared"]
    assert "prompt" in left_out["reason"]


def test_generated_files_pass_through_the_tokens(data, tmp_path):
    midi = MidiFile(ticks_per_beat=TICKS)
    midi.instruments = [Instrument(0)]
    midi.instruments[0].notes = [Note(80, 60 + i, i * TICKS + 7, (i + 1) * TICKS) for i in range(8)]
    path = tmp_path / "off.mid"
    midi.dump(str(path))
    found = generated(path, data).token_midi
    starts = [note.start for track in found.instruments for note in track.notes]
    grid = found.ticks_per_beat / data.tokenizer.config.positions_per_beat
    assert len(starts) == 8
    assert all(start % grid == 0 for start in starts)


class Drums:
    """Prepared data whose pieces hold drums alone."""

    class Tokenizer:
        suffix, preview = ".mid", staticmethod(open_midi)

        def decode(self, ids, path):
            midi = MidiFile(ticks_per_beat=TICKS)
            midi.instruments = [Instrument(0, is_drum=True, notes=[Note(80, 36, 0, TICKS)])]
            midi.dump(str(path))

    tokenizer = Tokenizer()

    def of_split(self, split):
        return [StoredPiece("a.mid", split, "", 1, ((0, 3),))]

    def read(self, piece, *, variant=0):
        return np.array([[1], [5], [2]])


def test_without_pitched_training_notes_there_is_a_reason_and_no_crash():
    said = copied_notes([], [], Drums(), progress=quiet)
    assert "none but drums" in said


def test_transposed_pieces_are_indexed_while_there_is_room(data, monkeypatch):
    training = data.of_split("train")
    plain = sum(piece.variants[0][1] for piece in training)
    every = copied_tokens([], [], data, progress=quiet)
    monkeypatch.setattr(report, "MOST_TOKENS", plain + 1)
    few = copied_tokens([], [], data, progress=quiet)
    assert every["variants"]["indexed"] == every["variants"]["of"] > len(training)
    assert few["variants"] == {"indexed": len(training), "of": every["variants"]["of"]}
    assert few["n_training"] == len(training)


def test_however_few_training_pieces_are_in_memory_the_same_copies_are_found(
    data, tmp_path, monkeypatch
):
    known = data.of_split("train")[0].file
    path = Path(shutil.copy(songs_of(data) / known, tmp_path / "copy.mid"))
    pieces = [generated(path, data), generated(write_song(tmp_path / "new.mid", seed=50), data)]
    whole = copied_notes(pieces, [], data, progress=quiet)
    assert whole["generated"]["pieces"][0]["closest"] == known
    monkeypatch.setattr(report, "KEPT", 1)
    monkeypatch.setattr(runs, "MOST_SYMBOLS", 1)
    assert copied_notes(pieces, [], data, progress=quiet) == whole


def test_ngram_models_choose_by_hash_and_tell_how_much(toy_vocabulary, monkeypatch):
    ids = random_tokens(toy_vocabulary, 3, 10).numpy()
    pieces = [StoredPiece(str(i), "train", h * 64, 0, ((i, 10),)) for i, h in enumerate("cab")]
    data = SimpleNamespace(
        of_split=lambda _: Pieces(make_table(pieces)),
        read=lambda piece, *, variant: ids[int(piece.file)],
    )
    monkeypatch.setattr(ngrams, "MAX_TRAINING_TOKENS", 20)
    found = ngrams.training_ids(data)
    np.testing.assert_array_equal(found, ids[[1, 2]])
    assert ngrams.counted_tokens(data) == {"tokens": 20, "of": 30}


def song(tmp_path, seed, bars):
    return open_midi(write_song(tmp_path / f"{seed}.mid", seed=seed, bars=bars), LIMITS)


def made(midi, *, ended):
    return GeneratedFile(Path("made.mid"), record={"ended_by_itself": ended}, token_midi=midi)


def test_cut_pieces_are_compared_in_openings_of_as_many_bars(tmp_path):
    pieces = [made(song(tmp_path, i, 5), ended=False) for i in range(6)]
    real = [song(tmp_path, 10 + i, 30) for i in range(12)]
    ours, theirs, n_bars = measure_sets(pieces, real, progress=quiet)
    assert n_bars == 4  # the last bar of a cut piece may be a part of one
    assert {m["n_bars"] for m in (*ours, *theirs)} == {4}
    record = compare_music(ours, theirs, seed=0, of="validation", opening_bars=n_bars)
    (found,) = [c for c in record["comparisons"] if c["name"] == "recurring_bars"]
    assert found["verdict"] != "beyond"
    aspects = {c["name"]: c["aspect"] for c in record["comparisons"]}
    assert [aspects[name] for name in ("n_notes", "n_bars", "seconds")] == [None] * 3
    assert {c["name"] for c in record["comparisons"] if c["in_openings"]} == set(GROWING)
    ended = [made(piece.token_midi, ended=True) for piece in pieces]
    ours, whole, none = measure_sets(ended, real, progress=quiet)
    record = compare_music(ours, whole, seed=0, of="validation", opening_bars=none)
    assert {c["aspect"] for c in record["comparisons"] if c["name"] == "n_notes"} == {"length"}
    assert none is None
    assert {m["n_bars"] for m in whole} == {30}


def test_a_cut_piece_shorter_than_the_openings_has_no_value_for_what_grows(tmp_path):
    bars = (3, 9, 9, 9, 9)
    pieces = [made(song(tmp_path, i, n), ended=False) for i, n in enumerate(bars)]
    ours, _, n_bars = measure_sets(pieces, [], progress=quiet)
    assert n_bars == 8
    assert ours[0]["recurring_bars"] is None
    assert ours[0]["polyphony"] is not None
