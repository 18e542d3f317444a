"""The `seqgen` command, runnable from a clone."""

from seqgen.commands import main

if __name__ == "__main__":
    main()
