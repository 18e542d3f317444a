"""Triton's kernels without a GPU: their launches compiled, their properties interpreted."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import interpreter

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.bool: "*i1",
}

if INTERPRETED:
    # The interpreter replaces the functions of the language for each launch, and again for each
    # call of a helper, which takes half of the time: once for each launch is enough.
    _replace = interpreter._patch_lang
    _whole_language = SimpleNamespace(__globals__={"tl": tl, "core": tl.core})
    interpreter._patch_lang = lambda kernel: _replace(_whole_language)
    interpreter.InterpretedFunction.__call__ = lambda self, *args, **kwargs: self.rewrite()(
        *args, **kwargs
    )


def record_launches(monkeypatch, module, names):
    """Let kernels of a module only note how they are launched: a list of kernel, args, kwargs."""

    class Recorder:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            return lambda *args, **kwargs: launches.append((self.kernel, args, kwargs))

    launches = []
    for name in names:
        monkeypatch.setattr(module, name, Recorder(getattr(module, name)))
    return launches


def compile_launch(kernel, args, kwargs, *, capability=80):
    """Compile a launch for a GPU (80: an A100): a compiler is part of Triton."""
    kwargs = {**dict(zip(kernel.arg_names, args, strict=False)), **kwargs}
    options = {name: kwargs.pop(name) for name in set(kwargs) - set(kernel.arg_names)}
    signature, constants, aligned = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value = kwargs[parameter.name]
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = POINTERS[value.dtype]
            if value.data_ptr() % 16 == 0 and not parameter.do_not_specialize_on_alignment:
                aligned[i,] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "i32" if isinstance(value, int) else "fp32"
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def resources(compiled, folder):
    """Read from a compiled kernel how many registers it takes, and how many bytes did not fit."""
    file = folder / "kernel.cubin"
    file.write_bytes(compiled.asm["cubin"])
    tool = triton.knobs.nvidia.cuobjdump.path
    told = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True)
    (found,) = re.findall(r"REG:(\d+) STACK:(\d+)", told.stdout)
    return tuple(map(int, found))


def check_in_interpreter(file, chosen):
    """Run the `chosen` tests of a file in a process whose kernels are interpreted."""
    tests = [file, "-k", chosen, "-p", "no:cacheprovider"]
    child = subprocess.run(
        [sys.executable, "-m", "pytest", *tests],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stdout + child.stderr
    assert "passed" in child.stdout
    assert "skipped" not in child.stdout
