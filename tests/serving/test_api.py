"""The API: errors are sentences, streams can be left, strangers are kept out."""

import asyncio
import base64
import threading

import pytest

pytest.importorskip("fastapi", reason="needs the extra `studio`")

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from studio_client import begun, events_of, finished, music_of, written

from seqgen.midi import open_midi
from seqgen.serving.app import build_app
from seqgen.serving.problems import Limits
from seqgen.serving.security import Guard
from seqgen.serving.studio import Studio

BOUNDS = {"max_body_bytes": 10_000, "max_project_bytes": 20_000}


def guarded(studio, **options):
    guard = Guard(port=8765, **{**BOUNDS, **options})
    return TestClient(build_app(studio, guard=guard), base_url="http://127.0.0.1:8765")


def test_runs_say_what_they_can(client):
    runs = {run["id"]: run for run in client.get("/api/runs").json()}
    assert runs["band"]["can"] == ["continue", "controls", "rewrite", "vary", "add"]
    assert runs["piano"]["can"] == ["continue", "form"]
    assert runs["words"]["kind"] == "text"
    assert runs["band"]["loss_bits"] == pytest.approx(2.885, abs=1e-3)
    assert not any(run["is_loaded"] for run in runs.values())
    detail = client.get("/api/runs/band").json()
    settings = {setting["name"]: setting for setting in detail["settings"]}
    assert set(settings) >= {"temperature", "key", "density", "instruments", "metre", "guidance"}
    assert [choice["value"] for choice in settings["instruments"]["choices"]] == [
        *("0", "33", "40", "drums")
    ]
    assert detail["parts"][1]["label"] == "Electric Bass (finger)"
    names = [s["name"] for s in client.get("/api/runs/piano").json()["settings"]]
    assert "key" not in names
    assert {run["id"] for run in client.get("/api/runs").json() if run["is_loaded"]} == {
        *("band", "piano")
    }


def test_runs_beyond_the_bound_leave_memory(runs, tmp_path):
    studio = Studio(tmp_path, runs_folder=runs, limits=Limits(max_runs=1))
    with TestClient(build_app(studio)) as client:
        begun(client, "band")
        begun(client, "piano")
        assert client.get("/api/health").json()["loaded"] == ["piano"]


@pytest.mark.parametrize(
    ("method", "address", "body", "status", "sentence"),
    [
        ("GET", "/api/runs/none", None, 404, "there is no run 'none'"),
        ("GET", "/api/runs/band/losses.png", None, 404, "has no losses"),
        ("GET", "/api/runs/band/report", None, 404, "evaluate RUN"),
        ("GET", "/api/projects/..", None, 404, "there is nothing at"),
        ("GET", "/api/projects/../../etc", None, 404, "there is nothing at"),
        ("GET", "/api/projects/%2e%2e%2fetc", None, 404, "there is nothing at"),
        ("GET", "/api/projects/0123456789abcdef", None, 404, "there is no project"),
        ("POST", "/api/projects", {"run": "words"}, 400, "writes text"),
        ("POST", "/api/projects", {"run": "band", "more": 1}, 422, "more: Extra inputs"),
        ("POST", "/api/projects", {}, 422, "run: Field required"),
        ("PUT", "/api/projects", {}, 405, "PUT is not possible"),
        ("GET", "/api/sessions/0123456789abcdef", None, 404, "there is no session"),
        ("POST", "/api/generate", {"run": "band", "bars": 0}, 422, "bars: "),
        ("POST", "/api/generate", {"run": "band", "sampling": {"top_p": 7}}, 400, "top_p = 7"),
        ("POST", "/api/generate", {"run": "band", "sampling": {"x": 7}}, 400, "has no 'x'"),
        ("POST", "/api/generate", {"run": "band", "sampling": {"top_k": 1e300}}, 400, "top_k = 1"),
        ("POST", "/api/generate", {"run": "band", "pick": "asked"}, 400, "nothing is asked for"),
        ("POST", "/api/generate", {"run": "band", "alternatives": 33}, 422, "alternatives: "),
        (
            *("POST", "/api/generate", {"run": "band", "alternatives": 2, "stream": True}),
            *(400, "a stream is drawn once"),
        ),
        ("POST", "/api/generate", {"run": "piano", "asked": {"key": "C"}}, 400, "to continue"),
    ],
)
def test_every_error_is_one_sentence(client, method, address, body, status, sentence):
    response = client.request(method, address, json=body)
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert sentence in response.json()["error"]
    assert "--" not in response.json()["error"]


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"task": "rewrite", "rewrite": "1"}, "give parent"),
        ({"from_bar": 2}, "give parent"),
        ({"guidance": 2}, "ask for a key"),
        ({"samples": 4, "alternatives": 2}, "4 samples of 2 alternatives"),
        ({"form": "AABA", "asked": {"key": "C"}}, "leave out"),
        ({"form": "AABA"}, "quotes"),
        ({"tempo": 5}, "tempo 5"),
        ({"metre": "7/13"}, "metre 7/13"),
        ({"asked": {"key": "H"}}, "is no key"),
        ({"parent": "000000000000"}, "there is no version"),
    ],
)
def test_impossible_versions_are_refused_and_leave_nothing(client, request_, sentence):
    project = begun(client)
    response = client.post(f"{project}/versions", json=request_)
    assert response.status_code in (400, 404)
    assert sentence in response.json()["error"]
    assert client.get(project).json()["versions"] == []


def test_a_piece_is_generated_for_a_program(client):
    asked = {"run": "band", "bars": 3, "seed": 4}
    whole = client.post("/api/generate", json=asked).json()
    assert whole["seed"] == 4
    midi = open_midi(base64.b64decode(whole["midi_base64"]))
    assert sum(len(track.notes) for track in midi.instruments) == len(whole["piece"]["notes"])
    assert client.post("/api/generate", json=asked).json() == whole
    events = events_of(client.post("/api/generate", json={**asked, "stream": True}).text)
    assert events[-1] == ("done", whole)
    tokens = [token for name, value in events if name == "tokens" for token in value["tokens"]]
    assert tokens[: len(whole["tokens"]) - 1] == whole["tokens"][:-1]
    notes = []
    for name, value in events:
        if name == "music":
            notes = notes[: value["from_note"]] + value["notes"]
    assert len(notes) <= len(whole["piece"]["notes"])


@pytest.mark.parametrize(("guidance", "tries"), [(1, 1), (3, 1), (None, None)])
def test_the_best_of_several_is_the_one_that_python_keeps(client, studio, guidance, tries):
    what = {"asked": {"density": "low", "register": "high"}, "bars": 2, "seed": 2}
    what |= {"guidance": guidance, "tries": tries}
    whole = client.post("/api/generate", json={"run": "band", **what}).json()
    model = studio.runs.player("band").model
    [kept] = model.generate(**what)
    [first] = model.generate(alternatives=1, **what)
    assert whole["tokens"] == kept.tokens.tolist()
    if tries == 1:  # otherwise the first one may be as asked already
        assert kept.tokens.tolist() != first.tokens.tolist()
    once = {"run": "band", **what, "alternatives": 1}
    assert client.post("/api/generate", json=once).json()["tokens"] == first.tokens.tolist()
    streamed = client.post("/api/generate", json={"run": "band", **what, "stream": True})
    events = events_of(streamed.text)
    tokens = [token for name, value in events if name == "tokens" for token in value["tokens"]]
    assert tokens[: len(first.tokens) - 1] == first.tokens.tolist()[:-1]


def test_guidance_weighs_what_is_asked_for(client):
    what = {"run": "band", "bars": 2, "seed": 2, "asked": {"key": "Am"}, "alternatives": 1}
    pieces = [
        client.post("/api/generate", json={**what, "guidance": guidance}).json()["tokens"]
        for guidance in (None, 1, 2)
    ]
    assert pieces[0] == pieces[2] != pieces[1]


def test_figures_are_those_of_prometheus(client):
    written = client.post("/api/generate", json={"run": "band", "bars": 3, "seed": 4}).json()
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if "le" not in sample.labels
    }
    assert found["seqgen_tokens_total"] == len(written["tokens"])
    assert found["seqgen_first_token_seconds_count"] == 1
    assert found["seqgen_streams"] == found["seqgen_waiting"] == found["seqgen_refused_total"] == 0
    assert found["seqgen_capacity"] >= 1


def test_a_version_is_told_while_it_is_written(client):
    project = begun(client)
    [version] = client.post(f"{project}/versions", json={"bars": 4, "seed": 6}).json()
    finished(client, project)
    whole = client.get(f"{project}/versions/{version['id']}").json()
    # A test client reads a stream at its end, so the hub is listened to.
    studio = client.app.state.studio
    found = asyncio.run(_listened(studio, project, client))
    again = [value for name, value in found if name == "version"]
    assert [v["status"] for v in again] == ["writing", "done"]
    notes = []
    for name, value in found:
        if name == "music":
            notes = notes[: value["from_note"]] + value["notes"]
    assert music_of({"notes": notes}) == music_of(whole["piece"])


async def _listened(studio, project, client):
    name = project.rpartition("/")[2]
    events = await studio.listen(name)
    request = {"bars": 4, "seed": 6}
    threading.Thread(
        target=client.post, args=(f"{project}/versions",), kwargs={"json": request}
    ).start()
    text = ""
    async for part in events:
        text += part
        if '"status":"done"' in part:
            break
    await events.aclose()
    return events_of(text)


def test_one_who_joins_later_is_told_what_is_there(client):
    studio = client.app.state.studio
    project = begun(client)
    [version] = client.post(f"{project}/versions", json={"bars": 256, "seed": 1}).json()

    async def join():
        events = await studio.listen(project.rpartition("/")[2])
        first = await anext(events)
        await events.aclose()
        return events_of(first)

    [(name, value)] = asyncio.run(join())
    assert (name, value["id"], value["status"]) == ("version", version["id"], "writing")
    client.delete(f"{project}/versions/{version['id']}")


def test_a_closed_connection_cancels_its_stream(studio):
    """The server itself is called, as a test client reads responses to their end."""
    app = build_app(studio)

    async def leave(stream):
        body = b'{"run": "band", "bars": 256, "seed": 1, "stream": %s}' % stream
        gone = asyncio.Event()
        messages = [{"type": "http.request", "body": body}]

        async def receive():
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        scope = {"type": "http", "method": "POST", "path": "/api/generate", "query_string": b""}
        scope |= {"headers": [(b"content-type", b"application/json")], "http_version": "1.1"}
        scope |= {"scheme": "http", "server": ("127.0.0.1", 8765), "asgi": {"version": "3.0"}}
        call = asyncio.create_task(app(scope, receive, send))
        player = await asyncio.to_thread(studio.runs.player, "band")
        while player.engine.n_running == 0:
            await asyncio.sleep(0.01)
        gone.set()
        await asyncio.wait_for(call, 30)
        while not player.is_idle:
            await asyncio.sleep(0.01)

    async def both():
        studio.open()
        await leave(b"true")
        await leave(b"false")
        await studio.close()

    asyncio.run(both())


def test_clients_at_once_get_what_each_would_alone(client):
    asked = [{"run": "band", "bars": 3, "seed": seed} for seed in range(4)]
    alone = [client.post("/api/generate", json=one).json() for one in asked]
    together = [None] * 4

    def ask(k):
        together[k] = client.post("/api/generate", json=asked[k]).json()

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_a_full_server_says_try_again(runs, tmp_path):
    limits = Limits(max_streams=1, max_waiting=1)
    studio = Studio(tmp_path, runs_folder=runs, limits=limits)
    with TestClient(build_app(studio), raise_server_exceptions=False) as client:
        project = begun(client)
        request = {"bars": 256, "samples": 1, "seed": 1}
        responses = [client.post(f"{project}/versions", json=request) for _ in range(4)]
        refused = [r for r in responses if r.status_code == 429]
        assert refused
        assert "try again later" in refused[0].json()["error"]
        assert refused[0].headers["retry-after"]
        kept = [r.json()[0]["id"] for r in responses if r.status_code == 202]
        assert [v["id"] for v in client.get(project).json()["versions"]] == kept


def test_projects_and_versions_are_bounded(runs, tmp_path):
    studio = Studio(tmp_path, runs_folder=runs, limits=Limits(max_projects=1, max_versions=2))
    with TestClient(build_app(studio)) as client:
        project = begun(client)
        assert client.post("/api/projects", json={"run": "band"}).status_code == 409
        refused = client.post(f"{project}/versions", json={"samples": 3})
        assert (refused.status_code, "delete some" in refused.json()["error"]) == (409, True)


def test_pages_of_other_sites_are_not_answered(studio):
    with guarded(studio) as client:
        assert client.get("/api/health").status_code == 200
        ours = {"origin": "http://127.0.0.1:8765", "sec-fetch-site": "same-origin"}
        assert client.get("/api/health", headers=ours).status_code == 200
        for headers in (
            {"host": "evil.example"},
            {"host": "127.0.0.1"},
            {"host": "127.0.0.1:8766"},
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:9999"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            response = client.get("/api/health", headers=headers)
            assert response.status_code == 403, headers
            assert response.json()["error"]


def test_every_response_forbids_what_the_page_does_not_need(studio):
    with guarded(studio) as client:
        for address in ("/", "/docs", "/api/health", "/api/nothing"):
            headers = client.get(address).headers
            assert "default-src 'self'" in headers["content-security-policy"]
            assert "unsafe-inline" not in headers["content-security-policy"]
            assert "'unsafe-eval'" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"


def test_another_address_needs_the_token(studio):
    with guarded(studio, token="secret") as client:
        assert client.get("/api/health").status_code == 401
        assert client.get("/").status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        assert client.get("/api/health?token=secret").status_code == 401
        bearer = {"authorization": "Bearer secret"}
        assert client.get("/api/health", headers=bearer).status_code == 200
        opened = client.get("/?token=secret", follow_redirects=False)
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        cookie = opened.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get("/api/health").status_code == 200


def test_large_requests_are_refused(studio):
    def endless():
        for _ in range(100):
            yield b" " * 1000

    with guarded(studio) as client:
        for content in (b" " * 10_001, endless()):
            response = client.post("/api/projects", content=content)
            assert response.status_code == 413
            assert "10,000 bytes" in response.json()["error"]
        opened = client.post("/api/projects/open", files={"file": b" " * 15_000})
        assert opened.status_code == 400
        headers = {"content-length": "-1"}
        assert client.post("/api/projects", headers=headers).status_code == 413


def test_the_page_says_how_it_is_built(client, monkeypatch, tmp_path):
    monkeypatch.setattr("seqgen.serving.app.PAGE", tmp_path / "page")
    assert client.get("/").status_code == 503
    assert "make studio" in client.get("/").text
    (tmp_path / "page" / "assets").mkdir(parents=True)
    (tmp_path / "page" / "index.html").write_text("<title>studio</title>")
    (tmp_path / "page" / "assets" / "main.js").write_text("0")
    (tmp_path / "secret").write_text("secret")
    assert "<title>" in client.get("/").text
    assert client.get("/assets/main.js").text == "0"
    for name in ("/../secret", "/%2e%2e/secret", "/assets/../../secret", "/assets", "/x"):
        assert client.get(name).status_code == 404


def test_the_schema_is_described_as_a_page(client):
    text = client.get("/docs").text
    assert "/api/projects/{project}/versions" in text
    assert "<script" not in text
    assert client.get("/openapi.json").json()["info"]["title"] == "seqgen studio"


@pytest.mark.parametrize("run", ["band", "compound"])
def test_surprise_is_known_for_each_note(client, run):
    project = begun(client, run)
    [version] = written(client, project)
    found = client.get(f"{project}/versions/{version['id']}/surprise").json()
    assert [note["note"] for note in found["notes"]] == list(range(version["n_notes"]))
    for note in found["notes"]:
        assert note["bits"] > 0
        chances = [one["probability"] for one in note["alternatives"]]
        assert len(chances) == 5
        assert chances == sorted(chances, reverse=True)


def test_what_is_played_is_answered_at_the_bar_line(client):
    notes = [
        {"track": 0, "pitch": 60 + k, "start": k, "length": 0.9, "velocity": 80} for k in range(5)
    ]
    asked = {"run": "band", "notes": notes, "bars": 3, "seed": 1, "tempo": 100}
    answer = client.post("/api/live", json=asked).json()
    assert answer["begin"] == 8
    assert all(note["start"] >= 8 for note in answer["piece"]["notes"])
    assert 0 < answer["first_note_milliseconds"] <= answer["milliseconds"]
    assert client.post("/api/live", json={**asked, "notes": []}).status_code == 400
    assert client.post("/api/live", json={**asked, "metre": "waltz"}).status_code == 400
    events = events_of(client.post("/api/live", json={**asked, "stream": True}).text)
    assert [name for name, _ in events[-2:]] == ["music", "done"]
    [*parts, whole] = [event for _, event in events]
    assert music_of(whole["piece"]) == music_of(answer["piece"])
    assert all(note in whole["piece"]["notes"] for part in parts for note in part["piece"]["notes"])
    assert all(part["begin"] == 8 for part in parts)


def test_what_is_told_ahead_is_not_computed_again(client, studio, monkeypatch):
    notes = [
        {"track": 0, "pitch": 60, "start": k, "length": 0.9, "velocity": 80} for k in range(16)
    ]
    played = {"run": "band", "notes": notes, "tempo": 100}
    asked = {**played, "bars": 2, "seed": 1}
    player = studio.runs.player("band")
    taken = []
    state_after = player.engine.state_after

    def counted(tokens, before=None):
        taken.append(len(tokens))
        return state_after(tokens, before)

    monkeypatch.setattr(player.engine, "state_after", counted)
    answer = client.post("/api/live", json=asked).json()
    [all_tokens] = taken
    player.bookmarks.clear()
    for n in (4, 13):  # a whole bar, and three with a note of the last
        so_far = {**played, "notes": notes[:n]}
        assert client.post("/api/live/ahead", json=so_far).status_code == 204
    told = len(taken)
    again = client.post("/api/live", json=asked).json()
    assert music_of(again["piece"]) == music_of(answer["piece"])
    assert sum(taken[told:]) < all_tokens / 2
    for path in ("/api/live", "/api/live/ahead"):
        assert client.post(path, json={**played, "run": "none"}).status_code == 404
    assert client.post("/api/live/ahead", json={**played, "notes": []}).status_code == 204
