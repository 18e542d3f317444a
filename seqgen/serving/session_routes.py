"""Routes of sessions: streams that go on, fork and rewind, for programs."""

import asyncio

from fastapi import APIRouter, Request

from seqgen.serving.answers import Binary
from seqgen.serving.programs import result_or_gone
from seqgen.serving.schemas import (
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
    def create(asked: SessionRequest) -> SessionState:
        """Begin a session."""
        return sessions.create(asked)

    @routes.get("/{session}")
    def state(session: str) -> SessionState:
        """Return a session with its piece."""
        return sessions.state(session)

    @routes.post("/{session}/continue")
    async def go_on(session: str, asked: SessionContinue, request: Request) -> SessionState:
        """Let a session go on for some bars, exactly as if it had never stopped."""
        held, result = await asyncio.to_thread(sessions.go_on, session, asked.bars)
        return await result_or_gone(request, result, lambda: sessions.cancel(held))

    @routes.post("/{session}/fork", status_code=201)
    def fork(session: str) -> SessionState:
        """Return a new session that goes on from here with other random numbers."""
        return sessions.fork(session)

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
