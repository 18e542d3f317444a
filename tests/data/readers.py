"""Work that does to its process what a file is called."""

import os
import signal
from pathlib import Path

from seqgen.errors import FileRejected


def obedient():
    """Stands in for what loads a tokenizer."""
    return obey


def obey(path):
    """Do what the file's name says; else read it, and leave a mark that it was read."""
    kind = path.stem.partition("-")[0]
    if kind in ("SIGKILL", "SIGSEGV"):
        os.kill(os.getpid(), getattr(signal, kind))
    elif kind == "exit":
        os._exit(3)
    elif kind == "computes":
        while True:
            pass
    elif kind == "allocates":
        return [0] * 10**12
    elif kind == "fails":
        raise KeyError("Pitch_128")
    elif kind == "refused":
        raise FileRejected("empty", str(path), "it has no notes")
    with Path(path).with_suffix(".read").open("a") as mark:
        mark.write("read\n")
    return path.read_text()


def fail_to_load():
    """Stands in for a folder without a tokenizer."""
    raise SystemExit(5)


def shouting():
    """Stands in for what loads other work."""
    return lambda path: path.read_text().upper()
