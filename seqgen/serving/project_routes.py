"""Routes of projects: the tree of versions, files, what is written, and events."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response, UploadFile

from seqgen.serving.events import EventStream
from seqgen.serving.schemas import (
    Gone,
    Music,
    NotesRequest,
    Project,
    ProjectChange,
    ProjectRequest,
    ProjectSummary,
    Surprise,
    Version,
    VersionRequest,
    WholeVersion,
)
from seqgen.serving.studio import Studio

PACKED = "application/vnd.seqgen"


def router(studio: Studio) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/projects", tags=["projects"])
    projects = studio.projects

    @routes.get("")
    def list_projects() -> list[ProjectSummary]:
        """List all projects, the newest first."""
        return projects.list()

    @routes.post("", status_code=201)
    def create(asked: ProjectRequest) -> Project:
        """Begin a project; its run is loaded, so that the first notes come at once."""
        return projects.create(asked).describe()

    @routes.post("/open", status_code=201)
    def open_project(file: UploadFile) -> Project:
        """Open a project file (.seqgen) as a new project."""
        return projects.unpack(file.file.read()).describe()

    @routes.get("/{project}")
    def project(project: str) -> Project:
        """Return a project with its tree of versions."""
        return projects.get(project).describe()

    @routes.patch("/{project}")
    def change(project: str, asked: ProjectChange) -> Project:
        """Rename a project, or choose its current version."""
        return projects.get(project).change(asked).describe()

    @routes.delete("/{project}", status_code=204)
    def delete(project: str) -> None:
        """Delete a project and all its versions."""
        projects.delete(project)

    @routes.get("/{project}/file", response_class=Response)
    def pack(project: str) -> Response:
        """Return a project as one file."""
        found = projects.get(project)
        return _download(projects.pack(project), f"{found.name}.seqgen", PACKED)

    @routes.post("/{project}/upload", status_code=201)
    def upload(
        project: str, file: UploadFile, bars: Annotated[int | None, Form(ge=1)] = None
    ) -> Version:
        """Add a MIDI file as a version; `bars`: use only so many first bars of it."""
        return projects.get(project).upload(file.file.read(), file.filename or "", bars)

    @routes.post("/{project}/versions", status_code=202)
    def write(project: str, asked: VersionRequest) -> list[Version]:
        """Let new versions be written; `events` tells their notes while they are."""
        return projects.get(project).write(asked)

    @routes.get("/{project}/versions/{version}")
    def version(project: str, version: str) -> WholeVersion:
        """Return a version with its piece."""
        return projects.get(project).whole(version)

    @routes.delete("/{project}/versions/{version}", status_code=204)
    def drop(project: str, version: str) -> None:
        """Delete a version and those made from it; what is being written ends."""
        projects.get(project).drop(version)

    @routes.put("/{project}/versions/{version}/notes", status_code=201)
    def edit(project: str, version: str, asked: NotesRequest) -> Version:
        """Make a new version with notes that were edited by hand."""
        return projects.get(project).edit(version, asked)

    @routes.get("/{project}/versions/{version}/midi", response_class=Response)
    def midi(project: str, version: str) -> Response:
        """Return a version as a MIDI file."""
        found = projects.get(project)
        return _download(found.midi(version), f"{found.name}.mid", "audio/midi")

    @routes.get("/{project}/versions/{version}/wav", response_class=Response)
    def wav(project: str, version: str) -> Response:
        """Return a version as sound, played by FluidSynth."""
        found = projects.get(project)
        return _download(studio.sound(found.midi(version)), f"{found.name}.wav", "audio/wav")

    @routes.get("/{project}/versions/{version}/surprise")
    def surprise(project: str, version: str) -> Surprise:
        """Say how surprising each note was to the model, and what else it considered."""
        return projects.get(project).surprise(version)

    @routes.get(
        "/{project}/events",
        response_class=EventStream,
        responses={
            200: {
                "description": "Server-sent events: `version` (Version), `music` (Music), `gone` "
                "(Gone). Those of all versions that are being written come first.",
                "model": Version | Music | Gone,
            }
        },
    )
    async def events(project: str, request: Request) -> EventStream:
        """Tell what changes in a project, as it does."""
        return EventStream.of(await studio.listen(project))

    return routes


def _download(content: bytes, name: str, kind: str) -> Response:
    """Return a response that is saved under a name of plain letters."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in " .-_") else "_" for c in name)
    headers = {"Content-Disposition": f'attachment; filename="{plain}"'}
    return Response(content, media_type=kind, headers=headers)
