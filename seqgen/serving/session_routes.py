"""Routes of sessions: streams that go on, fork and rewind, for programs."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from seqgen.serving.answers import Binary
from seqgen.serving.events import EventStream, json_or_events
from seqgen.serving.programs import result_or_gone
from seqgen.serving.schemas import (
    Key,
    LastEvent,
    SessionContinue,
    SessionRequest,
    SessionRewind,
    SessionState,
)
from seqgen.serving.studio import Studio


def router(studio: Studio) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/sessions", tags=["sessions"])
    sessions = studio.sessions

    @routes.post("", status_code=201)
    def create(asked: SessionRequest, idempotency_key: Key = None) -> SessionState:
        """Begin a session."""
        return sessions.create(asked, key=idempotency_key)

    @routes.get("/{session}")
    def state(session: str) -> SessionState:
        """Return a session with its piece."""
        return sessions.state(session)

    @routes.post(
        "/{session}/continue",
        response_model=SessionState,
        responses=json_or_events(
            "The session; with `stream` server-sent events: `tokens` (Tokens), "
            "and `done` (SessionState) at the end."
        ),
    )
    async def go_on(
        session: str,
        asked: SessionContinue,
        request: Request,
        idempotency_key: Key = None,
        last_event_id: LastEvent = None,
    ) -> Response:
        """Let a session go on for some bars, exactly as if it had never stopped.

        If the connection is closed, it stays where it was.
        """
        key = idempotency_key
        if asked.stream:
            events = await sessions.stream(session, asked.bars, key=key, after=last_event_id)
            return EventStream.of(events)
        held, result = await asyncio.to_thread(sessions.go_on, session, asked.bars, key=key)
        state = await result_or_gone(request, result, lambda: sessions.cancel(held))
        return JSONResponse(state.model_dump())

    @routes.post("/{session}/fork", status_code=201)
    def fork(session: str, idempotency_key: Key = None) -> SessionState:
        """Return a new session that goes on from here with other random numbers."""
        return sessions.fork(session, key=idempotency_key)

    @routes.post("/{session}/rewind")
    def rewind(session: str, asked: SessionRewind) -> SessionState:
        """Go back to one of the marks; the same tokens follow again."""
        return sessions.rewind(session, asked.bars)

    @routes.get("/{session}/save", response_class=Binary)
    def save(session: str) -> Binary:
        """Return a session as a safetensors file, which `seqgen.Session.load` reads."""
        return Binary(sessions.save(session))

    @routes.delete("/{session}", status_code=204)
    def delete(session: str) -> None:
        """Delete a session."""
        sessions.delete(session)

    return routes
