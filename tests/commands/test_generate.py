"""Generated files: their options, names and records, and what is left after a failure or a stop."""

import importlib

import click
import pytest

from seqgen.commands import COMMANDS, FiniteFloat


@pytest.mark.parametrize("option", ["--seconds", "--temperature", "--min-p"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_numbers_are_finite(command, option, value):
    code, said = command("generate", option, value)
    assert code == 2
    assert f"'{value}' is not a finite number" in said


def test_every_float_option_of_every_command_is_finite():
    for name in COMMANDS:
        found = getattr(importlib.import_module(f"seqgen.commands.{name}"), name)
        for option in found.params:
            is_float = isinstance(option.type, click.types.FloatParamType)
            assert isinstance(option.type, FiniteFloat) or not is_float, (name, option.name)
