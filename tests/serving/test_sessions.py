"""Sessions of programs: they go on exactly, fork, rewind, and come back from disk."""

import pytest

pytest.importorskip("fastapi", reason="needs the extra `studio`")

from fastapi.testclient import TestClient
from studio_client import events_of, music_of

from seqgen.decoding import Session
from seqgen.errors import UserError
from seqgen.serving.app import build_app
from seqgen.serving.problems import Limits
from seqgen.serving.studio import Studio


def begun(client, **facts):
    response = client.post("/api/sessions", json={"run": "piano", "seed": 3, **facts})
    assert response.status_code == 201, response.text
    return f"/api/sessions/{response.json()['id']}"


def gone_on(client, session, bars):
    response = client.post(f"{session}/continue", json={"bars": bars})
    assert response.status_code == 200, response.text
    return response.json()


def test_bars_in_parts_are_the_bars_at_once(client):
    whole = gone_on(client, begun(client), 6)
    session = begun(client)
    for _ in range(3):
        part = gone_on(client, session, 2)
    assert part["n_bars"] == whole["n_bars"] == 6
    assert part["marks"] == [0, 2, 4, 6]
    assert music_of(part["piece"]) == music_of(whole["piece"])


def test_the_same_follows_after_a_rewind_and_another_after_a_fork(client):
    session = begun(client)
    first = gone_on(client, session, 2)
    second = gone_on(client, session, 3)
    fork = f"/api/sessions/{client.post(f'{session}/fork').json()['id']}"
    client.post(f"{session}/rewind", json={"bars": 2})
    assert client.get(session).json()["piece"] == first["piece"]
    assert gone_on(client, session, 3)["piece"] == second["piece"]
    forks = [f"/api/sessions/{client.post(f'{session}/fork').json()['id']}" for _ in range(2)]
    longer = [gone_on(client, one, 3)["piece"]["notes"] for one in (fork, *forks, session)]
    n = len(second["piece"]["notes"])
    assert all(notes[:n] == second["piece"]["notes"] for notes in longer)
    assert len({str(notes) for notes in longer[1:]}) == 3
    response = client.post(f"{session}/rewind", json={"bars": 77})
    assert response.status_code == 400
    assert "has no mark after 77 bars" in response.json()["error"]


def test_a_session_comes_back_from_disk(runs, tmp_path):
    def client():
        return TestClient(build_app(Studio(tmp_path, runs_folder=runs)))

    with client() as first:
        session = begun(first)
        gone_on(first, session, 2)
        expected = gone_on(first, session, 2)
        first.post(f"{session}/rewind", json={"bars": 2})
        first.app.state.studio.sessions.rest(idle_seconds=0)
        assert first.app.state.studio.sessions._held == {}
        assert first.get(session).json()["n_bars"] == 2
    with client() as second:
        assert gone_on(second, session, 2)["piece"] == expected["piece"]
        assert second.delete(session).status_code == 204
        assert second.get(session).status_code == 404


def told(client, address, body, **headers):
    """The ids and the tokens of a stream, and what is told at its end."""
    response = client.post(address, json={**body, "stream": True}, headers=headers)
    assert response.status_code == 200, response.text
    ids = [int(line[4:]) for line in response.text.splitlines() if line.startswith("id: ")]
    events = events_of(response.text)
    tokens = [token for name, value in events if name == "tokens" for token in value["tokens"]]
    assert events[-1][0] == "done"
    return ids, tokens, events[-1][1]


def test_a_stream_goes_on_after_what_the_client_knows(client):
    first = begun(client)
    gone_on(client, first, 1)
    known = client.get(first).json()["n_tokens"]
    ids, tokens, state = told(client, f"{first}/continue", {"bars": 4})
    assert ids[-1] == state["n_tokens"] == known + len(tokens)
    client.post(f"{first}/rewind", json={"bars": 1})
    after = {"Last-Event-ID": str(known + 7)}
    ids, rest, again = told(client, f"{first}/continue", {"bars": 4}, **after)
    assert (rest, ids[-1], again) == (tokens[7:], state["n_tokens"], state)
    asked = {"run": "band", "bars": 3, "seed": 4}
    _, tokens, piece = told(client, "/api/generate", asked)
    assert told(client, "/api/generate", asked, **{"Last-Event-ID": "5"})[1:] == (tokens[5:], piece)
    del asked["seed"]
    refused = client.post(
        "/api/generate", json={**asked, "stream": True}, headers={"Last-Event-ID": "5"}
    )
    assert "give seed" in refused.json()["error"]
    keyed = {"Idempotency-Key": "k"}
    whole = told(client, "/api/generate", asked, **keyed)[1]
    assert told(client, "/api/generate", asked, **keyed, **{"Last-Event-ID": "5"})[1] == whole[5:]


def test_a_request_with_a_key_is_carried_out_once(client):
    key = {"Idempotency-Key": "first"}
    [one, two] = [
        client.post("/api/sessions", json={"run": "piano", "seed": 3}, headers=key).json()
        for _ in range(2)
    ]
    assert one["id"] == two["id"]
    session = f"/api/sessions/{one['id']}"
    bars = {"bars": 2}
    ids, tokens, state = told(client, f"{session}/continue", bars, **key)
    client.app.state.studio.sessions.rest(idle_seconds=0)
    assert told(client, f"{session}/continue", bars, **key) == (ids[-1:], tokens, state)
    assert client.post(f"{session}/continue", json=bars, headers=key).json() == state
    forks = [client.post(f"{session}/fork", headers=key).json()["id"] for _ in range(2)]
    assert forks[0] == forks[1] != one["id"]


def test_two_servers_with_one_folder_pass_a_session_on(runs, tmp_path):
    def client():
        return TestClient(build_app(Studio(tmp_path, runs_folder=runs)))

    with client() as first, client() as second, client() as alone:
        expected = gone_on(alone, begun(alone), 6)
        session = begun(first)
        gone_on(first, session, 2)
        gone_on(second, session, 2)
        whole = gone_on(first, session, 2)
        assert music_of(whole["piece"]) == music_of(expected["piece"])
        assert whole["marks"] == [0, 2, 4, 6]
        second.post(f"{session}/rewind", json={"bars": 2})
        assert first.get(session).json()["n_bars"] == 2
        first.delete(session)
        assert second.get(session).status_code == 404


def test_a_session_that_another_server_changed_meanwhile_is_not_written_over(runs, tmp_path):
    with TestClient(build_app(Studio(tmp_path, runs_folder=runs))) as client:
        session = begun(client)
        gone_on(client, session, 2)
        sessions = client.app.state.studio.sessions
        other = Studio(tmp_path, runs_folder=runs)
        with sessions._lock:  # so that it is not kept before
            held, done = sessions.go_on(session.rpartition("/")[2], 2)
            other.sessions.rewind(held.id, 0)
        with pytest.raises(UserError, match="changed by another request"):
            done.result(60)
        assert client.get(session).json()["n_bars"] == 0
        other.end()


def test_a_saved_session_is_one_that_python_reads(client, tmp_path):
    session = begun(client)
    state = gone_on(client, session, 2)
    path = tmp_path / "session.safetensors"
    path.write_bytes(client.get(f"{session}/save").content)
    decoder = client.app.state.studio.runs.player("piano").model.decoder
    assert Session.load(path, decoder).n_drawn == state["n_tokens"]


def test_sessions_are_bounded(runs, tmp_path):
    studio = Studio(tmp_path, runs_folder=runs, limits=Limits(max_sessions=1))
    with TestClient(build_app(studio)) as client:
        begun(client)
        refused = client.post("/api/sessions", json={"run": "piano"})
        assert (refused.status_code, "delete some" in refused.json()["error"]) == (429, True)
