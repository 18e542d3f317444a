"""The work of `seqgen studio`: a port, the address, the browser, and the server."""

import contextlib
import errno
import secrets
import socket
import webbrowser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from seqgen.commands.settings import say
from seqgen.errors import UserError

if TYPE_CHECKING:
    from seqgen.serving.problems import Limits

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def execute(
    runs: Sequence[str],
    *,
    port: int,
    host: str,
    no_browser: bool,
    projects: str,
    limits: Sequence[str],
) -> None:
    """Serve until Ctrl-C."""
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise UserError(
            f"the studio needs packages that are not installed ({', '.join(missing)}): pip install "
            f"'seqgen[studio]'"
        )
    import uvicorn

    from seqgen.serving.app import build_app
    from seqgen.serving.security import LOOPBACK, Guard
    from seqgen.serving.studio import Studio

    bounds = _limits(limits)
    studio = Studio(Path(projects), runs=runs, limits=bounds)
    studio.runs.check()
    listener = _listen(host, port)
    token = None if host in LOOPBACK else secrets.token_urlsafe(24)
    names = LOOPBACK if token is None else _names(host, LOOPBACK)
    guard = Guard(
        port=port,
        hosts=names,
        token=token,
        max_body_bytes=bounds.max_body_bytes,
        max_project_bytes=bounds.max_project_bytes,
    )
    shown = f"[{names[0]}]" if ":" in names[0] else names[0]
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
    say(f"studio: {address} (Ctrl-C ends it); projects are kept in {projects}/")
    config = uvicorn.Config(
        build_app(studio, guard=guard),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    if not no_browser:
        webbrowser.open(address)
    uvicorn.Server(config).run([listener])


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
