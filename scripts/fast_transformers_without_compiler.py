"""Makes the source of pytorch-fast-transformers installable without a compiler.

    python scripts/fast_transformers_without_compiler.py ARCHIVE FOLDER

unpacks the archive into the folder, drops the extensions from its setup.py, and puts a module that
only raises in the place of each compiled one that the library imports unconditionally. seqgen calls
none of them: its own attention is registered with the library's builders.
"""

import ast
import shutil
import sys
from pathlib import Path

EXTENSIONS, NO_EXTENSIONS = "ext_modules=get_extensions()", "ext_modules=[]"

STUB = '''"""Stands in for a compiled module, which was not built."""


def _missing(*arguments, **named):
    raise RuntimeError(
        "pytorch-fast-transformers was installed without its compiled kernels (no C++ compiler): "
        "apt-get install g++ python3-dev, then make install"
    )


'''


def compiled_modules(package: Path) -> dict[Path, set[str]]:
    """Where the modules belong that are imported but have no source, and what is asked of them.

    Imports within a `try` do not count: the library does without the modules for a GPU.
    """
    modules: dict[Path, set[str]] = {}
    for file in sorted(package.rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level and node.module:
                base = file.parents[node.level - 1].joinpath(*node.module.split("."))
                module = base.with_suffix(".py")
                if not base.is_dir() and not module.exists():
                    modules.setdefault(module, set()).update(alias.name for alias in node.names)
    return modules


def drop_extensions(source: Path) -> list[Path]:
    """Change an unpacked source so that nothing of it is compiled; return the modules written."""
    setup = source / "setup.py"
    text = setup.read_text(encoding="utf-8")
    if EXTENSIONS not in text:
        raise ValueError(f"{setup} has no {EXTENSIONS}: it is not the release this was written for")
    setup.write_text(text.replace(EXTENSIONS, NO_EXTENSIONS), encoding="utf-8")

    modules = compiled_modules(source / "fast_transformers")
    for path, names in modules.items():
        lines = [f"{name} = _missing\n" for name in sorted(names)]
        path.write_text(STUB + "".join(lines), encoding="utf-8")
    return list(modules)


def main(archive: str, folder: str) -> None:
    shutil.unpack_archive(archive, folder)
    (source,) = Path(folder).iterdir()
    drop_extensions(source)


if __name__ == "__main__":
    main(*sys.argv[1:])
