"""What an installation promises, as far as it can be held without building anything."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
TOOLS = ["bash", "cat", "dirname", "mkdir", "rm", "sed", "sha256sum", "tail"]


@pytest.fixture(scope="module")
def setup_arguments() -> dict:
    """What setup.py hands to setuptools."""
    code = (
        "import json, setuptools\n"
        "setuptools.setup = lambda **arguments: print(json.dumps(arguments))\n"
        "exec(open('setup.py').read())\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def requirements(setup_arguments) -> list[Requirement]:
    extras = setup_arguments["extras_require"].values()
    groups = [setup_arguments["install_requires"], *extras]
    return [Requirement(line) for group in groups for line in group]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.fixture
def clone(tmp_path) -> Path:
    """The files that an installation reads, in a folder with a space in its name."""
    folder = tmp_path / "a clone"
    (folder / "scripts").mkdir(parents=True)
    for name in ["setup.py", "pyproject.toml", "constraints.txt", "scripts/install.sh"]:
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def bare_path(tmp_path) -> Path:
    """A PATH of one folder, with the tools of any system and no compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def write_command(path: Path, text: str) -> None:
    path.write_text(f"#!{shutil.which('bash')}\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def install(clone: Path, path: Path, *, python: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "CXX"}
    return subprocess.run(
        [shutil.which("bash"), str(clone / "scripts/install.sh")],
        env=environment | {"PATH": str(path), "PYTHON": python},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def assert_refused(done: subprocess.CompletedProcess, clone: Path, *, words: list[str]) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert not (clone / ".venv").exists()


def test_only_seqgen_is_packaged(setup_arguments):
    packages = setup_arguments["packages"]
    assert "seqgen" in packages
    assert [name for name in packages if name.split(".")[0] != "seqgen"] == []


def test_datasets_is_no_package():
    assert list((ROOT / "datasets").rglob("*.py")) == []


def test_every_requirement_is_pinned(requirements, pins):
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} has no line in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{requirement}: {pins[name]}"


def test_torch_pin_admits_local_builds(pins):
    assert "+" not in pins["torch"]


def test_lightning_pin_is_no_withdrawn_version(pins):
    assert pins["pytorch-lightning"] not in {"2.6.2", "2.6.3"}


@pytest.mark.parametrize("script", ["scripts/install.sh", ".ci/run"])
def test_script_is_valid_bash(script):
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def test_missing_compiler_is_one_sentence(clone, bare_path):
    done = install(clone, bare_path, python=sys.executable)
    assert_refused(done, clone, words=["g++ is missing", "apt-get install g++"])


def test_missing_headers_are_one_sentence(clone, bare_path, tmp_path):
    write_command(bare_path / "g++", "exit 0")
    python = tmp_path / "python3.11"
    patch = "import sys, sysconfig; sysconfig.get_path = lambda name: '/none'; exec(sys.argv[2])"
    write_command(python, f'exec "{sys.executable}" -c "{patch}" "$@"')
    done = install(clone, bare_path, python=str(python))
    assert_refused(done, clone, words=["/none/Python.h", "apt-get install python3.11-dev"])


def test_missing_venv_module_is_one_sentence(clone, bare_path, tmp_path):
    python = tmp_path / "python3"
    write_command(python, "echo venv")
    done = install(clone, bare_path, python=str(python))
    assert_refused(done, clone, words=["python3-venv is missing"])


def test_old_python_is_one_sentence(clone, bare_path, tmp_path):
    python = tmp_path / "python3"
    write_command(python, "echo old")
    done = install(clone, bare_path, python=str(python))
    assert_refused(done, clone, words=["Python 3.11 or newer is missing"])
