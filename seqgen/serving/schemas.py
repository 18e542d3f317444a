"""What goes over the wire, as JSON. The page's types are made from these classes.

All times are in quarter notes from the beginning of a piece. Bars are counted from 0: bar line k
lies before bar k.
"""

from typing import Annotated, Literal

from fastapi import Header
from pydantic import BaseModel, ConfigDict, Field

from seqgen.midi.repair import MAX_TEMPO, MIN_TEMPO
from seqgen.tasks.settings import Choice, Setting

MOST_NOTES = 20_000  # in one request
MOST_QUARTERS = 100_000  # of a piece
MOST_BARS = 256  # that are written at once
MOST_SAMPLES = 8  # versions that are kept of one request
MOST_TRIES = 32  # of a bar
MOST_ALTERNATIVES = 32  # of which they are chosen

Name = Annotated[str, Field(min_length=1, max_length=120)]
Time = Annotated[float, Field(ge=0, le=MOST_QUARTERS)]
Words = Annotated[str, Field(max_length=2000)]
# Headers: of a request that is sent again if no answer came, and of a stream that was interrupted.
Key = Annotated[str | None, Header(min_length=1, max_length=200)]
LastEvent = Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=2**53 - 1)]
Status = Literal["writing", "done", "failed", "cancelled"]
Kind = Literal["prompt", "kept", "written"]
Task = Literal["continue", "rewrite", "vary", "add"]
Bpm = Annotated[float, Field(ge=MIN_TEMPO, le=MAX_TEMPO)]
Alternatives = Annotated[int, Field(ge=1, le=MOST_ALTERNATIVES)] | None
Guided = Annotated[float, Field(gt=0, le=100)] | None
Tries = Annotated[int, Field(ge=1, le=MOST_TRIES)] | None
Pick = Literal["asked", "likeliest", "most-different"] | None


class Shape(BaseModel):
    """What the server says."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Asked(BaseModel):
    """What a client says: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Problem(Shape):
    """Every error: one sentence that names the thing and the way out."""

    error: str


class Note(Shape):
    """One note: given by a person (prompt), taken over from the version before, or written."""

    track: Annotated[int, Field(ge=0, le=499)]
    pitch: Annotated[int, Field(ge=0, le=127)]
    start: Time
    length: Annotated[float, Field(gt=0, le=MOST_QUARTERS)]
    velocity: Annotated[int, Field(ge=1, le=127)]
    kind: Kind = "kept"
    bits: float | None = None


class Track(Shape):
    """One instrument: a General MIDI program, or drums."""

    name: str
    program: Annotated[int, Field(ge=0, le=127)]
    is_drum: bool


class Instrument(Track):
    """A track that can be added; `is_known`: the run tells it apart from others."""

    is_known: bool


class Metre(Shape):
    """A time signature from a time on."""

    start: Time
    numerator: Annotated[int, Field(ge=1)]
    denominator: Annotated[int, Field(ge=1)]


class Tempo(Shape):
    """Quarter notes per minute from a time on."""

    start: Time
    bpm: Annotated[float, Field(gt=0)]


class ShownPiece(Shape):
    """Notes in order of time, and the start of each bar with the end of the last one after it."""

    tracks: list[Track]
    notes: list[Note]
    bars: list[Time]
    metres: list[Metre]
    tempos: list[Tempo]
    length: Time


class Run(Shape):
    """A trained model."""

    id: str
    name: str
    step: int
    kind: str
    loss_bits: float | None
    unit: str
    can: list[Literal["continue", "form", "controls", "rewrite", "add", "vary"]]
    is_loaded: bool
    n_parameters: int | None = None


class RunDetail(Run):
    """A trained model with all that can be set; asking for it loads the model."""

    settings: list[Setting]
    parts: list[Choice]
    instruments: list[Instrument]
    has_losses: bool
    has_report: bool


class Finding(Shape):
    """What was asked for, what came, and in which share of the bars that is the same."""

    what: str
    asked: str
    came: str
    met: float


class Report(Shape):
    """What an uploaded file holds, and what of it was repaired or cannot be told in tokens."""

    sentences: list[str]


class VersionRequest(Asked):
    """New versions: a parent gone on from a bar line, or some of its bars written anew.

    `parent` null begins from nothing. `from_bar`: the bar line to go on from; null: the end.
    `bars`: how many new bars; null: until the model ends the piece. `form` lays a piece out in
    sections, such as "AABA", and excludes `parent`, `bars`, `asked` and `metre`. `rewrite`: the
    bars of the tasks rewrite and vary, counted from 1, such as "9-16"; `tracks` there and `add`
    name parts. `amount`: the share of the bars that vary.

    `asked`: what the new bars should be, by setting; "same": as in the bars before them, "-": left
    open. A continuation keeps by itself what has an `open` value among the settings of the run.

    `alternatives`: how many are drawn, of which `samples` are kept when all are there; null: four
    for each sample where something is `asked` of whole pieces, or of bars and `pick` is given;
    otherwise as many as samples.
    `pick`: which of them: those that meet most of what is asked, the likeliest, or those that
    differ most from each other; null: the first where something is asked, otherwise the second.

    `guidance`: how much what is asked weighs; 1: as the model has learned it; above: more, at twice
    the work; null: 2 where something is asked. `tries`: how often a bar is drawn at most of which a
    chord or a density is asked, until it is so; null: 4.
    """

    parent: str | None = None
    task: Task = "continue"
    from_bar: Annotated[int, Field(ge=0, le=100_000)] | None = None
    bars: Annotated[int, Field(ge=1, le=MOST_BARS)] | None = 8
    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 1
    alternatives: Alternatives = None
    pick: Pick = None
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    sampling: dict[Name, float] = {}
    asked: dict[Name, Words] = {}
    metre: Annotated[str, Field(max_length=20)] | None = None
    tempo: float | None = None
    guidance: Guided = None
    tries: Tries = None
    form: Words | None = None
    section: Annotated[int, Field(ge=1, le=MOST_BARS)] | None = None
    rewrite: Annotated[str, Field(max_length=40)] | None = None
    tracks: Annotated[list[Name], Field(max_length=200)] = []
    add: Annotated[list[Name], Field(max_length=200)] = []
    amount: Annotated[float, Field(gt=0, le=1)] = 0.3


class NotesRequest(Asked):
    """All notes of a piece after it was edited by hand.

    `tracks`: with those that were added; null: as before.
    """

    notes: Annotated[list[Note], Field(max_length=MOST_NOTES)]
    tracks: Annotated[list[Track], Field(max_length=500)] | None = None


class DrawnRequest(Asked):
    """A piece drawn by hand, note by note, in tracks of its own."""

    notes: Annotated[list[Note], Field(max_length=MOST_NOTES)]
    tracks: Annotated[list[Track], Field(max_length=500)]
    tempo: Bpm | None = None
    metre: Annotated[str, Field(max_length=20)] | None = None


class Version(Shape):
    """One version of a piece, without its notes."""

    id: str
    parent: str | None
    created: str
    label: str
    origin: Literal["request", "upload", "edit"]
    status: Status
    request: VersionRequest | None
    seed: int | None
    from_bar: int | None
    log_likelihood_bits: float | None
    bits_per_note: float | None
    findings: list[Finding]
    message: str | None
    report: Report | None
    n_bars: int
    n_notes: int


class WholeVersion(Version):
    """One version with its piece."""

    piece: ShownPiece


class ProjectRun(Shape):
    """The run of a project; `matches`: whether it is the model that the versions were made with."""

    id: str
    name: str
    step: int | None
    matches: bool
    message: str | None


class ProjectDetail(Shape):
    """A tree of versions of one piece."""

    id: str
    name: str
    created: str
    run: ProjectRun
    current: str | None
    versions: list[Version]


class ProjectSummary(Shape):
    """A project in a list."""

    id: str
    name: str
    created: str
    run: str
    n_versions: int


class ProjectRequest(Asked):
    """A new project, made with a run."""

    run: Name
    name: Name | None = None


class ProjectChange(Asked):
    """A new name, or another current version."""

    name: Name | None = None
    current: str | None = None


class Music(Shape):
    """While a version is written: its notes from `from_note` on are replaced by `notes`.

    Tracks, bars, metres and tempos are all there are now.
    """

    id: str
    from_note: int
    notes: list[Note]
    tracks: list[Track]
    bars: list[float]
    metres: list[Metre]
    tempos: list[Tempo]
    length: float


class ProjectState(Shape):
    """The name and the current version of a project have changed."""

    id: str
    name: str
    current: str | None


class Gone(Shape):
    """A version was deleted."""

    id: str


class Alternative(Shape):
    """Another way to go on that the model considered."""

    label: str
    probability: float


class NoteSurprise(Shape):
    """How surprising a note was: `note` is its index in the piece."""

    note: int
    bits: float
    alternatives: list[Alternative]


class Surprise(Shape):
    """What the model makes of each note."""

    notes: list[NoteSurprise]


class LivePlayed(Asked):
    """What was played so far."""

    run: Name
    notes: Annotated[list[Note], Field(max_length=2000)]
    tracks: Annotated[list[Track], Field(max_length=16)] = []
    tempo: Bpm | None = None
    metre: Annotated[str, Field(max_length=20)] | None = None


class LiveRequest(LivePlayed):
    """What was played, and how many bars to answer; the answer begins at a bar line.

    `stream`: as server-sent events while it is written.
    """

    bars: Annotated[int, Field(ge=1, le=16)] = 2
    sampling: dict[Name, float] = {}
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    stream: bool = False


class LiveAnswer(Shape):
    """The answer, or its beginning: its notes, and the computing before the first and the last."""

    piece: ShownPiece
    begin: float
    first_note_milliseconds: float
    milliseconds: float


class GenerateRequest(Asked):
    """A piece for a program; `stream`: as server-sent events while it is written.

    `guidance`, `tries`, `alternatives` and `pick`: how much what is asked weighs, how often its
    bars are drawn, how many pieces are, and which is returned, as for versions. A stream is drawn
    once, and its bars of which a chord or a density is asked are told when they are settled.
    """

    run: Name
    bars: Annotated[int, Field(ge=1, le=MOST_BARS)] = 8
    sampling: dict[Name, float] = {}
    asked: dict[Name, Words] = {}
    metre: Annotated[str, Field(max_length=20)] | None = None
    tempo: float | None = None
    guidance: Guided = None
    tries: Tries = None
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    alternatives: Alternatives = None
    pick: Pick = None
    stream: bool = False


class Generated(Shape):
    """A written piece; `tokens` are the ids that were drawn or given, the first one after BOS."""

    seed: int
    piece: ShownPiece
    tokens: list[list[int]]
    log_likelihood_bits: float | None
    midi_base64: str
    findings: list[Finding]


class Tokens(Shape):
    """Tokens of a stream since the last event, and how many new bars have begun."""

    tokens: list[list[int]]
    bars: int


class SessionRequest(Asked):
    """A new session of a run."""

    run: Name
    sampling: dict[Name, float] = {}
    tempo: float | None = None
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None


class SessionContinue(Asked):
    """How far a session goes on; `stream`: as server-sent events while it does."""

    bars: Annotated[int, Field(ge=1, le=MOST_BARS)] = 1
    stream: bool = False


class SessionRewind(Asked):
    """To how many bars a session goes back; one of its `marks`."""

    bars: Annotated[int, Field(ge=0)]


class SessionState(Shape):
    """A session: its bars so far, and those to which it can be rewound."""

    id: str
    run: str
    seed: int
    n_tokens: int
    n_bars: int
    marks: list[int]
    ended: bool
    piece: ShownPiece | None = None


class Health(Shape):
    """What the server is doing."""

    status: Literal["ok"]
    version: str
    page: bool
    streams: int
    waiting: int
    loaded: list[str]
