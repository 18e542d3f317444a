"""Why a MIDI file is refused."""

from typing import Literal

RejectionKind = Literal["unreadable", "empty", "over-limit", "unsupported"]


class Rejection(ValueError):
    """Why a file is refused, before its name is known; used inside `seqgen.midi` only."""

    def __init__(self, kind: RejectionKind, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason
