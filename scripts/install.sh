#!/usr/bin/env bash
# Makes .venv and installs seqgen with all it needs, pinned by constraints.txt. Repeatable: a finished
# installation is left alone, an interrupted or outdated one is completed, and what was left uncompiled
# for want of a compiler is compiled as soon as there is one.
#   PYTHON    the Python to build on; else the first suitable of python3, python3.11, python3.12, ...
#   CXX       the C++ compiler, g++ unless set
#   COMPILE   "no": nothing is compiled, which saves some minutes; a later run without it does
#   MAX_JOBS  how many compilers run at once, one a core (at most four) unless set
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONHOME PYTHONPATH # pip would count what lies there as installed
export CXX="${CXX:-g++}"    # what is tried below is what compiles
read -ra compiler <<<"$CXX"

venv=.venv
log=$venv/install.log
build=$venv/build
done_stamp=$venv/.seqgen-installed
built_stamp=$venv/.fast-transformers-built # the torch and Python that the library was built for
uncompiled="not compiled, for "            # stands before them where no compiler took part

say() { printf '%s\n' "$*"; }

die() {
    printf 'install: %s\n' "$*" >&2
    exit 1
}

pinned() { sed -n "s/^$1==//p" constraints.txt; }

# The installed version of a distribution, from the name of its record; no Python is started.
installed() {
    local record
    for record in "$venv"/lib/python3*/site-packages/"$1"-[0-9]*.dist-info; do
        [[ -e $record ]] || continue
        record=${record##*/"$1"-}
        say "${record%.dist-info}"
    done
}

# Whether the library was installed in such a way: the stamp, or a pattern for it.
is_built() {
    # shellcheck disable=SC2053
    [[ -n $(installed pytorch_fast_transformers) && -e $built_stamp && $(<"$built_stamp") == $1 ]]
}

built_operators() { compgen -G 'seqgen/native/_library*.so'; }

# The compiler counts only where something is not compiled: one that comes is used, and one that goes
# away is not missed.
fingerprint() {
    {
        pwd -P
        installed torch
        installed pytorch_fast_transformers
        if ! built_operators || is_built "$uncompiled*"; then
            compiler_trouble "$venv/bin/python"
            { command -v "${compiler[0]}" && "${compiler[@]}" --version; } || true
        fi
        cat setup.py constraints.txt seqgen/native/*.{cpp,h} "$venv/pyvenv.cfg" \
            scripts/install.sh scripts/fast_transformers_without_compiler.py
    } | sha256sum
}

is_complete() {
    [[ -x $venv/bin/python && -e $done_stamp && $(<"$done_stamp") == "$(fingerprint)" ]]
}

into_log() { "$@" >>"$log" 2>&1 </dev/null; }

# Runs a command into the log. On failure shows the end of the log and says where the rest is.
logged() {
    if ! into_log "${@:2}"; then
        tail -n 20 "$log" >&2
        die "$1 failed; above is the end of $PWD/$log"
    fi
}

pip() {
    "$venv/bin/python" -m pip --no-input "$1" --progress-bar off -c constraints.txt "${@:2}"
}

# --- what the machine has: Python, its venv module, the compiler, Python's headers -------------------

# Says what stands against using a Python: nothing, "old", or "venv"; no word at all if it cannot run.
judge_python() {
    "$1" -c '
import importlib.util, sys
has_venv = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
print("old" if sys.version_info < (3, 11) else "fine" if has_venv else "venv")' 2>/dev/null || true
}

find_python() {
    local candidates=(python3 python3.11 python3.12 python3.13) candidate without_venv='' package
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        case $(judge_python "$candidate") in
            fine) python=$candidate && return ;;
            venv) without_venv=${without_venv:-$candidate} ;;
        esac
    done
    if [[ -n $without_venv ]]; then
        package=${without_venv##*/}
        [[ $package =~ ^python3(\.[0-9]+)?$ ]] || package=python3
        package+=-venv
        die "$package is missing: apt-get install $package"
    fi
    die "Python 3.11 or newer is missing${PYTHON:+ (PYTHON=$PYTHON)}: apt-get install python3 python3-venv"
}

# Says what stands against compiling for a Python; no word if nothing does.
compiler_trouble() {
    local headers missing='' packages=''
    if [[ ${COMPILE:-} == no ]]; then
        say "as asked for; 'make install' builds them"
        return
    fi
    headers=$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    if ! command -v "${compiler[0]}" >/dev/null; then
        missing="the C++ compiler ${compiler[0]}"
        packages=" g++"
    fi
    if [[ ! -e $headers/Python.h ]]; then
        missing+="${missing:+ and }$headers/Python.h"
        packages+=" ${headers##*/}-dev"
    fi
    if [[ -n $missing ]]; then
        say "missing: $missing; apt-get install$packages"
    elif ! "${compiler[@]}" -std=c++20 -fopenmp -fsyntax-only -I"$headers" -x c++ - >/dev/null 2>&1 \
        <<<$'#include <Python.h>\n#include <vector>'; then
        say "$CXX cannot compile C++20 with OpenMP against $headers; apt-get install g++"
    fi
}

# --- the four steps --------------------------------------------------------------------------------

has_working_venv() {
    [[ $(judge_python "$venv/bin/python") =~ ^(fine|venv)$ ]] &&
        "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

make_venv() {
    say "[1/4] creating $venv with $("$python" --version)"
    rm -rf "$venv"
    mkdir "$venv"
    logged "creating $venv" "$python" -m venv "$venv"
}

# A killed pip leaves records without the file INSTALLER, which it writes last, and folders named ~something.
forget_halves() {
    local record
    for record in "$venv"/lib/python3*/site-packages/*.dist-info; do
        [[ -e $record/INSTALLER ]] || rm -rf "$record"
    done
    rm -rf "$venv"/lib/python3*/site-packages/~*
}

install_torch() {
    if [[ $(installed torch) == "$(pinned torch)"?(+*) ]]; then
        say "[2/4] torch $(pinned torch) is there"
    else
        say "[2/4] installing torch $(pinned torch), half a minute after its download..."
    fi
    logged "installing torch" pip install "torch==$(pinned torch)" setuptools wheel numpy
}

# PATH without the CUDA compiler (the library would build GPU kernels with it that we do not use) and
# without ninja (it keeps one build file for all extensions, so they could not be built side by side).
# A folder that holds one of them is replaced by a folder of links to everything else in it.
path_without_nvcc() {
    local folder folders kept=() n=0 shadow
    IFS=: read -ra folders <<<"$PATH"
    for folder in "${folders[@]}"; do
        if compgen -G "$folder/nvcc*" >/dev/null || [[ -e $folder/ninja ]]; then
            shadow=$PWD/$build/path$((n += 1))
            mkdir "$shadow"
            ln -s "$(cd "$folder" && pwd)"/* "$shadow"
            rm -f "$shadow"/nvcc* "$shadow"/ninja
            folder=$shadow
        fi
        kept+=("$folder")
    done
    (IFS=: && say "${kept[*]}")
}

# Runs pip on the library's source. Compiled here and for this torch: a wheel from elsewhere or from pip's
# cache may be for another torch. Without debug information (-g0) each file compiles in three quarters of
# the time. setuptools lets the flags given here replace Python's own, so -O3 is said again: without it
# the kernel is 14 times slower.
library_pip() (
    rm -rf "$build"
    mkdir "$build"
    cores=$(getconf _NPROCESSORS_ONLN)
    jobs=${MAX_JOBS:-$((cores < 4 ? cores : 4))}
    printf '[build_ext]\nparallel = %s\n' "$jobs" >"$build/parallel.cfg"
    PATH=$(path_without_nvcc)
    unset CUDA_HOME CUDA_PATH
    export DIST_EXTRA_CONFIG=$PWD/$build/parallel.cfg TORCH_NO_COMPILER_WRAPPER=1
    flags="-O3 -DNDEBUG -fwrapv -g0"
    export CFLAGS="$flags ${CFLAGS:-}" CXXFLAGS="$flags ${CXXFLAGS:-}"
    pip "$@" --no-build-isolation --use-pep517 --no-cache-dir --no-deps \
        --no-binary pytorch-fast-transformers "pytorch-fast-transformers==$(pinned pytorch-fast-transformers)"
)

install_without_kernels() {
    library_pip download --dest "$build/source" &&
        "$python" scripts/fast_transformers_without_compiler.py "$build"/source/*.tar.gz "$build/patched" &&
        pip install --no-build-isolation --use-pep517 --no-cache-dir --no-deps --force-reinstall \
            "$build"/patched/*/
}

# A compiled library is kept, whatever has become of the compiler; another as long as there is none.
install_fast_transformers() {
    local versions trouble
    versions="torch $1, python $("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")')"
    if is_built "$versions"; then return; fi
    is_built "$uncompiled$versions" || rm -f "$built_stamp"

    trouble=$(compiler_trouble "$python")
    if [[ -z $trouble ]]; then
        say "[3/4] building pytorch-fast-transformers, about 2 minutes on two free cores..."
        if into_log library_pip install --force-reinstall; then
            say "$versions" >"$built_stamp"
            return
        fi
        trouble="its build failed, see $PWD/$log; make clean install tries again"
    fi
    say "[3/4] pytorch-fast-transformers goes without its compiled kernels, which only the benchmark uses" \
        "($trouble)"
    if ! is_built "$uncompiled$versions"; then
        logged "installing pytorch-fast-transformers" install_without_kernels
        say "$uncompiled$versions" >"$built_stamp"
    fi
}

install_seqgen() {
    say "[4/4] installing seqgen and its other requirements, about a minute..."
    rm -f seqgen/native/_library*.so # one built earlier would outlive a failing compiler
    logged "installing seqgen's requirements" pip install -v --no-build-isolation -e '.[chorales,dev,images,sound,studio]'
}

# The compiled causal product must load and agree with the masked product it stands for.
check_fast_transformers() {
    "$venv/bin/python" - <<'PY' >>"$log" 2>&1
import torch
from fast_transformers.builders import TransformerEncoderBuilder  # loads all seven extensions
from fast_transformers.causal_product import causal_dot_product

q, k, v = torch.rand(3, 2, 2, 40, 8)  # three times B, H, T, K
expected = (q @ k.transpose(-1, -2)).tril() @ v
torch.testing.assert_close(causal_dot_product(q, k, v), expected, rtol=1e-4, atol=1e-4)
PY
}

# The operators are optional: without them everything works, slower.
report_operators() {
    local instructions
    if instructions=$("$python" -c '
from seqgen import native
if native.why_missing(): raise SystemExit(native.why_missing())
print(native.instructions())' 2>>"$log"); then
        say "the C++ operators are built ($instructions)"
    elif [[ ${COMPILE:-} == no ]]; then
        say "nothing was compiled, as asked for: 'make install' does, and makes training several times faster"
    else
        rm -f seqgen/native/_library*.so
        say "the C++ operators are not built: training and decoding use plain torch, whose attention is" \
            "several times slower on a CPU (the compiler's messages are in $PWD/$log;" \
            "'apt-get install g++' and 'make install' build them)"
    fi
}

main() {
    is_complete && return
    if command -v flock >/dev/null; then # one installation at a time; pip inherits the lock
        exec 9<.
        flock -n 9 || { say "another installation is running here: waiting for it" && flock 9; }
        is_complete && return
    fi

    if ! has_working_venv; then
        find_python
        make_venv
    fi
    python=$venv/bin/python
    rm -f "$done_stamp"
    : >"$log"
    forget_halves
    install_torch

    local torch
    torch=$(installed torch)
    install_fast_transformers "$torch"
    install_seqgen
    [[ $(installed torch) == "$torch" ]] ||
        die "a requirement replaced torch $torch by $(installed torch): pin it in constraints.txt"
    if ! is_built "$uncompiled*" && ! check_fast_transformers; then
        rm -f "$built_stamp"
        tail -n 20 "$log" >&2
        die "pytorch-fast-transformers was built but does not compute; make install builds it again"
    fi
    rm -rf "$build"
    report_operators
    fingerprint >"$done_stamp"
    say "seqgen is installed in $venv (torch $torch)"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main; fi # scripts/wheels.sh reads the functions
