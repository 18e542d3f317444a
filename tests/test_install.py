"""What an installation promises, as far as it can be held without building anything."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
WITHOUT_COMPILER = "scripts/fast_transformers_without_compiler.py"
TOOLS = ["bash", "cat", "cp", "dirname", "getconf", "mkdir", "rm", "sed", "sha256sum", "tail"]

# A Python that only pretends: it notes what it is asked and leaves the traces of having done it.
PRETENDER = """
echo "$*" >>"{calls}"
record() {{ mkdir -p .venv/lib/python3.11/site-packages/$1.dist-info; : >"$_/INSTALLER"; }}
case "$*" in
    *find_spec*) echo fine ;;
    *get_path*) echo "{headers}" ;;
    *version_info*) echo 3.11 ;;
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; : >"$3/pyvenv.cfg" ;;
    *torch==*numpy) record torch-{torch} ;;
    *" download "*) mkdir .venv/build/source; : >.venv/build/source/library.tar.gz ;;
    *without_compiler.py*) mkdir -p "$3/library" ;;
    *pytorch-fast-transformers==* | */patched/*) record pytorch_fast_transformers-0.4.0 ;;
    *" -e ."*) [[ $COMPILE == no ]] || ! g++ operators || : >seqgen/native/_library.so ;;
    *why_missing*) [[ -e seqgen/native/_library.so ]] && echo avx2 ;;
esac
"""
COMPILER = "exit 0"
FAILING_COMPILER = "[[ $1 != operators ]]"  # it passes the check, and not the operators


@pytest.fixture(scope="module")
def setup_arguments() -> dict:
    """What setup.py hands to setuptools."""
    code = (
        "import json, setuptools\n"
        "setuptools.setup = lambda **arguments: print(\n"
        "    json.dumps(arguments, default=lambda value: getattr(value, '__dict__', str(value)))\n"
        ")\n"
        "exec(open('setup.py').read())\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def requirements(setup_arguments) -> list[Requirement]:
    """All but those of the extra gpu: a CUDA build of torch brings the triton that fits it."""
    extras = setup_arguments["extras_require"]
    lines = [line for name, extra in extras.items() if name != "gpu" for line in extra]
    return [Requirement(line) for line in (*setup_arguments["install_requires"], *lines)]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.fixture
def clone(tmp_path) -> Path:
    """The files that an installation reads, in a folder with a space in its name."""
    folder = tmp_path / "a clone"
    (folder / "seqgen").mkdir(parents=True)
    for name in ["setup.py", "pyproject.toml", "constraints.txt"]:
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    hidden = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "seqgen/native", folder / "seqgen/native", ignore=hidden)
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


def install(
    clone: Path, path: Path, *, python: str, **variables: str
) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "CXX"} | variables
    return subprocess.run(
        [shutil.which("bash"), str(clone / "scripts/install.sh")],
        env=environment | {"PATH": str(path), "PYTHON": python},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


class Machine:
    """A machine on which everything but compiling has been replaced by pretence."""

    def __init__(self, clone: Path, path: Path, *, torch: str):
        self.clone, self.path, self.python = clone, path, path.parent / "python3.11"
        self.calls, self.headers = path.parent / "calls", path.parent / "include/python3.11"
        self.operators = clone / "seqgen/native/_library.so"
        names = {"calls": self.calls, "headers": self.headers, "torch": torch}
        write_command(self.python, PRETENDER.format(**names))
        self.headers.mkdir(parents=True)
        (self.headers / "Python.h").touch()

    def compiler(self, text: str) -> None:
        write_command(self.path / "g++", text)

    def install(self, **variables: str) -> str:
        """Run the script; what it said."""
        self.calls.write_text("", encoding="utf-8")
        done = install(self.clone, self.path, python=str(self.python), **variables)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def asked_pip(self, words: str) -> bool:
        lines = self.calls.read_text(encoding="utf-8").splitlines()
        return any(words in line for line in lines if line.startswith("-m pip"))


@pytest.fixture
def machine(clone, bare_path, pins) -> Machine:
    return Machine(clone, bare_path, torch=pins["torch"])


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


def test_compiler_builds_all(machine):
    machine.compiler(COMPILER)
    said = machine.install()
    assert "[3/4] building pytorch-fast-transformers" in said
    assert "the C++ operators are built (avx2)" in said
    assert not machine.asked_pip("download")
    assert machine.install() == ""


def test_nothing_is_compiled_where_that_is_asked_for_and_all_of_it_later(machine):
    machine.compiler(COMPILER)
    said = machine.install(COMPILE="no")
    assert "without its compiled kernels" in said
    assert "nothing was compiled, as asked for" in said
    assert machine.install(COMPILE="no") == ""
    said = machine.install()
    assert "[3/4] building pytorch-fast-transformers" in said
    assert "the C++ operators are built" in said
    assert machine.install(COMPILE="no") == ""


def test_no_compiler_is_said_and_no_obstacle(machine):
    said = machine.install()
    assert "without its compiled kernels" in said
    assert "the C++ compiler g++; apt-get install g++" in said
    assert "training and decoding use plain torch" in said
    assert "several times slower" in said
    assert str(machine.clone / ".venv/install.log") in said
    assert machine.asked_pip("/patched/")
    assert "seqgen is installed" in said
    assert machine.install() == ""
    assert not machine.asked_pip("install")


def test_compiler_that_comes_is_used_and_one_that_goes_is_not_missed(machine):
    machine.install()
    machine.compiler(COMPILER)
    said = machine.install()
    assert "[3/4] building pytorch-fast-transformers" in said
    assert "the C++ operators are built" in said
    (machine.path / "g++").unlink()
    assert machine.install() == ""
    machine.operators.unlink()
    assert "the C++ operators are not built" in machine.install()


def test_missing_headers_leave_the_operators(machine):
    machine.compiler(COMPILER)
    (machine.headers / "Python.h").unlink()
    said = machine.install()
    assert f"{machine.headers}/Python.h; apt-get install python3.11-dev" in said
    assert machine.asked_pip("/patched/")
    assert "the C++ operators are built" in said


def test_useless_compiler_is_as_none(machine):
    machine.compiler("exit 1")
    said = machine.install()
    assert "g++ cannot compile C++20" in said
    assert "the C++ operators are not built" in said


def test_failing_compiler_is_tried_again_when_it_changes(machine):
    machine.compiler(FAILING_COMPILER)
    said = machine.install()
    assert "[3/4] building pytorch-fast-transformers" in said
    assert "the C++ operators are not built" in said
    assert machine.install() == ""
    machine.compiler(f"echo version 2; {COMPILER}")
    said = machine.install()
    assert "[3/4]" not in said
    assert "the C++ operators are built" in said


@pytest.mark.parametrize("name", ["library.cpp", "causal_linear.h"])
def test_changed_operators_are_built_again(machine, name):
    machine.compiler(COMPILER)
    machine.install()
    with (machine.clone / "seqgen/native" / name).open("a", encoding="utf-8") as file:
        file.write("// changed\n")
    machine.compiler(FAILING_COMPILER)
    assert "the C++ operators are not built" in machine.install()
    assert not machine.operators.exists()  # those of the old source would be taken for the new


def test_operators_are_optional(setup_arguments):
    (extension,) = setup_arguments["ext_modules"]
    assert extension["optional"] is True
    sources = {path.name for path in (ROOT / "seqgen/native").glob("*.cpp")}
    assert {Path(source).name for source in extension["sources"]} == sources


def test_sources_of_the_operators_are_packaged(setup_arguments):
    patterns = setup_arguments["package_data"]["seqgen.native"]
    for path in (ROOT / "seqgen/native").iterdir():
        if path.is_file() and path.suffix not in {".py", ".so"}:
            assert any(path.match(pattern) for pattern in patterns), path


def test_library_without_compiler_imports_and_raises_when_called(tmp_path):
    package = tmp_path / "fast_transformers"
    (package / "product").mkdir(parents=True)
    (package / "plain.py").write_text("value = 1\n", encoding="utf-8")
    (package / "product/__init__.py").write_text(
        "from ..plain import value\n"
        "from .product_cpu import dot, \\\n    backward as backward_cpu\n"
        "try:\n    from .product_cuda import dot as dot_cuda\nexcept ImportError:\n    pass\n",
        encoding="utf-8",
    )
    setup = tmp_path / "setup.py"
    setup.write_text("setup(ext_modules=get_extensions())\n", encoding="utf-8")

    drop_extensions = runpy.run_path(str(ROOT / WITHOUT_COMPILER))["drop_extensions"]
    assert drop_extensions(tmp_path) == [package / "product/product_cpu.py"]
    assert setup.read_text(encoding="utf-8") == "setup(ext_modules=[])\n"
    stub = runpy.run_path(str(package / "product/product_cpu.py"))
    for name in ["dot", "backward"]:
        with pytest.raises(RuntimeError, match="without its compiled kernels"):
            stub[name](1, 2)
    with pytest.raises(ValueError, match="ext_modules"):
        drop_extensions(tmp_path)  # no longer the setup.py that is known
