"""The command line: one file per command, loaded when it is called."""

import errno
import importlib
import math
import signal
import sys
import traceback
from typing import Any

import click

from seqgen.errors import ToldElsewhere, UserError

COMMANDS = (
    *("prepare", "train", "generate", "evaluate", "show", "listen", "studio", "serve", "export"),
    "benchmark",
)


class FiniteFloat(click.types.FloatParamType):
    """The type of all float options: NaN and infinity are refused, which click's own accepts."""

    def __init__(self, *, above: float | None = None) -> None:
        self._above = above

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; a usage error where it is not finite, or not above the bound."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        if self._above is not None and number <= self._above:
            self.fail(f"{value} is not above {self._above:g}.", param, ctx)
        return number


class ByField(click.ParamType):
    """The type of sampling options: a number for all fields of a token, or numbers by name."""

    def __init__(self, number: click.ParamType) -> None:
        self._number = number
        self.name = number.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a number, or numbers by the names of fields; a usage error where there is none."""
        from seqgen.sampling.settings import parse_setting

        try:
            return parse_setting(str(value), lambda text: self._number.convert(text, param, ctx))
        except UserError as error:
            self.fail(f"{error}.", param, ctx)


class LazyGroup(click.Group):
    """Finds a command in the module of its name, so that nothing heavy is loaded for `--help`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all commands in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Load a command."""
        if name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f"seqgen.commands.{name}"), name)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="seqgen")
def cli(debug: bool) -> None:
    """Train a causal-linear Transformer on sequences, then generate with it step by step."""


def main() -> None:
    """Run the command line; an expected error is one sentence on stderr and exit code 1."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # cleans up, as Ctrl-C
    debug = "--debug" in sys.argv
    if debug:  # accepted before and after the command's name
        sys.argv = [sys.argv[0], *(argument for argument in sys.argv[1:] if argument != "--debug")]
    try:
        code = cli(standalone_mode=False)  # an exit code where a command asks for one
        sys.exit(code if isinstance(code, int) else 0)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", debug=debug, code=130)
    except ToldElsewhere:
        sys.exit(1)
    except UserError as error:
        _fail(str(error), debug=debug)
    except OSError as error:
        _fail(_explain(error), debug=debug)
    except Exception as error:
        _fail(
            f"unexpected {type(error).__name__}: {error} (run again with --debug and report it)",
            debug=debug,
        )


def _explain(error: OSError) -> str:
    place = f" {error.filename}" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"the disk is full: could not write{place}; nothing half-written was kept"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission for{place}: choose another folder or change its permissions"
    return f"{error.strerror or error}{':' + place if place else ''}"


def _fail(message: str, *, debug: bool, code: int = 1) -> None:
    if debug:
        traceback.print_exc()
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)
