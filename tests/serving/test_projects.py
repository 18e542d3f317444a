"""Projects: versions are written, branched, edited, saved and found again."""

import pytest

pytest.importorskip("fastapi", reason="needs the extra `studio`")

import io
import json
import zipfile
from statistics import mean

from fastapi.testclient import TestClient
from studio_client import begun, finished, music_of, written

from seqgen.midi import open_midi
from seqgen.serving.app import build_app
from seqgen.serving.studio import Studio


def test_a_version_is_written_in_so_many_bars(client):
    project = begun(client)
    versions = written(client, project, samples=3, bars=3)
    for version in versions:
        assert len(version["piece"]["bars"]) - 1 == version["n_bars"] <= 3
        assert version["n_notes"] == len(version["piece"]["notes"]) > 0
        assert version["log_likelihood_bits"] < 0 < version["bits_per_note"]
        assert {note["kind"] for note in version["piece"]["notes"]} == {"written"}
    assert len({str(music_of(version["piece"])) for version in versions}) == 3


def test_the_same_seed_writes_the_same(client):
    project = begun(client)
    [first] = written(client, project, seed=11)
    [again] = written(client, project, seed=11)
    [other] = written(client, project, seed=12)
    assert music_of(first["piece"]) == music_of(again["piece"]) != music_of(other["piece"])


OPEN = {"key": "-", "instruments": "-"}  # as in the parent's tokens, whose states are kept


@pytest.mark.parametrize(("run", "asked"), [("band", OPEN), ("piano", {})])
def test_a_branch_is_the_same_from_a_kept_state_and_from_prefill(client, studio, run, asked):
    project = begun(client, run)
    [parent] = written(client, project, bars=6)
    assert parent["n_bars"] > 3
    request = {"parent": parent["id"], "from_bar": 3, "samples": 2, "seed": 5, "asked": asked}
    bookmarks = studio.runs.player(run).bookmarks
    found = []
    get = bookmarks.get
    bookmarks.get = lambda digest: found.append(get(digest)) or found[-1]
    kept = written(client, project, **request)
    assert None not in found
    bookmarks.clear()
    made = written(client, project, **request)
    assert found[-2:] == [None, None]
    assert [music_of(v["piece"]) for v in kept] == [music_of(v["piece"]) for v in made]


def test_a_branch_keeps_what_is_before_its_bar_line(client):
    project = begun(client)
    [parent] = written(client, project, bars=4)
    line = parent["piece"]["bars"][2]
    [child] = written(client, project, parent=parent["id"], from_bar=2, bars=3, seed=9)
    before = [note for note in music_of(parent["piece"]) if note[2] < line]
    notes = child["piece"]["notes"]
    starts = {n["start"] for n in notes if n["kind"] == "kept"}
    assert max(starts) < line <= min(n["start"] for n in notes if n["kind"] == "written")
    sounds = {(n["pitch"], n["start"]) for n in notes if n["kind"] == "kept"}
    assert sounds == {(pitch, start) for _, pitch, start, _, _ in before}


def test_a_version_goes_on_from_its_end_and_from_its_beginning(client):
    project = begun(client, "piano")
    [parent] = written(client, project)
    [longer] = written(client, project, parent=parent["id"], bars=2)
    assert longer["from_bar"] == parent["n_bars"]
    assert music_of(parent["piece"]) == music_of(longer["piece"])[: parent["n_notes"]]
    [anew] = written(client, project, parent=parent["id"], from_bar=0)
    assert all(note["kind"] == "written" for note in anew["piece"]["notes"])


def test_a_continuation_keeps_the_key_and_the_instruments(client, song):
    """As `generate --prompt` does: unless something else is asked for, or nothing."""
    project = begun(client)
    with song.open("rb") as file:
        parent = client.post(f"{project}/upload", files={"file": file}).json()["id"]

    def asked(parent=parent, **words):
        request = {"parent": parent, "asked": words, "alternatives": 1, "bars": 2}
        [version] = written(client, project, **request)
        found = version["findings"]
        return {one["what"]: one["asked"] for one in found if one["what"] != "bars"}

    kept = asked()
    assert kept["instruments"] == "0,33,40,drums"
    assert list(kept) == ["key", "instruments"]
    assert asked(key="Am") == kept | {"key": "Am"}
    assert asked(key="-") == {"instruments": kept["instruments"]}
    assert asked(**OPEN) == {}
    assert asked(parent=None) == {}
    [anew] = written(client, project, parent=parent, from_bar=0)
    assert anew["findings"] == []  # there are no bars before it


def test_what_is_kept_is_drawn_once_and_seen_while_it_is_written(client, song):
    project = begun(client)
    with song.open("rb") as file:
        parent = client.post(f"{project}/upload", files={"file": file}).json()["id"]
    messages = []
    for asked in ({}, {"key": "-"}, {"key": "Am"}):
        request = {"parent": parent, "asked": asked, "bars": 1}
        [version] = client.post(f"{project}/versions", json=request).json()
        messages.append(version["message"])
    assert messages == [None, None, "4 are drawn, to keep the best"]
    finished(client, project)
    settings = {s["name"]: s["open"] for s in client.get("/api/runs/band").json()["settings"]}
    assert {name for name, value in settings.items() if value == "-"} == {"key", "instruments"}


def test_an_upload_that_is_too_long_is_told_to_be_cut(client, song, monkeypatch):
    monkeypatch.setattr("seqgen.api.prompts.MAX_PROMPT_TOKENS", 10)
    with song.open("rb") as file:
        response = client.post(f"{begun(client)}/upload", files={"file": ("long.mid", file)})
    assert response.status_code == 400
    assert "long.mid" in response.json()["error"]
    assert "bring only its first bars" in response.json()["error"]


def test_an_upload_is_gone_on_from_as_it_is(client, song):
    project = begun(client)
    with song.open("rb") as file:
        response = client.post(f"{project}/upload", files={"file": file}, data={"bars": 2})
    version = response.json()
    assert response.status_code == 201
    assert version["n_bars"] == 2
    assert "2 bars" in version["report"]["sentences"][0]
    [child] = written(client, project, parent=version["id"])
    own = client.get(f"{project}/versions/{version['id']}").json()["piece"]
    assert child["piece"]["tempos"][0]["bpm"] == pytest.approx(87)
    given = [note for note in child["piece"]["notes"] if note["kind"] == "prompt"]
    assert {(n["pitch"], n["start"], n["velocity"]) for n in given} == {
        (n["pitch"], n["start"], n["velocity"]) for n in own["notes"]
    }


def test_a_bad_upload_is_one_sentence_and_leaves_nothing(client):
    project = begun(client)
    response = client.post(f"{project}/upload", files={"file": ("tune.mid", b"MThd no music")})
    assert response.status_code == 400
    assert response.json()["error"].startswith("cannot use tune.mid: ")
    assert client.get(project).json()["versions"] == []


def test_a_task_changes_its_bars_alone(client, song):
    project = begun(client)
    with song.open("rb") as file:
        parent = client.post(f"{project}/upload", files={"file": file}).json()
    own = client.get(f"{project}/versions/{parent['id']}").json()["piece"]
    request = {"parent": parent["id"], "task": "rewrite", "rewrite": "2-3", "tracks": ["piano"]}
    [child] = written(client, project, **request)
    begin, end = own["bars"][1], own["bars"][3]

    def outside(piece):
        names = [(t["program"], t["is_drum"]) for t in piece["tracks"]]
        return {
            (names[n["track"]], n["pitch"], n["start"], n["velocity"])
            for n in piece["notes"]
            if names[n["track"]] != (0, False) or not begin <= n["start"] < end
        }

    assert outside(own) == outside(child["piece"])
    inside = [n for n in child["piece"]["notes"] if n["kind"] == "written"]
    assert all(begin <= n["start"] < end for n in inside)


def test_bars_vary_and_parts_are_added(client, song):
    project = begun(client)
    with song.open("rb") as file:
        parent = client.post(f"{project}/upload", files={"file": file}).json()
    request = {"parent": parent["id"], "task": "vary", "rewrite": "1-4", "amount": 0.5}
    written(client, project, **request)
    notes = client.get(f"{project}/versions/{parent['id']}").json()["piece"]["notes"]
    melody = [note for note in notes if note["track"] == 1]
    edited = client.put(f"{project}/versions/{parent['id']}/notes", json={"notes": melody})
    request = {"parent": edited.json()["id"], "task": "add", "add": ["33"]}
    [child] = written(client, project, **request)
    kept = [note for note in child["piece"]["notes"] if note["kind"] != "written"]
    assert len(kept) == len(melody)


def test_what_is_asked_for_is_measured(client):
    project = begun(client)
    asked = {"key": "Am", "density": "low high"}
    versions = written(client, project, asked=asked, metre="3/4", samples=2)
    for version in versions:
        assert {f["what"] for f in version["findings"]} == {"bars", "metre", "key", "density"}
    [guided] = written(client, project, asked={"key": "Am"}, guidance=3.0)
    assert [f["what"] for f in guided["findings"]] == ["bars", "key"]


def test_a_form_is_laid_out(client):
    project = begun(client, "piano")
    [version] = written(client, project, form="ABA", section=2, bars=None)
    notes, bars = version["piece"]["notes"], version["piece"]["bars"]

    def section(k):
        return {
            (n["pitch"], n["start"] - bars[2 * k])
            for n in notes
            if bars[2 * k] <= n["start"] < bars[2 * k] + 8
        }

    assert section(0) == section(2)


def test_notes_edited_by_hand_are_a_version_to_go_on_from(client):
    project = begun(client)
    [parent] = written(client, project, bars=3)
    piece = parent["piece"]
    moved = {**piece["notes"][0], "pitch": 61, "start": 0.5, "length": 0.25}
    tracks = [*piece["tracks"], {"name": "mine", "program": 40, "is_drum": False}]
    drawn = {"track": len(tracks) - 1, "pitch": 72, "start": 1, "length": 1, "velocity": 90}
    notes = [moved, *piece["notes"][2:], drawn]
    address = f"{project}/versions/{parent['id']}/notes"
    response = client.put(address, json={"notes": notes, "tracks": tracks})
    assert response.status_code == 201, response.text
    child = client.get(f"{project}/versions/{response.json()['id']}").json()
    by_hand = {(n["pitch"], n["start"]) for n in child["piece"]["notes"] if n["kind"] == "prompt"}
    assert by_hand == {(61, 0.5), (72, 1.0)}
    assert child["parent"] == parent["id"]
    [longer] = written(client, project, parent=child["id"], bars=1)
    assert longer["n_notes"] >= child["n_notes"]
    nothing = client.put(address, json={"notes": []})
    assert nothing.status_code == 400
    assert "no note is left" in nothing.json()["error"]


def test_notes_drawn_from_nothing_are_a_version_to_go_on_from(client):
    project = begun(client)
    note = {"track": 0, "pitch": 60, "start": 1, "length": 1, "velocity": 80}
    drawn = {"notes": [note], "tracks": [{"name": "mine", "program": 41, "is_drum": False}]}
    drawn |= {"tempo": 90, "metre": "3/4"}
    version = client.post(f"{project}/notes", json=drawn).json()
    assert (version["parent"], version["n_notes"], version["n_bars"]) == (None, 1, 1)
    assert "Viola told as Violin" in version["report"]["sentences"][0]
    [longer] = written(client, project, parent=version["id"], bars=1)
    assert longer["piece"]["metres"][0]["numerator"] == 3
    assert longer["piece"]["tempos"][0]["bpm"] == pytest.approx(90)
    nothing = client.post(f"{project}/notes", json={**drawn, "notes": []})
    assert (nothing.status_code, "no note is left" in nothing.json()["error"]) == (400, True)


def test_a_version_is_dropped_with_all_that_came_from_it(client):
    project = begun(client)
    [parent] = written(client, project)
    [child] = written(client, project, parent=parent["id"])
    [other] = written(client, project, seed=3)
    assert client.delete(f"{project}/versions/{parent['id']}").status_code == 204
    assert list(finished(client, project)) == [other["id"]]
    assert client.get(f"{project}/versions/{child['id']}").status_code == 404


def test_what_is_written_can_be_cancelled(client, studio):
    project = begun(client)
    [version] = client.post(f"{project}/versions", json={"bars": 256, "seed": 1}).json()
    assert client.delete(f"{project}/versions/{version['id']}").status_code == 204
    assert client.get(project).json()["versions"] == []
    assert studio.runs.player("band").is_idle


def test_a_project_is_there_again_after_a_restart(runs, tmp_path):
    def app():
        return TestClient(build_app(Studio(tmp_path / "projects", runs_folder=runs)))

    with app() as client:
        project = begun(client, name="Mine")
        [version] = written(client, project)
        client.patch(project, json={"current": version["id"]})
        client.post(f"{project}/versions", json={"bars": 256, "seed": 1})
    with app() as client:
        found = client.get(project).json()
        assert (found["name"], found["current"]) == ("Mine", version["id"])
        assert [v["status"] for v in found["versions"]] == ["done", "cancelled"]
        assert client.get(f"{project}/versions/{version['id']}").json() == version
        [child] = written(client, project, parent=version["id"])
        assert child["n_notes"] > version["n_notes"]


def test_a_project_file_opens_again(client):
    project = begun(client, name="Träume / ..")
    [parent] = written(client, project)
    [child] = written(client, project, parent=parent["id"])
    saved = client.get(f"{project}/file")
    assert 'filename="Tr_ume _ ...seqgen"' in saved.headers["content-disposition"]
    opened = client.post("/api/projects/open", files={"file": saved.content})
    assert opened.status_code == 201, opened.text
    copied = f"/api/projects/{opened.json()['id']}"
    assert copied != project
    assert opened.json()["run"]["matches"]
    assert client.get(f"{copied}/versions/{child['id']}").json() == child
    midi = client.get(f"{copied}/versions/{child['id']}/midi").content
    assert sum(len(t.notes) for t in open_midi(midi).instruments) == child["n_notes"]
    written(client, copied, parent=child["id"])


def packed(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def unpacked(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed(content, key, value):
    """The content of a version with another value in the place of one, wherever it is."""
    record = json.loads(content)
    (record if key in record else record["piece"])[key] = value
    return json.dumps(record)


def test_damaged_project_files_are_refused(client, tmp_path):
    project = begun(client)
    [version] = written(client, project)
    files = unpacked(client.get(f"{project}/file").content)
    record, name = files["project.json"].decode(), version["id"]
    content = files[f"{name}.json"].decode()
    damages = [("ids", [[10**30]]), ("ids", []), ("ids", [[]])]
    damages += [("tempos", []), ("bars", [0, 1e300]), ("bars", [0, 4, 4])]
    bad = [
        b"no zip",
        packed({"other": "file"}),
        packed({**files, "project.json": record[:-20]}),
        packed({**files, "project.json": record.replace(name, "../../evil")}),
        packed({**files, f"{name}.mid": b"MThd"}),
        packed({**files, f"{name}.json": b'{"ids": [[-1]]}'}),
        *(packed({**files, f"{name}.json": changed(content, a, b)}) for a, b in damages),
        packed({**files, "project.json": record.replace('"step": 7', '"step": 1e999').encode()}),
        packed({**files, "project.json": record.replace('"current": ', '"current": [1], "x": ')}),
        packed({**files, "bomb": b"0" * 80_000_000}),
    ]
    for content in bad:
        response = client.post("/api/projects/open", files={"file": content})
        assert response.status_code in (400, 413), content[:40]
        assert "\n" not in response.json()["error"]
    assert len(client.get("/api/projects").json()) == 1
    assert not (tmp_path / "evil").exists()


def test_a_project_of_another_model_says_so_and_goes_on(client, studio, runs, tmp_path):
    project = begun(client)
    [version] = written(client, project)
    files = unpacked(client.get(f"{project}/file").content)
    record = files["project.json"].decode().replace('"band"', '"piano"')
    content = packed({**files, "project.json": record})
    opened = client.post("/api/projects/open", files={"file": content}).json()
    assert not opened["run"]["matches"]
    assert "another model" in opened["run"]["message"]
    written(client, f"/api/projects/{opened['id']}", parent=version["id"])
    content = packed({**files, "project.json": record.replace('"piano"', '"lost"')})
    opened = client.post("/api/projects/open", files={"file": content}).json()
    assert "there is no run 'lost'" in opened["run"]["message"]


def test_the_versions_that_are_kept_meet_most_of_what_was_asked(client):
    project = begun(client)
    request = {"asked": {"density": "low", "register": "high"}, "seed": 3}
    drawn = written(client, project, samples=6, alternatives=6, **request)
    kept = written(client, project, samples=2, alternatives=6, **request)
    assert [len(drawn), len(kept)] == [6, 2]
    met = sorted((mean(f["met"] for f in version["findings"]) for version in drawn), reverse=True)
    assert met[0] > met[-1]
    assert [mean(f["met"] for f in version["findings"]) for version in kept] == met[:2]
    musics = [music_of(version["piece"]) for version in drawn]
    assert all(music_of(version["piece"]) in musics for version in kept)
    assert {note["kind"] for version in kept for note in version["piece"]["notes"]} == {"written"}


def test_four_are_drawn_for_each_version_of_which_something_is_asked_as_a_whole(client, studio):
    project = begun(client)

    def n_drawn(**request):
        name, registry = "seqgen_first_token_seconds_count", studio.runs.figures.registry
        before = registry.get_sample_value(name)
        written(client, project, **request)
        return registry.get_sample_value(name) - before

    asked = {"key": "Am", "density": "low"}
    assert n_drawn(asked=asked, samples=2) == 8
    assert n_drawn(asked=asked, samples=2, alternatives=2) == 2
    assert n_drawn(asked={"density": "low"}, samples=2) == 2
    assert n_drawn(samples=2) == 2


def test_alternatives_of_dropped_versions_are_not_drawn(client, studio):
    project = begun(client)
    request = {"bars": 256, "seed": 1, "samples": 2, "alternatives": 4}
    first, second = client.post(f"{project}/versions", json=request).json()
    client.delete(f"{project}/versions/{first['id']}")
    assert studio.runs.n_streams + studio.runs.n_waiting == 4
    client.delete(f"{project}/versions/{second['id']}")
    assert client.get(project).json()["versions"] == []
    assert studio.runs.player("band").is_idle
