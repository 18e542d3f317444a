"""The application: routes by subject, errors as one sentence, the page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.exceptions import HTTPException

from seqgen.errors import UserError
from seqgen.serving import product_routes, project_routes, run_routes, session_routes
from seqgen.serving.docs_page import describe_api
from seqgen.serving.figures import CONTENT_TYPE, Figures
from seqgen.serving.problems import sentence_of, status_of
from seqgen.serving.schemas import Problem
from seqgen.serving.security import Guard, problem
from seqgen.serving.studio import VERSION, Studio

PAGE = Path(__file__).parent / "page"
NOT_BUILT = (
    "The page of the studio is not built here: run `make studio` (it needs Node 20), or install a "
    "wheel, which carries it. The API works without it; /docs describes it.\n"
)
# As JSON also where the answer itself is something else; the class is named by one route.
PROBLEM = {"application/json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
STATUSES = {
    400: "What is asked is not possible",
    404: "There is no such thing",
    409: "Not in the present state",
    413: "Too large",
    422: "Not as the schema says",
    429: "Too many at once",
    503: "Not possible here or now",
}


def build_app(studio: Studio, *, guard: Guard | None = None, is_studio: bool = True) -> FastAPI:
    """Return the application that serves a studio.

    Args:
        studio: what is served; it is opened and closed with the application.
        guard: whose requests are answered; None: all.
        is_studio: whether there are projects and the page, beside what programs use.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        studio.open()
        try:
            yield
        finally:
            await studio.close()

    app = FastAPI(
        title="seqgen studio" if is_studio else "seqgen",
        version=VERSION,
        lifespan=lifespan,
        redoc_url=None,
        docs_url=None,
        openapi_url="/openapi.json",
        responses={
            status: {"description": words, "content": PROBLEM} for status, words in STATUSES.items()
        },
    )
    app.state.studio = studio
    app.add_exception_handler(UserError, _tell)
    app.add_exception_handler(RequestValidationError, _tell_invalid)
    app.add_exception_handler(HTTPException, _tell_http)
    app.add_exception_handler(Exception, _tell_failure)
    studio_routes = [project_routes.router(studio)] if is_studio else []
    programs = [routes.router(studio) for routes in (run_routes, product_routes, session_routes)]
    for router in (*studio_routes, *programs):
        app.include_router(router, prefix="/api")
    _add_help(app, studio.runs.figures)
    if is_studio:
        _add_page(app)
    if guard is not None:
        app.add_middleware(guard.middleware)
    return app


def _tell(request: Request, error: Exception) -> Response:
    assert isinstance(error, UserError)
    status = status_of(error)
    if status == 429:
        request.app.state.studio.runs.figures.refused.inc()
    return problem(status, sentence_of(error))


def _tell_invalid(request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with the first thing that is, and where it stands."""
    assert isinstance(error, RequestValidationError)
    first, *others = error.errors()
    place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    more = f" (and {len(others)} more)" if others else ""
    return JSONResponse({"error": f"{place}: {first['msg']}{more}; /docs has the schema"}, 422)


def _tell_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    sentences = {
        404: f"there is nothing at {request.url.path[:200]}: /docs lists what there is",
        405: f"{request.method} is not possible at {request.url.path[:200]}: see /docs",
    }
    sentence = sentences.get(error.status_code, str(error.detail))
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


def _tell_failure(request: Request, error: Exception) -> Response:
    """Tell a fault of ours, whose traceback is in the server's log."""
    sentence = f"the server failed at this ({type(error).__name__}): its log says where; report it"
    return problem(500, sentence)


def _add_help(app: FastAPI, figures: Figures) -> None:
    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(figures.text(), media_type=CONTENT_TYPE)

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        return HTMLResponse(describe_api(app.openapi()))


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> Response:
        if not (PAGE / "index.html").is_file():
            return PlainTextResponse(NOT_BUILT, 503)
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/{name:path}", include_in_schema=False)
    def asset(name: str) -> Response:
        """A file of the page, out of the list of those that there are: no path is followed."""
        files = {path.relative_to(PAGE).as_posix(): path for path in PAGE.rglob("*")}
        path = files.get(name)
        if path is None or not path.is_file():
            raise HTTPException(404)
        # Names of assets hold a hash of their content.
        forever = (
            "public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"
        )
        return FileResponse(path, headers={"Cache-Control": forever})
