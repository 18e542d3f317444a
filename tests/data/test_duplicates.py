"""Files that share most of their notes are found, whatever they look like, and split together.

Legend: songs are lists of tracks, tracks are lists of (start, end, pitch) in ticks.
"""

import json
import random
from collections import Counter

import pytest
from making import TICKS, write_song
from preparing import prepare as prepare_shared

from seqgen.config import DataConfig, LimitsConfig, TokenizerConfig
from seqgen.data import duplicates, prepare
from seqgen.data.duplicates import find_duplicates
from seqgen.data.shards import Pieces, StoredPiece, make_table
from seqgen.data.splits import SPLITS, TRAIN, content_hash, split_of
from seqgen.midi import Instrument, MidiFile, Note, open_midi
from seqgen.tokenizers.midi.sketch import sketch_of

BAR = 4 * TICKS


def random_song(seed, *, n_bars=24):
    """A melody of quavers, some longer, above chords of two to a bar, all in C major."""
    rng = random.Random(seed)
    melody, chords, start = [], [], 0
    while start < n_bars * BAR:
        length = rng.choice([TICKS // 2, TICKS // 2, TICKS])
        melody.append((start, start + length, rng.choice([67, 69, 71, 72, 74, 76, 77, 79])))
        start += length
    for start in range(0, n_bars * BAR, BAR // 2):
        root = rng.choice([48, 50, 52, 53, 55, 57])
        chords += [(start, start + BAR // 2, root + step) for step in (0, 4, 7)]
    return [melody, chords]


def moved(song, *, pitch=0, time=0, after=0):
    return [
        [(s + time * (s >= after), e + time * (s >= after), p + pitch) for s, e, p in track]
        for track in song
    ]


def merged(song):
    return [sorted(note for track in song for note in track)]


def edited(song, *, share, seed):
    """Leave out half of a share of the notes, and change the pitch of the other half."""
    rng, tracks = random.Random(seed), []
    for track in song:
        kinds = rng.choices(
            ["kept", "gone", "other"], [1 - share, share / 2, share / 2], k=len(track)
        )
        pairs = zip(track, kinds, strict=True)
        tracks.append(
            [(s, e, p + (kind == "other")) for (s, e, p), kind in pairs if kind != "gone"]
        )
    return tracks


def sketch(song, *, ticks=TICKS, is_drum=False):
    midi = MidiFile(ticks_per_beat=ticks)
    midi.instruments = [Instrument(10 * i, is_drum=is_drum) for i in range(len(song))]
    for instrument, track in zip(midi.instruments, song, strict=True):
        for start, end, pitch in track:
            times = (start * ticks // TICKS, end * ticks // TICKS)
            instrument.notes.append(Note(70, pitch, *times))
    return sketch_of(midi)


@pytest.fixture(autouse=True)
def folder(tmp_path_factory):
    """Where what is too large for memory would lie."""
    global FOLDER
    FOLDER = tmp_path_factory.mktemp("runs")


def grouped(*sketches):
    return find_duplicates(sketches, FOLDER).tolist()


def are_duplicates(first, second):
    return grouped(first, second) == [0, 0]


@pytest.mark.parametrize(
    "change",
    [
        lambda song: sketch(song, ticks=96),
        lambda song: sketch(song[::-1]),
        lambda song: sketch(merged(song)),
        lambda song: sketch(moved(song, pitch=-5)),
        lambda song: sketch(moved(song, time=3 * BAR)),
        lambda song: sketch(moved(song, time=BAR, after=12 * BAR)),
        lambda song: sketch([[note for note in track if note[0] >= 10 * BAR] for track in song]),
        lambda song: sketch(song[:1]),
        lambda song: sketch(song[1:]),
        lambda song: sketch(moved(song[1:], pitch=7)),
        lambda song: sketch(edited(song, share=0.1, seed=0)),
        lambda song: sketch([*song, random_song(99)[0]]),
    ],
    ids=[
        "another resolution",
        "another order of tracks",
        "merged tracks",
        "another key",
        "a later beginning",
        "a bar more in the middle",
        "an excerpt",
        "the melody",
        "the chords",
        "the chords in another key",
        "edits",
        "another voice",
    ],
)
def test_the_same_tune_is_found_in(change):
    for seed in range(5):
        song = random_song(seed)
        assert are_duplicates(sketch(song), change(song))
        assert not are_duplicates(sketch(random_song(seed + 50)), change(song))


@pytest.mark.parametrize("part", [0, 1], ids=["melody", "chords"])
def test_a_part_is_found_in_a_file_of_merged_tracks(part):
    for seed in range(5):
        song = random_song(seed)
        assert are_duplicates(sketch([song[part]]), sketch(merged(song)))


def test_different_pieces_of_one_style_are_not_grouped():
    songs = [random_song(seed) for seed in range(40)]
    parts = [part for song in songs for part in (song[:1], song[1:])]
    for pieces in (songs, parts):
        assert grouped(*map(sketch, pieces)) == list(range(len(pieces)))


def test_short_files_loops_and_drums_are_not_grouped():
    song = random_song(0)
    few = sketch([song[0][:31]])
    loop = sketch([[(i * TICKS, (i + 1) * TICKS, 60 + i % 4) for i in range(200)]])
    drums, empty = sketch(song, is_drum=True), sketch([])
    for alike in (few, loop, drums, empty):
        assert not are_duplicates(alike, alike)


def test_groups_do_not_depend_on_the_order_of_files_and_how_many_fit_in_memory(monkeypatch):
    songs = [random_song(seed) for seed in range(6)]
    sketches = [*map(sketch, songs), *(sketch(song[:1]) for song in songs)]
    assert grouped(*sketches) == [*range(6)] * 2
    assert grouped(*reversed(sketches)) == [*range(6)] * 2
    monkeypatch.setattr(duplicates, "AT_A_TIME", 100)
    assert grouped(*sketches) == [*range(6)] * 2
    assert not list(FOLDER.iterdir())


def test_a_large_group_is_found_whole():
    song = random_song(0)
    sketches = [sketch(edited(moved(song, pitch=i % 12), share=0.1, seed=i)) for i in range(60)]
    assert grouped(*sketches) == [0] * 60


def test_groups_are_held_out_as_often_as_files():
    song = random_song(0, n_bars=12)
    alike = [sketch(song), sketch(song[:1]), sketch(song[1:])]
    n_held_out = 0
    for i in range(100):
        hashes = [content_hash(f"{i} {part}".encode()) for part in range(3)]
        pieces = Pieces(make_table(StoredPiece(h, TRAIN, h, 1, ((0, 1),)) for h in hashes))
        (leader,) = set(prepare._groups(pieces, {}, lambda _: alike, FOLDER).tolist())
        n_held_out += split_of(hashes[leader], validation=0.1, test=0.1) != TRAIN
    assert abs(n_held_out / 100 - 0.2) < 0.1


def test_nothing_is_found_in_nothing():
    assert grouped() == []


@pytest.fixture
def tunes(tmp_path):
    """Write full tunes, and their tracks in two folders of their own."""
    folder = tmp_path / "tunes"
    for seed in range(12):
        path = write_song(folder / f"{seed}.mid", seed=seed, bars=16)
        for i, part in enumerate(("melody", "chords")):
            midi = open_midi(path)
            midi.instruments = [midi.instruments[i]]
            (folder / part).mkdir(exist_ok=True)
            midi.dump(str(folder / part / f"{seed}.mid"))
    return folder


def make(source, **settings):
    place = str(source.parent / "prepared")
    shares = {"validation": 0.2, "test": 0.2}
    config = DataConfig(source=str(source), prepared_dir=place, workers=1, **shares, **settings)
    return prepare_shared(config, LimitsConfig(), TokenizerConfig()).data


def splits_of_tunes(data):
    splits = {}
    for piece in data.pieces:
        splits.setdefault(piece.file.split("/")[-1], set()).add(piece.split)
    return splits


def test_parts_of_one_tune_are_in_one_split_and_reported(tunes):
    data = make(tunes, transpose=1)
    splits = splits_of_tunes(data)
    assert all(len(of_tune) == 1 for of_tune in splits.values())
    assert set.union(*splits.values()) == set(SPLITS)
    assert {len(piece.variants) for piece in data.of_split(TRAIN)} == {3}
    lines = (data.folder / "near-duplicates.jsonl").read_text().splitlines()
    groups = [json.loads(line) for line in lines]
    assert Counter(map(len, groups)) == {3: 12}
    assert ["0.mid", "chords/0.mid", "melody/0.mid"] in [sorted(group) for group in groups]


def test_grouping_can_be_switched_off(tunes):
    data = make(tunes, group_duplicates=False)
    assert any(len(of_tune) > 1 for of_tune in splits_of_tunes(data).values())
    report = json.loads((data.folder / "report.json").read_text())
    assert report["near_duplicates"] == {"groups": 0, "files": 0}


def test_a_corpus_of_one_tune_is_cut_file_by_file(tunes):
    for path in [*tunes.glob("*.mid"), *tunes.glob("*/*.mid")]:
        if path.name != "3.mid":
            path.unlink()
    data = make(tunes)
    assert Counter(piece.split for piece in data.pieces) == dict.fromkeys(SPLITS, 3)
    assert len({piece.file for piece in data.pieces}) == 9
