"""`seqgen studio`: a port, an address, and what is said where something is missing."""

import socket
import subprocess
import sys

import pytest


def test_a_port_in_use_is_one_sentence(command):
    pytest.importorskip("fastapi", reason="needs the extra `studio`")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = command("studio", "--no-browser", "--port", str(port))
    assert code == 1
    assert f"port {port} is in use" in said
    assert "--port" in said.partition("choose")[2]


def test_a_missing_package_is_one_sentence(command, monkeypatch):
    monkeypatch.setattr("seqgen.commands.serving.find_spec", lambda name: None)
    code, said = command("studio", "--no-browser")
    assert code == 1
    assert "pip install 'seqgen[studio]'" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("none",), "no trained model in none"),
        (("--limit", "streams=3"), "limits are max_body_bytes"),
        (("--limit", "max_streams=0"), "max_streams"),
        (("--host", "256.1.1.1"), "cannot listen on 256.1.1.1"),
    ],
)
def test_what_is_wrong_is_said_before_it_serves(command, arguments, sentence):
    pytest.importorskip("fastapi", reason="needs the extra `studio`")
    code, said = command("studio", "--no-browser", *arguments)
    assert code == 1
    assert sentence in said


def test_the_command_line_does_not_load_the_server():
    code = (
        "import sys; from seqgen.commands import cli;"
        "cli(['studio', '--help'], standalone_mode=False);"
        "sys.exit('seqgen.serving.app' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, b"--port" in ended.stdout) == (0, True)
