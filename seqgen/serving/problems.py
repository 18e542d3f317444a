"""What goes wrong over HTTP: an error with its status, and the bounds of what is served."""

import re

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from seqgen.decoding import EngineFull
from seqgen.errors import FileRejected, UserError


class Refusal(UserError):
    """One sentence for a client, and the status of the response."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def missing(what: str, name: str) -> Refusal:
    """There is no such thing."""
    return Refusal(
        404, f"there is no {what} {name[:80]!r}: it may have been deleted; list them anew"
    )


def status_of(error: UserError) -> int:
    """Return the status of the response that tells an error."""
    if isinstance(error, Refusal):
        return error.status
    if isinstance(error, EngineFull):
        return 429
    return 413 if isinstance(error, FileRejected) and error.kind == "over-limit" else 400


def sentence_of(error: BaseException) -> str:
    """Return what an error says to a client: options of the commands are fields here."""
    return re.sub(r"--([a-z][a-z-]*)", lambda found: found[1].replace("-", "_"), str(error))


class Limits(BaseModel):
    """What one server does at most."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_body_bytes: PositiveInt = 8_000_000  # of a request
    max_project_bytes: PositiveInt = 64_000_000  # of a project file, packed and unpacked
    max_streams: PositiveInt = 64  # that are written at once by a run
    max_waiting: PositiveInt = 64  # for a free stream
    tokens_per_second: PositiveFloat = 25.0  # of each stream, for which others wait
    max_tokens: PositiveInt = 16_384  # of one stream
    max_seconds: PositiveFloat = 600.0  # that one stream may take
    max_runs: PositiveInt = 3  # loaded at once
    max_projects: PositiveInt = 1000
    max_versions: PositiveInt = 500  # of a project
    max_sessions: PositiveInt = 1000
    max_listeners: PositiveInt = 256  # open event streams
    state_bytes: PositiveInt = 256_000_000  # of states at bar lines, for each run
    idle_seconds: PositiveFloat = 300.0  # after which a session leaves memory
