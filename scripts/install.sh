#!/usr/bin/env bash
# Makes .venv and installs seqgen with all it needs, pinned by constraints.txt. Repeatable: a finished
# installation is left alone, an interrupted or outdated one is completed.
#   PYTHON    the Python to build on; else the first suitable of python3, python3.11, python3.12, ...
#   CXX       the C++ compiler, g++ unless set
#   MAX_JOBS  how many compilers run at once, one a core (at most four) unless set
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONHOME PYTHONPATH # pip would count what lies there as installed

venv=.venv
log=$venv/install.log
done_stamp=$venv/.seqgen-installed
built_stamp=$venv/.fast-transformers-built # the torch and Python that the library was compiled for

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

fingerprint() {
    {
        pwd -P
        installed torch
        installed pytorch_fast_transformers
        cat setup.py constraints.txt scripts/install.sh "$venv/pyvenv.cfg"
    } | sha256sum
}

is_complete() {
    [[ -x $venv/bin/python && -e $done_stamp && $(<"$done_stamp") == "$(fingerprint)" ]]
}

# Runs a command into the log. On failure shows the end of the log and says where the rest is.
logged() {
    local what=$1
    shift
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "$what failed; above is the end of $PWD/$log"
    fi
}

pip() {
    "$venv/bin/python" -m pip --no-input install --progress-bar off -c constraints.txt "$@"
}

# --- before anything is made: Python, its venv module, the compiler, Python's headers ----------------

# Says what stands against using a Python: nothing, "old", or "venv"; no word at all if it cannot run.
judge_python() {
    "$1" -c '
import importlib.util, sys
has_venv = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
print("old" if sys.version_info < (3, 11) else "fine" if has_venv else "venv")' 2>/dev/null || true
}

# The Debian package with one part of a Python: python3-venv, python3.12-dev.
debian_package() {
    local name=${1##*/}
    [[ $name =~ ^python3(\.[0-9]+)?$ ]] || name=python3
    say "$name-$2"
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
        package=$(debian_package "$without_venv" venv)
        die "$package is missing: apt-get install $package"
    fi
    die "Python 3.11 or newer is missing${PYTHON:+ (PYTHON=$PYTHON)}: apt-get install python3 python3-venv"
}

check_compiler() {
    local compiler headers package
    read -ra compiler <<<"${CXX:-g++}"
    command -v "${compiler[0]}" >/dev/null ||
        die "the C++ compiler ${compiler[0]} is missing: apt-get install g++"
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    if [[ ! -e $headers/Python.h ]]; then
        package=$(debian_package "$python" dev)
        die "Python's headers are missing ($headers/Python.h): apt-get install $package"
    fi
    "${compiler[@]}" -std=c++20 -fopenmp -fsyntax-only -I"$headers" -x c++ - >/dev/null 2>&1 \
        <<<$'#include <Python.h>\n#include <vector>' ||
        die "${compiler[*]} cannot compile C++20 with OpenMP against $headers: apt-get install g++"
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
    logged "installing torch" pip "torch==$(pinned torch)" setuptools wheel numpy
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

is_built_for() {
    [[ -n $(installed pytorch_fast_transformers) && -e $built_stamp && $(<"$built_stamp") == "$1" ]]
}

build_jobs() {
    local cores
    cores=$(getconf _NPROCESSORS_ONLN)
    say "${MAX_JOBS:-$((cores < 4 ? cores : 4))}"
}

# Built here and for this torch: a wheel from elsewhere or from pip's cache may be for another torch.
# Without debug information (-g0) each file compiles in three quarters of the time. setuptools lets the
# flags given here replace Python's own, so -O3 is said again: without it the kernel is 14 times slower.
build_fast_transformers() {
    say "[3/4] building pytorch-fast-transformers, about 2 minutes on two free cores..."
    local build=$venv/build flags="-O3 -DNDEBUG -fwrapv -g0"
    rm -rf "$build" "$built_stamp"
    mkdir "$build"
    printf '[build_ext]\nparallel = %s\n' "$(build_jobs)" >"$build/parallel.cfg"
    (
        PATH=$(path_without_nvcc)
        unset CUDA_HOME CUDA_PATH
        export DIST_EXTRA_CONFIG=$PWD/$build/parallel.cfg TORCH_NO_COMPILER_WRAPPER=1
        export CFLAGS="$flags ${CFLAGS:-}" CXXFLAGS="$flags ${CXXFLAGS:-}"
        logged "building pytorch-fast-transformers" pip --no-build-isolation --use-pep517 --no-cache-dir \
            --no-binary pytorch-fast-transformers --force-reinstall --no-deps \
            "pytorch-fast-transformers==$(pinned pytorch-fast-transformers)"
    )
    rm -rf "$build"
}

install_seqgen() {
    say "[4/4] installing seqgen and its other requirements, about a minute..."
    logged "installing seqgen's requirements" pip --no-build-isolation -e '.[chorales,dev]'
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

main() {
    is_complete && return
    if command -v flock >/dev/null; then # one installation at a time; pip inherits the lock
        exec 9<.
        flock -n 9 || { say "another installation is running here: waiting for it" && flock 9; }
        is_complete && return
    fi

    if ! has_working_venv; then
        find_python
        check_compiler
        make_venv
    fi
    python=$venv/bin/python
    rm -f "$done_stamp"
    : >"$log"
    forget_halves
    install_torch

    local torch built_for
    torch=$(installed torch)
    built_for="torch $torch, python $("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")')"
    if ! is_built_for "$built_for"; then
        check_compiler
        build_fast_transformers
        say "$built_for" >"$built_stamp"
    fi

    install_seqgen
    [[ $(installed torch) == "$torch" ]] ||
        die "a requirement replaced torch $torch by $(installed torch): pin it in constraints.txt"
    if ! check_fast_transformers; then
        rm -f "$built_stamp"
        tail -n 20 "$log" >&2
        die "pytorch-fast-transformers was built but does not compute; make install builds it again"
    fi
    fingerprint >"$done_stamp"
    say "seqgen is installed in $venv (torch $torch)"
}

main
