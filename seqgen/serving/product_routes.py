"""Routes for programs: a piece as JSON or as it is written, and answers to what is played."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from seqgen.serving.events import EventStream, json_or_events
from seqgen.serving.schemas import (
    Generated,
    GenerateRequest,
    Key,
    LastEvent,
    LiveAnswer,
    LivePlayed,
    LiveRequest,
)
from seqgen.serving.studio import Studio


def router(studio: Studio) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["programs"])

    @routes.post(
        "/generate",
        response_model=Generated,
        responses=json_or_events(
            "The piece; with `stream` server-sent events: `tokens` (Tokens), "
            "`music` (Music), and `done` (Generated) at the end."
        ),
    )
    async def generate(
        asked: GenerateRequest,
        request: Request,
        idempotency_key: Key = None,
        last_event_id: LastEvent = None,
    ) -> Response:
        """Write a piece. If the connection is closed, writing ends within a step."""
        if asked.stream:
            events = await studio.programs.stream(asked, key=idempotency_key, after=last_event_id)
            return EventStream.of(events)
        return JSONResponse((await studio.programs.generate(asked, request)).model_dump())

    @routes.post(
        "/live",
        response_model=LiveAnswer,
        responses=json_or_events(
            "The answer; with `stream` server-sent events: `music` with what "
            "is written so far, and `done` with all of it (LiveAnswer)."
        ),
    )
    async def live(asked: LiveRequest, request: Request) -> Response:
        """Answer what was played, from the next bar line on."""
        if asked.stream:
            return EventStream.of(await studio.programs.live_stream(asked))
        return JSONResponse((await studio.programs.live(asked, request)).model_dump())

    @routes.post("/live/ahead", status_code=204)
    def look_ahead(asked: LivePlayed) -> None:
        """Take in what was played so far, so that an answer to it and to what follows is sooner."""
        studio.programs.look_ahead(asked)

    return routes
