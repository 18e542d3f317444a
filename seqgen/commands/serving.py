"""The work of `seqgen studio` and `seqgen serve`: a port, the address, and the server."""

import contextlib
import errno
import secrets
import socket
import webbrowser
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from seqgen.commands.settings import say
from seqgen.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from seqgen.serving.problems import Limits
    from seqgen.serving.runs import Runs
    from seqgen.serving.security import Guard

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
RAY_PACKAGES = ("ray", "grpc", "mmh3")


def run_studio(
    runs: Sequence[str], *, projects: str, limits: Sequence[str], no_browser: bool, **place: Any
) -> None:
    """Serve the studio until Ctrl-C."""
    _check_installed("the studio", PACKAGES, "studio")
    from seqgen.serving.app import build_app
    from seqgen.serving.studio import Studio

    bounds = _limits(limits)
    studio = Studio(Path(projects), runs=runs, limits=bounds)
    studio.runs.check()
    _serve(
        lambda guard: build_app(studio, guard=guard),
        what="studio",
        kept=f"projects are kept in {projects}/",
        limits=bounds,
        opens_browser=not no_browser,
        **place,
    )


def run_server(
    runs: Sequence[str],
    *,
    projects: str,
    limits: Sequence[str],
    engine: str,
    address: str | None,
    replicas: int | None,
    max_replicas: int | None,
    **place: Any,
) -> None:
    """Serve the API for programs until Ctrl-C."""
    _check_installed("serve", PACKAGES, "studio")
    from seqgen.serving.app import build_app
    from seqgen.serving.runs import Runs
    from seqgen.serving.studio import Studio

    place |= {"what": "API", "kept": f"sessions are kept in {projects}/"}
    bounds, folder = _limits(limits), Path(projects)
    found = Runs(runs, bounds)
    found.check()
    if engine == "ray":
        least = replicas or 1
        number = (least, max_replicas or least)
        _serve_replicas(found, folder, address, number, limits=bounds, **place)
        return
    for_ray = {"address": address, "replicas": replicas, "max-replicas": max_replicas}
    for name, value in for_ray.items():
        if value is not None:
            raise UserError(f"--{name} is for replicas: add --engine ray, or leave --{name} out")
    studio = Studio(folder, runs=runs, limits=bounds)
    _serve(lambda guard: build_app(studio, guard=guard, is_studio=False), limits=bounds, **place)


def _serve_replicas(
    runs: "Runs",
    folder: Path,
    address: str | None,
    number: tuple[int, int],
    *,
    limits: "Limits",
    **place: Any,
) -> None:
    """Serve through replicas on a Ray cluster.

    Args:
        runs: that each of them serves.
        folder: of sessions.
        address: of the cluster; None: on this machine, for as long as this runs.
        number: of replicas, at least and at most.
        limits: of each replica.
        place: as for `_serve`.
    """
    _check_installed("--engine ray", RAY_PACKAGES, "scale")
    from seqgen.cluster import connect
    from seqgen.serving.replicas import Front, deploy, new_settings, stop

    least, most = number
    if most < least:
        raise UserError(f"--max-replicas {most}: must be --replicas ({least}) or more")
    settings = new_settings(folder, runs, limits)

    def build(guard: "Guard") -> "ASGIApp":
        connect(address)
        return guard.middleware(Front(deploy(settings, replicas=least, most=most)))

    try:
        _serve(build, limits=limits, **place)
    finally:
        stop(settings)


def _serve(
    build: Callable[["Guard"], "ASGIApp"],
    *,
    what: str,
    kept: str,
    port: int,
    host: str,
    limits: "Limits",
    opens_browser: bool = False,
) -> None:
    """Listen on an address until Ctrl-C.

    Args:
        build: returns the application, which asks what it is given whose requests are answered.
        what: is served, in a word.
        kept: what is kept where, in a few words.
        port, host: where to listen.
        limits: of requests.
        opens_browser: whether to open the address.
    """
    import uvicorn

    from seqgen.serving.security import LOOPBACK, Guard

    listener = _listen(host, port)
    token = None if host in LOOPBACK else secrets.token_urlsafe(24)
    names = LOOPBACK if token is None else _names(host, LOOPBACK)
    guard = Guard(
        port=port,
        hosts=names,
        token=token,
        max_body_bytes=limits.max_body_bytes,
        max_project_bytes=limits.max_project_bytes,
    )
    config = uvicorn.Config(
        build(guard),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    shown = f"[{names[0]}]" if ":" in names[0] else names[0]
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
    say(f"{what}: {address} (Ctrl-C ends it); {kept}")
    if opens_browser:
        webbrowser.open(address)
    uvicorn.Server(config).run([listener])


def _check_installed(what: str, packages: Sequence[str], extra: str) -> None:
    """Raise UserError where a package is missing."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise UserError(
            f"{what} needs packages that are not installed ({', '.join(missing)}): pip install "
            f"'seqgen[{extra}]'"
        )


def _limits(given: Sequence[str]) -> "Limits":
    from seqgen.serving.problems import Limits

    pairs = [text.partition("=") for text in given]
    try:
        return Limits.model_validate({name: value for name, _, value in pairs})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        known = ", ".join(Limits.model_fields)
        raise UserError(f"--limit {name}: {first['msg']}; limits are {known}") from None


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; UserError where the port is taken or the address is wrong."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} is in use, perhaps by another studio: choose another one with "
                f"--port {port + 1 if port < 65535 else port - 1}"
            ) from None
        reason = error.strerror or error
        raise UserError(f"cannot listen on {host} port {port}: {reason}") from None


def _names(host: str, loopback: Sequence[str]) -> list[str]:
    """Return the names under which this machine is reached on an address."""
    if host not in ("0.0.0.0", "::"):
        return [host]
    own = socket.gethostname()
    names = [own, *loopback]
    with contextlib.suppress(OSError):
        names += [str(found[4][0]) for found in socket.getaddrinfo(own, None)]
    return list(dict.fromkeys(names))
