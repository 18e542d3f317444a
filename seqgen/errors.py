"""The one error class whose message is meant for the person at the keyboard."""


class UserError(ValueError):
    """Something the user can mend: the message names the thing and the way out in one sentence.

    The commands print it without a traceback and exit with code 1.
    """
