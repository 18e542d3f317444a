#!/usr/bin/env bash
# Builds wheels into dist/, with the Python of .venv: seqgen for every machine, seqgen with its C++ operators for
# machines like this one, and pytorch-fast-transformers without its kernels, so that no compiler is needed later:
#   pip install torch && pip install dist/pytorch_fast_transformers-*.whl dist/seqgen-*-none-any.whl
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"
python=$venv/bin/python
log=/dev/stderr

wheel() { logged "building a wheel" pip wheel --quiet --no-build-isolation --no-deps --wheel-dir dist "$1"; }

logged "reading pytorch-fast-transformers" library_pip download --quiet --dest "$build/source"
"$python" scripts/fast_transformers_without_compiler.py "$build"/source/*.tar.gz "$build/patched"
for source in "$build"/patched/*/; do wheel "$source"; done
COMPILE=no wheel .
trouble=$(compiler_trouble "$python")
if [[ -z $trouble ]]; then wheel .; else say "no wheel with operators ($trouble)"; fi
rm -rf "$build" build # the latter is left by setuptools
ls -1 dist/*.whl
