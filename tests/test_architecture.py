"""The walls of docs/design.md, read off the import statements."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "seqgen"
FLOORS = [
    {"errors", "files", "config", "vocabulary", "native", "cluster"},
    {"midi", "tokenizers", "tasks", "attention", "model", "sampling"},
    {"data", "checkpoint", "rendering"},
    {"training", "decoding", "evaluation", "export"},
    {"api"},
    {"benchmark", "serving"},
    {"commands"},
]
# On one floor, who may use whom.
BESIDE = {
    ("tokenizers", "midi"),
    ("tasks", "midi"),
    ("tasks", "tokenizers"),
    ("model", "attention"),
    ("export", "decoding"),
}
OWNERS = {
    "fast_transformers": {"attention", "model/stack.py", "benchmark"},
    "triton": {f"attention/triton_{part}.py" for part in ("form", "kernels", "tiles")}
    | {f"decoding/triton_step{part}.py" for part in ("", "_kernels")}
    | {"sampling/triton_draw.py"},
    "miditok": {"tokenizers/midi"},
    "miditoolkit": {"midi", "evaluation"},
    "mido": {"midi"},
    "symusic": {"tokenizers/midi", "evaluation/validity.py"},
    "onnx": {"decoding/onnx_graph.py"},
    "onnxruntime": {"decoding/onnx.py"},
    "fluidsynth": {"rendering/sound/synthesizer.py"},
    "pyloudnorm": {"rendering/sound/loudness.py"},
    "soundfile": {"rendering/sound/synthesis.py"},
    "pytorch_lightning": {"training"},
    "ray": {"cluster.py", "data/ray_engine.py", "serving/replicas.py"},
    "click": {"commands"},
    "PIL": {"tokenizers/pixels.py"},
    "sklearn": {"data/image_sets.py"},
}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path):
    """All absolute module names that a file imports, at any depth."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(name: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )


def import_graph() -> dict[str, set[str]]:
    """Which files of the package each one imports, those under TYPE_CHECKING included."""
    files = {module_name(path): path for path in modules()}
    graph = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & files.keys()
            elif isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                # `from package import file` needs the file; all else needs what it is taken from.
                graph[name] |= whole & files.keys()
                if whole - files.keys() and node.module in files:
                    graph[name].add(node.module)
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of files from each of which imports lead to all the others, and back."""

    def reachable(start):
        seen, new = set(), {start}
        while new:
            new = {b for a in new for b in graph[a]} - seen
            seen |= new
        return seen

    after = {name: reachable(name) for name in graph}
    found = {frozenset(b for b in after[a] if a in after[b]) for a in graph if a in after[a]}
    return [set(circle) for circle in found]


def test_no_files_import_each_other():
    assert circles(import_graph()) == []


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": {"d"}, "e": set()}
    assert sorted(map(sorted, circles(graph))) == [["b", "c"], ["d"]]


def points_down(here: str, name: str) -> bool:
    """Whether a module in a room, such as `model`, may import a name."""
    package, _, rest = name.partition(".")
    there = rest.partition(".")[0]
    if package != "seqgen" or there in ("", here) or here == "__init__":
        return True
    return floor(there) < floor(here) or floor(there) == 0 or (here, there) in BESIDE


def is_in_its_room(path: Path, name: str) -> bool:
    """Whether a file may import a name, if that is one of a library with a room."""
    owners = OWNERS.get(name.partition(".")[0])
    place = path.relative_to(PACKAGE)
    return owners is None or bool({room(path), place.parent.as_posix(), place.as_posix()} & owners)


def test_imports_point_down():
    assert points_down("data", "seqgen.midi.parse")
    assert not points_down("midi", "seqgen.data")
    assert [(p, n) for p in modules() for n in imports(p) if not points_down(room(p), n)] == []


def test_libraries_stay_in_their_rooms():
    assert not is_in_its_room(PACKAGE / "model/loss.py", "pytorch_lightning.loggers")
    assert [(p, n) for p in modules() for n in imports(p) if not is_in_its_room(p, n)] == []


def test_tokenizers_do_not_import_torch():
    for path in (PACKAGE / "tokenizers").rglob("*.py"):
        assert not [name for name in imports(path) if name.split(".")[0] == "torch"], path


def compares_endings(path: Path) -> bool:
    """Whether a file compares something with the ending of MIDI files."""
    compared = (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Compare))
    inside = (node for comparison in compared for node in ast.walk(comparison))
    return any(isinstance(node, ast.Constant) and node.value == ".mid" for node in inside)


def test_only_tokenizers_know_what_files_are_music():
    assert [
        path for path in modules() if room(path) != "tokenizers" and compares_endings(path)
    ] == []


def test_files_say_what_they_are_for():
    named = [path for path in modules() if path.name != "__init__.py"]
    assert [path for path in named if not ast.get_docstring(parsed(path))] == []


def test_datasets_hides_no_library():
    assert not list((PACKAGE.parent / "datasets").rglob("*.py"))
