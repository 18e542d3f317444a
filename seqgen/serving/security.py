"""Whose requests are answered: this machine's own pages, or holders of the token.

A page of another site can send requests to a server on this machine, and by DNS rebinding read the
answers. So the Host that a request names must be ours, and so must the Origin of the page that
sends it.
"""

import hmac
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "seqgen_token"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The synthesizer of the page is WebAssembly in part; scripts still come from files alone.
POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
RETRY_SECONDS = "2"  # where a server has no room
WHOLE_PROJECT = "/api/projects/open"


class Guard:
    """Checks each request before anything else sees it, and adds headers to each response."""

    def __init__(
        self,
        *,
        port: int,
        hosts: Sequence[str] = LOOPBACK,
        token: str | None = None,
        max_body_bytes: int,
        max_project_bytes: int,
    ) -> None:
        """Set the rules.

        Args:
            port: of the server.
            hosts: names under which it is reached.
            token: what requests must have, in a cookie or as "Authorization: Bearer"; None: none.
            max_body_bytes: of a request.
            max_project_bytes: of one that opens a project file.
        """
        self._hosts = {_host(name, port) for name in hosts} | ({*hosts} if port == 80 else set())
        self._token, self._max_body, self._max_project = token, max_body_bytes, max_project_bytes

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Return an application that checks what `app` is asked."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            refusal = self._refuse(scope)
            with_headers = _adding_headers(send)
            if refusal is not None:
                await refusal(scope, receive, with_headers)
                return
            bound = self._max_project if scope["path"] == WHOLE_PROJECT else self._max_body
            await _Bounded(app, bound)(scope, receive, with_headers)

        return guarded

    def _refuse(self, scope: Scope) -> Response | None:
        """Return the response to a request that is not answered."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if host not in self._hosts:
            known = " or ".join(sorted(self._hosts))
            return problem(403, f"this server is not reached as {host[:100]!r}, but as {known}")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host:
            return problem(403, f"requests of pages of {origin[:100]} are not answered")
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            is_link = scope["method"] == "GET" and scope["path"] == "/"
            if not is_link:
                return problem(403, "requests of pages of other sites are not answered")
        return None if self._token is None else self._check_token(scope, headers)

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] == "GET" and scope["path"] == "/" and self._is_token(given):
            response = RedirectResponse("/", 303)
            response.set_cookie(COOKIE, given, httponly=True, samesite="strict")
            return response
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        cookie = SimpleCookie()
        try:
            cookie.load(headers.get("cookie", ""))
        except CookieError:
            cookie.clear()
        held = cookie[COOKIE].value if COOKIE in cookie else ""
        if self._is_token(held) or (scheme.lower() == "bearer" and self._is_token(bearer)):
            return None
        return problem(
            401,
            "this server needs its token: open the address that it printed, or send it as "
            "Authorization: Bearer TOKEN",
        )

    def _is_token(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode(), self._token.encode())


class _Bounded:
    """An application whose requests have bodies of a bounded size."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sentence = f"the request is larger than {self._most:,} bytes: send less"
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length) > self._most:
            await problem(413, sentence)(scope, receive, send)
            return
        n_read = 0

        async def counted() -> Message:
            nonlocal n_read
            message = await receive()
            n_read += len(message.get("body", b""))
            if n_read > self._most:  # a body without a length that goes on and on
                raise HTTPException(413, sentence)
            return message

        await self._app(scope, counted, send)


def _host(name: str, port: int) -> str:
    return f"[{name}]:{port}" if ":" in name else f"{name.lower()}:{port}"


def problem(status: int, sentence: str) -> Response:
    """Return the response that tells an error."""
    headers = {"Retry-After": RETRY_SECONDS} if status in (429, 503) else {}
    return JSONResponse({"error": sentence}, status, headers)


def _adding_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(
                    (name.lower().encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.lower().encode() not in names
                ),
            ]
        await send(message)

    return wrapped
