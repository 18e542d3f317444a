"""Routes of projects: the tree of versions, files, what is written, and events."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, UploadFile

from seqgen.serving.answers import MidiFile, Packed, Wave
from seqgen.serving.events import EventStream
from seqgen.serving.schemas import (
    DrawnRequest,
    Gone,
    Music,
    NotesRequest,
    ProjectChange,
    ProjectDetail,
    ProjectRequest,
    ProjectState,
    ProjectSummary,
    Surprise,
    Version,
    VersionRequest,
    WholeVersion,
)
from seqgen.serving.studio import Studio


def router(studio: Studio) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/projects", tags=["projects"])
    projects = studio.projects

    @routes.get("")
    def list_projects() -> list[ProjectSummary]:
        """List all projects, the newest first."""
        return projects.list()

    @routes.post("", status_code=201)
    def create(asked: ProjectRequest) -> ProjectDetail:
        """Begin a project; its run is loaded, so that the first notes come at once."""
        return projects.create(asked).describe()

    @routes.post("/open", status_code=201)
    def open_project(file: UploadFile) -> ProjectDetail:
        """Open a project file (.seqgen) as a new project."""
        return projects.unpack(file.file.read()).describe()

    @routes.get("/{project}")
    def project(project: str) -> ProjectDetail:
        """Return a project with its tree of versions."""
        return projects.get(project).describe()

    @routes.patch("/{project}")
    def change(project: str, asked: ProjectChange) -> ProjectDetail:
        """Rename a project, or choose its current version."""
        return projects.get(project).change(asked).describe()

    @routes.delete("/{project}", status_code=204)
    def delete(project: str) -> None:
        """Delete a project and all its versions."""
        projects.delete(project)

    @routes.get("/{project}/file", response_class=Packed)
    def pack(project: str) -> Packed:
        """Return a project as one file."""
        found = projects.get(project)
        return Packed(projects.pack(project), headers=_saved_as(f"{found.name}.seqgen"))

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

    @routes.post("/{project}/notes", status_code=201)
    def draw(project: str, asked: DrawnRequest) -> Version:
        """Make a first version of notes that were drawn by hand."""
        return projects.get(project).draw(asked)

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

    @routes.get("/{project}/versions/{version}/midi", response_class=MidiFile)
    def midi(project: str, version: str) -> MidiFile:
        """Return a version as a MIDI file."""
        found = projects.get(project)
        return MidiFile(found.midi(version), headers=_saved_as(f"{found.name}.mid"))

    @routes.get("/{project}/versions/{version}/wav", response_class=Wave)
    def wav(project: str, version: str) -> Wave:
        """Return a version as sound, played by FluidSynth."""
        found = projects.get(project)
        return Wave(studio.sound(found.midi(version)), headers=_saved_as(f"{found.name}.wav"))

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
                "(Gone), `project` (ProjectState). Those of versions being written come first.",
                "model": Version | Music | Gone | ProjectState,
            }
        },
    )
    async def events(project: str, request: Request) -> EventStream:
        """Tell what changes in a project, as it does."""
        return EventStream.of(await studio.listen(project))

    return routes


def _saved_as(name: str) -> dict[str, str]:
    """Return headers with which a response is saved under a name of plain letters."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in " .-_") else "_" for c in name)
    return {"Content-Disposition": f'attachment; filename="{plain}"'}
