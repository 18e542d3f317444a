"""Why a MIDI file is turned away."""

from typing import Literal

RejectionKind = Literal["unreadable", "empty", "absurd", "unsupported"]


class Refusal(ValueError):
    """Why a file is turned away, before its name is known; does not leave `seqgen.midi`."""

    def __init__(self, kind: RejectionKind, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason
