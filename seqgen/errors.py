"""The one error class whose message is meant for the person at the keyboard."""


class UserError(ValueError):
    """Something the user can correct: the message names the problem and a solution in one sentence.

    The commands print it without a traceback and exit with code 1.
    """


class ToldElsewhere(UserError):
    """Another process of the run failed first and says why; this one ends without a message."""


class FileRejected(UserError):
    """An incoming file that cannot be used; reads as one sentence naming the file and the reason.

    `kind` is "unreadable" (cannot be parsed or opened), "empty" (holds too little), "over-limit"
    (beyond the limits) or "unsupported" (a valid file of a kind that is not supported).
    """

    def __init__(self, kind: str, name: str, reason: str) -> None:
        # The three arguments stay in `args`, so that the error can be sent between processes.
        super().__init__(kind, name, reason)
        self.kind = kind
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot use {self.name}: {self.reason}"
