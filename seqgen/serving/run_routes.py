"""Routes of runs: which there are, what can be set, curves and reports; and of the server."""

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse

from seqgen.errors import UserError
from seqgen.rendering.sound.soundfonts import find_soundfont
from seqgen.serving.answers import Binary, Picture
from seqgen.serving.problems import Refusal
from seqgen.serving.schemas import Health, Problem, Run, RunDetail
from seqgen.serving.studio import Studio

MOST_SOUND_BYTES = 60_000_000  # the page loads it whole before the first note, if it can choose
# The report has styles and pictures inside, and runs nothing.
REPORT_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def router(studio: Studio) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(tags=["runs"])

    @routes.get("/health", responses={503: {"model": Problem}})
    def health() -> Health:
        """Say that the server works, and how busy it is."""
        return studio.health()

    @routes.get("/runs")
    def runs() -> list[Run]:
        """List the runs in runs/ and those that the server was started with."""
        return studio.runs.list()

    @routes.get("/runs/{run}")
    def run(run: str) -> RunDetail:
        """Describe a run and all that can be set; the model is loaded for it."""
        return studio.runs.detail(run)

    @routes.get("/runs/{run}/losses.png", response_class=Picture)
    def losses(run: str, dark: bool = False) -> Picture:
        """Draw the losses of the training."""
        return Picture(studio.runs.losses(run, dark=dark))

    @routes.get("/runs/{run}/report", response_class=HTMLResponse)
    def report(run: str) -> FileResponse:
        """Return the report that `evaluate` wrote of the run, as HTML."""
        headers = {"Content-Security-Policy": REPORT_POLICY}
        return FileResponse(studio.runs.report(run), media_type="text/html", headers=headers)

    @routes.get("/soundfont", response_class=Binary)
    def soundfont() -> FileResponse:
        """Return the soundfont of this machine."""
        try:
            path = find_soundfont(most_bytes=MOST_SOUND_BYTES)
        except UserError as error:
            raise Refusal(404, str(error)) from None
        headers = {"Cache-Control": "private, max-age=86400"}
        return FileResponse(path, media_type=Binary.media_type, headers=headers)

    return routes
