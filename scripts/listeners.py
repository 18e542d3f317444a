"""Simulates listeners of a studio: each asks for one piece after the other, as it is written.

Reports the gaps between tokens (median and 95%), the time to the first one and the server's
memory, and compares each piece with the same one written alone before.

python cli.py studio --no-browser
python scripts/listeners.py http://127.0.0.1:8765 RUN --listeners 50 --seconds 300 --pid PID
"""

import argparse
import json
import statistics
import sys
import threading
import time
import urllib.request
from pathlib import Path

SEEDS = 8  # different pieces


def events(address: str, run: str, bars: int, seed: int):
    """Yield the time, the name and the value of each event of a piece."""
    body = json.dumps({"run": run, "bars": bars, "seed": seed, "stream": True}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/api/generate", body, headers)
    with urllib.request.urlopen(request) as response:
        name = ""
        for line in response:
            kind, _, value = line.decode().rstrip("\n").partition(": ")
            if kind == "event":
                name = value
            elif kind == "data":
                yield time.perf_counter(), name, json.loads(value)


def memory(pid: int | None) -> float:
    """Return the resident memory of a process in MB; 0 where it is not known."""
    path = Path(f"/proc/{pid}/statm")
    return int(path.read_text().split()[1]) * 4096 / 1e6 if pid and path.exists() else 0.0


class Listener(threading.Thread):
    """One who listens until it is over."""

    def __init__(self, options: argparse.Namespace, expected: list, number: int, end: float):
        super().__init__()
        self.options, self.expected, self.number, self.end = options, expected, number, end
        self.gaps: list[float] = []
        self.firsts: list[float] = []
        self.n_pieces = self.n_different = 0

    def run(self) -> None:
        """Ask again and again."""
        turn = self.number
        while time.perf_counter() < self.end:
            seed, turn = turn % SEEDS, turn + 1
            begin = last = time.perf_counter()
            is_first = True
            for now, name, value in events(
                self.options.address, self.options.run, self.options.bars, seed
            ):
                if name == "tokens":
                    n = len(value["tokens"])
                    if is_first:
                        self.firsts.append(now - begin)
                    else:
                        self.gaps += [(now - last) / n] * n
                    is_first, last = False, now
                elif name == "done":
                    self.n_pieces += 1
                    self.n_different += value["tokens"] != self.expected[seed]


def main() -> int:
    """Listen, and report; 1 where a stream differed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("run")
    parser.add_argument("--listeners", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--bars", type=int, default=16)
    parser.add_argument("--pid", type=int, help="of the server, for its memory")
    options = parser.parse_args()
    say = sys.stdout.write
    expected = []
    for seed in range(SEEDS):
        found = list(events(options.address, options.run, options.bars, seed))
        expected.append(found[-1][2]["tokens"])
    before, end = memory(options.pid), time.perf_counter() + options.seconds
    listeners = [Listener(options, expected, k, end) for k in range(options.listeners)]
    for listener in listeners:
        listener.start()
    for listener in listeners:
        listener.join()
    gaps = sorted(gap for one in listeners for gap in one.gaps)
    firsts = sorted(first for one in listeners for first in one.firsts)
    for name, times in (("gap between tokens", gaps), ("first token", firsts)):
        p95 = times[int(0.95 * (len(times) - 1))]
        say(f"{name}: median {1e3 * statistics.median(times):.1f} ms, p95 {1e3 * p95:.1f} ms\n")
    n, different = (
        sum(getattr(x, name) for x in listeners) for name in ("n_pieces", "n_different")
    )
    rate = len(gaps) / options.seconds
    say(f"{n} pieces, {different} different from the same alone; {rate:.0f} tokens/s in all\n")
    say(f"memory: {before:.0f} MB before, {memory(options.pid):.0f} MB after\n")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
