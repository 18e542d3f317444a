"""Replicas: where one dies, others go on with its streams, and clients notice nothing."""

import asyncio
import json
import os
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi", reason="needs the extra `studio`")
pytest.importorskip("ray", reason="needs the extra `scale`")

import ray
from fastapi.testclient import TestClient
from ray.exceptions import ActorDiedError
from studio_client import events_of, music_of

from seqgen.cluster import connect
from seqgen.errors import UserError
from seqgen.serving.app import build_app
from seqgen.serving.problems import Limits
from seqgen.serving.replicas import (
    DEPLOYMENT,
    Front,
    Replica,
    ReplicaSettings,
    deploy,
    new_settings,
    scale,
    stop,
)
from seqgen.serving.runs import Runs
from seqgen.serving.studio import Studio


@pytest.fixture
def settings(runs, tmp_path):
    found = Runs([runs / "band", runs / "piano"], Limits(), folder=runs)
    settings = new_settings(tmp_path / "projects", found, Limits())
    yield settings
    stop(settings)


@pytest.fixture
def alone(runs, tmp_path):
    """A client of one server, without replicas."""
    studio = Studio(tmp_path / "alone", runs_folder=runs)
    with TestClient(build_app(studio, is_studio=False)) as client:
        yield client


@pytest.fixture(params=["gathered", "apart"])
def parts(request, monkeypatch):
    """How a replica passes on what it writes; apart, it can die between any two events."""
    if request.param == "apart":
        monkeypatch.setattr("seqgen.serving.replicas.GATHER_SECONDS", 0)
        monkeypatch.setattr("seqgen.serving.replicas._gather", lambda first, _: first)


class Messages:
    """What a replica answers, until it dies."""

    def __init__(self, handle, replica, messages):
        self.handle, self.replica, self.messages = handle, replica, messages

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.handle.until_death == 0 and len(self.handle.replicas) > 1:
            await self.messages.aclose()
            self.handle.replicas.remove(self.replica)
            await self.replica._studio.close()
            self.handle.until_death = self.handle.after
            raise ActorDiedError
        self.handle.until_death -= 1
        return await anext(self.messages)

    def cancel(self):
        pass


class Handle:
    """Stands for a handle of Ray Serve: one replica after the other dies after so many messages."""

    def __init__(self, settings, *, n, after):
        self.replicas = [Replica(settings) for _ in range(n)]
        self.after = self.until_death = after

    def options(self, *, session_id, stream):
        replica = self.replicas[hash(session_id) % len(self.replicas)]

        def remote(scope, body):
            return Messages(self, replica, replica.answer(scope, body))

        return SimpleNamespace(answer=SimpleNamespace(remote=remote))


def tokens_of(text):
    """All tokens that the events of a stream hold."""
    events = events_of(text)
    return [token for name, value in events if name == "tokens" for token in value["tokens"]]


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_a_stream_whose_replicas_die_is_the_stream_alone(settings, alone, after):
    client = TestClient(Front(Handle(settings, n=3, after=after)))
    asked = {"run": "band", "bars": 6, "seed": 4, "stream": True}
    text = client.post("/api/generate", json=asked).text
    expected = alone.post("/api/generate", json=asked).text
    assert tokens_of(text) == tokens_of(expected)
    assert events_of(text)[-1] == events_of(expected)[-1]
    notes = []
    for name, value in events_of(text):
        if name == "music":
            notes = notes[: value["from_note"]] + value["notes"]
    assert len(notes) <= len(events_of(text)[-1][1]["piece"]["notes"])


@pytest.mark.usefixtures("parts")
def test_a_stream_without_a_seed_goes_on_too(settings):
    client = TestClient(Front(Handle(settings, n=2, after=4)))
    asked = {"run": "band", "bars": 6, "stream": True}
    text = client.post("/api/generate", json=asked).text
    _, whole = events_of(text)[-1]
    assert tokens_of(text)[: len(whole["tokens"]) - 1] == whole["tokens"][:-1]


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("after", [1, 3])
def test_a_session_whose_replicas_die_is_the_session_alone(settings, alone, after):
    client = TestClient(Front(Handle(settings, n=4, after=after)))
    found = []
    for one in (client, alone):
        session = one.post("/api/sessions", json={"run": "piano", "seed": 3}).json()["id"]
        tokens = []
        for bars in (2, 2, 3):
            asked = {"bars": bars, "stream": True}
            text = one.post(f"/api/sessions/{session}/continue", json=asked).text
            tokens += tokens_of(text)
        fork = one.post(f"/api/sessions/{session}/fork").json()["id"]
        state = one.post(f"/api/sessions/{fork}/continue", json={"bars": 2}).json()
        found.append((tokens, events_of(text)[-1][1]["marks"], music_of(state["piece"])))
    assert found[0] == found[1]


def test_what_a_replica_writes_is_passed_on_in_few_parts(settings, alone):
    asked = {"run": "band", "bars": 24, "seed": 4, "stream": True}
    expected = alone.post("/api/generate", json=asked).text
    headers = [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "POST", "path": "/api/generate", "headers": headers}

    async def answered():
        replica = Replica(settings)
        asked_of = replica.answer({**scope, "query_string": b""}, json.dumps(asked).encode())
        found = [message async for message in asked_of]
        await replica._studio.close()
        return found

    start, *parts = asyncio.run(answered())
    text = b"".join(part["body"] for part in parts).decode()
    assert start["status"] == 200
    assert not parts[-1].get("more_body")
    assert tokens_of(text) == tokens_of(expected)
    assert len(parts) < len(events_of(text)) / 2


def test_a_request_is_refused_where_no_replica_has_room(settings):
    class Full:
        n_asked = 0

        async def answer(self, scope, body):
            Full.n_asked += 1
            yield {
                "type": "http.response.start",
                "status": 429,
                "headers": [(b"retry-after", b"2")],
            }
            yield {"type": "http.response.body", "body": b'{"error": "full"}'}

    handle = Handle(settings, n=0, after=-1)
    handle.replicas = [Full()]
    response = TestClient(Front(handle)).post("/api/generate", json={"run": "band"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    assert (response.json(), Full.n_asked) == ({"error": "full"}, 3)


def test_what_a_machine_lacks_is_one_sentence(settings, tmp_path):
    settings.check()
    other = ReplicaSettings(tmp_path, settings.runs, settings.runs_folder, Limits(), settings.name)
    with pytest.raises(UserError, match="mount the same folder"):
        other.check()
    lacking = ReplicaSettings(
        settings.folder, (tmp_path / "no",), tmp_path, Limits(), settings.name
    )
    with pytest.raises(UserError, match="copy the run to all machines"):
        lacking.check()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"), ("here", 'must be "host:port"')],
)
def test_an_address_without_a_cluster_is_one_sentence(address, sentence, monkeypatch):
    monkeypatch.setattr("seqgen.cluster.ANSWER_SECONDS", 0.1)
    with pytest.raises(UserError, match=sentence):
        connect(address)


def test_a_ray_of_another_version_is_one_sentence(monkeypatch):
    def refuse(**options):
        raise RuntimeError(
            "Version mismatch: The cluster was started with:\n    Ray: 2.1.0\n    Python: 3.9.1\n"
            "This process on node 1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
        )

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(
        UserError, match=r"has Ray 2\.1\.0 on Python 3\.9\.1, and here is Ray 2\.60"
    ):
        connect("auto")


def test_replicas_follow_the_streams_that_wait():
    def wanted(n, streams, waiting, capacity):
        ids = range(n)
        figures = {"streams": streams, "waiting": waiting, "capacity": capacity}
        metrics = {name: dict.fromkeys(ids, value / n) for name, value in figures.items()}
        return scale(SimpleNamespace(aggregated_metrics=metrics, target_num_replicas=n))[0]

    assert wanted(1, streams=10, waiting=0, capacity=10) == 1
    assert wanted(1, streams=10, waiting=1, capacity=10) == 2
    assert wanted(2, streams=20, waiting=40, capacity=20) == 6
    assert wanted(3, streams=9, waiting=0, capacity=30) == 2
    assert wanted(3, streams=11, waiting=0, capacity=30) == 3
    assert wanted(1, streams=0, waiting=0, capacity=10) == 1
    empty = SimpleNamespace(aggregated_metrics={}, target_num_replicas=2)
    assert scale(empty)[0] == 2


async def asked_of(front, request, on_part):
    """Let a front answer a request for a piece as it is written; return the text of the stream."""
    body = json.dumps({**request, "stream": True}).encode()
    received = [{"type": "http.request", "body": body}]
    parts = []

    async def receive():
        if not received:
            await asyncio.Event().wait()  # for ever
        return received.pop()

    async def send(message):
        parts.append(message.get("body", b""))
        await on_part()

    headers = [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")]
    scope = {"type": "http", "method": "POST", "path": "/api/generate", "headers": headers}
    await front({**scope, "query_string": b"", "http_version": "1.1"}, receive, send)
    return b"".join(parts).decode()


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPU cores")
def test_streams_go_on_where_a_replica_is_killed(settings, alone):
    requests = [{"run": "band", "bars": 24, "seed": seed} for seed in range(4)]
    expected = [alone.post("/api/generate", json=request).json() for request in requests]
    try:
        connect(None)
    except UserError as error:
        pytest.skip(str(error))
    front = Front(deploy(settings, replicas=2, most=2))
    n_parts, killed = 0, []

    async def kill():
        """End a replica that writes, as SIGKILL does, when streams have begun."""
        nonlocal n_parts
        n_parts += 1
        if n_parts == 24:
            streams = {name: figure(figures) for name, figures in await front._ask_all("figures")}
            busiest = max(streams, key=lambda name: streams[name])
            actor = f"SERVE_REPLICA::{settings.name}#{DEPLOYMENT}#{busiest}"
            ray.kill(ray.get_actor(actor, namespace="serve"))
            killed.append(streams[busiest])

    def figure(figures):
        return next(one.samples[0].value for one in figures if one.name == "seqgen_streams")

    async def ask_all():
        return await asyncio.gather(*(asked_of(front, request, kill) for request in requests))

    texts = asyncio.run(ask_all())
    assert killed[0] > 0
    assert front._takeovers._value.get() >= killed[0]
    for text, whole in zip(texts, expected, strict=True):
        told = tokens_of(text)
        assert told[:-1] == whole["tokens"][:-1]
        assert len(told) == len(whole["tokens"])
        assert events_of(text)[-1] == ("done", whole)
