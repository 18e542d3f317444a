"""The API for programs on a Ray cluster: Ray Serve runs replicas, each with engines of its own.

A replica is the server of one process without its HTTP. `Front` takes HTTP requests and passes each
to a replica: all requests of a session to the same one, as long as that lives. What a stream draws
follows from its request, and sessions are on disk, in a folder that all replicas share. So when a
replica dies, another one carries out its requests again, and the client notices a pause.
"""

import asyncio
import logging
import re
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import Metric
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.config import (
    AutoscalingConfig,
    AutoscalingContext,
    AutoscalingPolicy,
)
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter
from ray.serve.handle import DeploymentHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from seqgen.errors import UserError
from seqgen.files import write_bytes
from seqgen.serving.app import build_app
from seqgen.serving.events import event
from seqgen.serving.figures import CONTENT_TYPE
from seqgen.serving.problems import Limits
from seqgen.serving.programs import leaves
from seqgen.serving.runs import Runs
from seqgen.serving.schemas import Health, Problem
from seqgen.serving.security import problem
from seqgen.serving.studio import VERSION, Studio

LOG = logging.getLogger(__name__)
NAME = "seqgen-{}"  # of an application, and of a file in the shared folder
TAKEOVER_SECONDS = 120.0  # in which a request is carried out again, if its replica has died
PAUSE_SECONDS = 0.25  # before that
ASK_SECONDS = 5.0  # in which replicas say how they do
GATHER_SECONDS = 0.25  # at most, in which parts of a response become one: each costs 1 ms or so
SESSION = re.compile(r"/api/sessions/([0-9a-f]{16})(/|$)")
EVENT_ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)
# Of the scope of a request, what a replica sees, beside headers.
FORWARDED = ("type", "asgi", "http_version", "method", "path", "raw_path", "query_string", "scheme")
DEPLOYMENT = "replica"
N_TRIES = 3  # of replicas, where one has no room


@dataclass(frozen=True)
class ReplicaSettings:
    """What all replicas have, with absolute paths.

    Attributes:
        folder: of sessions; the same one for all.
        runs: named ones, which are loaded at once.
        runs_folder: where others are found.
        limits: of each replica.
        name: of the application, and of a file in the folder, which shows that it is the same one.
    """

    folder: Path
    runs: tuple[Path, ...]
    runs_folder: Path
    limits: Limits
    name: str

    def check(self) -> None:
        """Raise UserError where this machine does not have what a replica needs."""
        here = socket.gethostname()
        if not (self.folder / self.name).is_file():
            raise UserError(
                f"{self.folder} on {here} is not the folder that this command has written to: "
                f"mount the same folder there on all machines, and name it with --projects"
            )
        for run in self.runs:
            if not run.exists():
                raise UserError(f"there is no {run} on {here}: copy the run to all machines")


class Replica:
    """One server without HTTP, which Ray Serve runs."""

    def __init__(self, settings: ReplicaSettings) -> None:
        self._studio = Studio(
            settings.folder,
            runs=settings.runs,
            limits=settings.limits,
            runs_folder=settings.runs_folder,
        )
        self._app = build_app(self._studio, is_studio=False)
        self._is_open = False
        settings.check()
        self._studio.runs.load_named()

    async def answer(self, scope: Scope, body: bytes) -> AsyncIterator[Message]:
        """Yield the messages of a response, as ASGI has them, the parts of a body gathered."""
        if not self._is_open:
            self._is_open = True
            self._studio.open()
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        is_gone = asyncio.Event()
        received = [{"type": "http.request", "body": body}]

        async def receive() -> Message:
            if received:
                return received.pop()
            await is_gone.wait()
            return {"type": "http.disconnect"}

        work = asyncio.create_task(self._app(scope, receive, messages.put))
        work.add_done_callback(lambda _: messages.put_nowait(None))
        try:
            pause = 0.0
            while (message := await messages.get()) is not None:
                if message["type"] == "http.response.body":
                    await asyncio.sleep(pause)
                    pause = min(2 * pause + 0.02, GATHER_SECONDS)  # what is first comes at once
                    message = _gather(message, messages)
                yield message
        finally:
            is_gone.set()

    def health(self) -> Health:
        """Say how busy it is."""
        return self._studio.health()

    def figures(self) -> tuple[str, list[Metric]]:
        """Return what it is called, and its figures."""
        name = serve.get_replica_context().replica_id.unique_id
        return name, list(self._studio.runs.figures.registry.collect())

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what `scale` looks at."""
        runs = self._studio.runs
        return {"streams": runs.n_streams, "waiting": runs.n_waiting, "capacity": runs.room}

    def __del__(self) -> None:
        """Keep what there is: Ray Serve calls this when nothing is written any more."""
        self._studio.end()


def _gather(first: Message, messages: asyncio.Queue[Message | None]) -> Message:
    """Return one part of a body for the first and all that wait; the end stays in the queue."""
    parts = [first]
    while not messages.empty():
        part = messages.get_nowait()
        if part is None:
            messages.put_nowait(None)
            break
        parts.append(part)
    return {**parts[-1], "body": b"".join(part.get("body", b"") for part in parts)}


def scale(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Return how many replicas there should be.

    One more for each replica's capacity of streams that wait; one less where what is written would
    fill half of the others.
    """
    figures = context.aggregated_metrics or {}
    streams, waiting, capacity = (
        sum(figures.get(name, {}).values()) for name in ("streams", "waiting", "capacity")
    )
    n = context.target_num_replicas
    n_known = len(figures.get("capacity", {}))
    each = max(capacity / n_known, 1.0) if n_known else 1.0
    if waiting > 0:
        return n + max(1, round(waiting / each)), {}
    return (n - 1 if n_known and n > 1 and streams < (n - 1) * each / 2 else n), {}


def deploy(settings: ReplicaSettings, *, replicas: int, most: int) -> DeploymentHandle:
    """Let a connected cluster run replicas; return what requests are sent through.

    Args:
        settings: of the replicas.
        replicas: how many, at least.
        most: how many there may be where streams wait.

    Raises:
        UserError: there are too few cores, or a machine does not have what a replica needs.
    """
    n_cpus = int(ray.cluster_resources().get("CPU", 0))
    if replicas > n_cpus:
        raise UserError(
            f"--replicas {replicas}: each takes a core, and the cluster has {n_cpus}: choose fewer"
        )
    _check_machines(settings)
    deployment = serve.deployment(
        name=DEPLOYMENT,
        num_replicas=replicas if replicas == most else None,
        autoscaling_config=None
        if replicas == most
        else AutoscalingConfig(
            min_replicas=replicas,
            max_replicas=most,
            upscale_delay_s=5,
            downscale_delay_s=120,
            policy=AutoscalingPolicy(policy_function=scale),
        ),
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=10_000,  # the engines say when it is enough
        health_check_period_s=2,
        max_constructor_retry_count=3,
        request_router_config={"request_router_class": ConsistentHashRouter},
    )(Replica)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(proxy_location="Disabled")
    try:
        return serve.run(deployment.bind(settings), name=settings.name, route_prefix=None)
    except RuntimeError as error:
        found = serve.status().applications[settings.name].deployments.values()
        words = " ".join(one.message for one in found) or str(error)
        reason = re.findall(r"UserError\S*: (.+)", words) or [" ".join(words.split())]
        raise UserError(f"the replicas do not start: {reason[-1]}") from None


def _check_machines(settings: ReplicaSettings) -> None:
    """Raise UserError where a machine of the cluster does not have what a replica needs."""
    check = ray.remote(num_cpus=0)(_complaint)
    asked = [
        check.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(settings)
        for node in ray.nodes()
        if node["Alive"]
    ]
    for complaint in ray.get(asked):
        if complaint is not None:
            raise UserError(complaint)


def _complaint(settings: ReplicaSettings) -> str | None:
    try:
        settings.check()
    except UserError as error:
        return str(error)
    return None


def new_settings(folder: Path, runs: Runs, limits: Limits) -> ReplicaSettings:
    """Return settings; `stop` removes their file from the folder."""
    name = NAME.format(secrets.token_hex(8))
    write_bytes(folder / name, socket.gethostname().encode())
    named = tuple(run.resolve() for run in runs.named)
    return ReplicaSettings(folder.resolve(), named, runs.folder.resolve(), limits, name)


def stop(settings: ReplicaSettings) -> None:
    """End the replicas, and the cluster if it was started for them."""
    (settings.folder / settings.name).unlink(missing_ok=True)
    if ray.is_initialized():
        with suppress(RayServeException):  # nothing was started
            serve.delete(settings.name)
        ray.shutdown()


class Front:
    """An ASGI application that passes requests on to replicas."""

    def __init__(self, replicas: DeploymentHandle) -> None:
        self._replicas = replicas
        self._registry = CollectorRegistry()
        self._n_replicas = Gauge(
            "seqgen_replicas", "Replicas that answer.", registry=self._registry
        )
        self._takeovers = Counter(
            "seqgen_takeovers",
            "Requests that another replica carried out again.",
            registry=self._registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        own = {"/metrics": self._metrics, "/api/health": self._health}.get(scope["path"])
        if own is not None and scope["method"] == "GET":
            await (await own())(scope, receive, send)
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        else:
            return  # the client has gone
        work = asyncio.create_task(self._pass_on(scope, body, send))
        leaving = asyncio.create_task(leaves(receive))
        await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        work.cancel()  # nothing happens where it is done
        with suppress(asyncio.CancelledError):
            await work

    async def _pass_on(self, scope: Scope, body: bytes, send: Send) -> None:
        """Let a replica answer, and another one where it dies."""
        exchange = _Exchange(scope, body, send)
        last = time.monotonic() + TAKEOVER_SECONDS
        while not exchange.is_done:
            try:
                await exchange.carry_out(self._replicas)
                continue
            except RayTaskError as error:
                LOG.exception("a replica failed")
                await exchange.give_up(f"the request failed ({error.cause}): report it")
            except (RayError, DeploymentUnavailableError) as error:
                LOG.warning("a replica does not answer: %s", type(error).__name__)
                self._takeovers.inc()
            except _NoRoom:
                pass
            if time.monotonic() > last:
                await exchange.give_up("no replica can go on with it: try again later")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _ask_all(self, method: str) -> list[Any]:
        asked = self._replicas.broadcast(method)
        try:
            found = await asked.results_async(timeout_s=ASK_SECONDS, return_exceptions=True)
        except (TimeoutError, RayActorError):
            return []
        return [one for one in found if not isinstance(one, BaseException)]

    async def _health(self) -> Response:
        found = await self._ask_all("health")
        if not found:
            return problem(503, "no replica answers: try again later")
        health = Health(
            status="ok",
            version=VERSION,
            page=False,
            streams=sum(one.streams for one in found),
            waiting=sum(one.waiting for one in found),
            loaded=sorted({run for one in found for run in one.loaded}),
        )
        return JSONResponse(health.model_dump())

    async def _metrics(self) -> Response:
        found = await self._ask_all("figures")
        self._n_replicas.set(len(found))
        families: dict[str, Metric] = {}
        for name, figures in found:
            for family in figures:
                whole = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = {**sample.labels, "replica": name}
                    whole.add_sample(sample.name, labels, sample.value)
        registry = CollectorRegistry()
        registry.register(_Collected([*self._registry.collect(), *families.values()]))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE)


class _NoRoom(Exception):
    """A replica cannot carry out a request now; another one may, or this one later."""


class _Exchange:
    """A request and its response, by as many replicas as it takes.

    Attributes:
        is_done: whether the response is whole.
    """

    def __init__(self, scope: Scope, body: bytes, send: Send) -> None:
        self.is_done = False
        self._send, self._body = send, body
        self._scope = {name: scope[name] for name in FORWARDED if name in scope}
        headers = Headers(scope=scope)
        session = SESSION.match(scope["path"])
        self._replica_key = session[1] if session else secrets.token_hex(8)
        self._n_tries = 0
        self._is_started = False  # whether the client has got a part of it
        self._headers = {key.encode(): value.encode() for key, value in headers.items()}
        if scope["method"] == "POST":
            self._headers.setdefault(b"idempotency-key", secrets.token_hex(16).encode())

    async def carry_out(self, replicas: DeploymentHandle) -> None:
        """Let a replica answer.

        Raises:
            _NoRoom: ask again.
            RayError: the replica has died, or failed.
        """
        scope = {**self._scope, "headers": list(self._headers.items())}
        key = f"{self._replica_key}{self._n_tries or ''}"
        replica = replicas.options(session_id=key, stream=True)
        messages: Any = replica.answer.remote(scope, self._body)
        try:
            start = await anext(messages)
            headers = Headers(raw=start["headers"])
            if headers.get("content-type", "").startswith("text/event-stream"):
                async for message in messages:
                    await self._tell(start, message)
            else:
                parts = [message["body"] async for message in messages]
                self._check_room(start["status"])
                await self._tell(start, {"type": "http.response.body", "body": b"".join(parts)})
            self.is_done = True
        finally:
            messages.cancel()  # nothing happens where it is done

    async def give_up(self, sentence: str) -> None:
        """End the response with an error."""
        self.is_done = True
        if self._is_started:
            text = event("failed", Problem(error=sentence))
            await self._send({"type": "http.response.body", "body": text.encode()})
            return
        response = problem(503, sentence)
        await response(self._scope, _nothing, self._send)

    def _check_room(self, status: int) -> None:
        """Raise _NoRoom where a request is to be sent again for its status."""
        if self._is_started:  # by a replica that has died: the next one may not know that yet
            raise _NoRoom
        if status == 429 and self._n_tries < N_TRIES - 1:
            self._n_tries += 1
            raise _NoRoom

    async def _tell(self, start: Message, message: Message) -> None:
        """Pass a part of the response on, and note what the client knows."""
        if not self._is_started:
            self._is_started = True
            await self._send(start)
        await self._send(message)
        ids = EVENT_ID.findall(message["body"])
        if ids:
            self._headers[b"last-event-id"] = ids[-1]


class _Collected:
    """Figures that were read elsewhere."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
