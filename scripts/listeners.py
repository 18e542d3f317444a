"""Simulates listeners of a server: they join, listen in real time, branch and leave.

Each begins a session and asks for the next bars before those that it has are played. Some branch:
they fork the session and go on in the fork. After a while each leaves, and another one joins. The
tokens of each session are compared with the same session alone.

For each number of listeners it reports the time to the first token and the gap between tokens
(median, 95%, 99%), how many bars came too late to be played, how many requests were refused, and
the seconds of music for each second of computing: streams in real time per core, whatever else the
machine does. The server bends where bars are late or requests are refused.

python cli.py studio --no-browser
python scripts/listeners.py http://127.0.0.1:8765 RUN --listeners 10,20,40 --seconds 60 --pid PID
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

SEEDS = 8  # different pieces
CHUNK = 4  # bars of one request
LEAD = 2  # bars before the end of what there is, the next ones are asked for
STAY_SECONDS = 60.0  # on average
P_BRANCH = 0.2  # after each request
MOST_LATE = 0.01  # of bars, beyond which the server bends


class Refused(Exception):
    """Status 429, and after how many seconds to ask again."""


@dataclass
class Server:
    """The server, as one client sees it."""

    host: str
    port: int
    token: str | None

    async def ask(self, method: str, path: str, body: dict | None = None) -> AsyncIterator[bytes]:
        """Yield the lines of a response as they come."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            content = b"" if body is None else json.dumps(body).encode()
            name = f"[{self.host}]" if ":" in self.host else self.host
            head = f"{method} {path} HTTP/1.0\r\nHost: {name}:{self.port}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
            head += f"Authorization: Bearer {self.token}\r\n" if self.token else ""
            writer.write(head.encode() + b"\r\n" + content)
            status = int((await reader.readline()).split()[1])
            headers = {}
            while line := (await reader.readline()).strip():
                key, _, value = line.decode().partition(": ")
                headers[key.lower()] = value
            if status == 429:
                raise Refused(float(headers.get("retry-after", 1)))
            if status >= 400:
                raise RuntimeError(f"{method} {path}: {status} {(await reader.read()).decode()}")
            while line := await _line(reader):
                yield line
        finally:
            writer.close()

    async def get(self, method: str, path: str, body: dict | None = None) -> Any:
        """Return a whole response."""
        content = b"".join([line async for line in self.ask(method, path, body)])
        return json.loads(content) if content else None

    async def go_on(self, session: str, bars: int) -> AsyncIterator[tuple[str, dict]]:
        """Yield the events of a session that goes on."""
        asked, name = {"bars": bars, "stream": True}, ""
        async for line in self.ask("POST", f"/api/sessions/{session}/continue", asked):
            kind, _, value = line.decode().rstrip("\n").partition(": ")
            if kind == "event":
                name = value
            elif kind == "data":
                yield name, json.loads(value)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Return a line of any length."""
    parts = []
    while True:
        try:
            parts.append(await reader.readuntil(b"\n"))
        except asyncio.LimitOverrunError as error:
            parts.append(await reader.readexactly(error.consumed))
            continue
        except asyncio.IncompleteReadError as error:
            parts.append(error.partial)
        return b"".join(parts)


@dataclass
class Alone:
    """A session of each seed alone, and how long a bar of it is played."""

    tokens: dict[int, list] = field(default_factory=dict)
    bar_seconds: float = 2.0


@dataclass
class Found:
    """What the listeners of one stage found."""

    firsts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    music_seconds: float = 0.0
    n_bars: int = 0
    n_late: int = 0
    n_refused: int = 0
    n_sessions: int = 0
    n_branches: int = 0
    n_different: int = 0
    failures: list[str] = field(default_factory=list)


class Listener:
    """One who listens to one session after the other until it is over."""

    def __init__(self, server: Server, run: str, alone: Alone, found: Found, number: int):
        self.server, self.run, self.alone, self.found = server, run, alone, found
        self.number, self.chance = number, random.Random(number)

    async def listen(self, begin: float, end: float) -> None:
        """Join at a time; leave and join again until the end."""
        await asyncio.sleep(begin - time.perf_counter())
        turn = self.number
        while time.perf_counter() < end:
            stay = time.perf_counter() + self.chance.expovariate(1 / STAY_SECONDS)
            try:
                await self.stay(turn % SEEDS, min(stay, end))
            except (OSError, RuntimeError) as error:
                self.found.failures.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(1)
            turn += 1

    async def stay(self, seed: int, end: float) -> None:
        """Listen to a session, and perhaps to forks of it."""
        found, server = self.found, self.server
        session = (await self.patiently("POST", "/api/sessions", {"run": self.run, "seed": seed}))[
            "id"
        ]
        found.n_sessions += 1
        sessions, tokens, is_fork = [session], [], False
        n_bars, start = 0, 0.0  # finished bars, and when the first one began to be played
        while time.perf_counter() < end:
            asked = last = time.perf_counter()
            is_first, done, came = True, None, n_bars
            while done is None:
                try:
                    async for name, value in server.go_on(session, CHUNK):
                        now = time.perf_counter()
                        if name == "failed":
                            raise RuntimeError(value["error"])
                        if name == "tokens":
                            n = len(value["tokens"])
                            tokens += value["tokens"]
                            if is_first:
                                found.firsts.append(now - asked)
                            else:
                                found.gaps += [(now - last) / n] * n
                            is_first, last = False, now
                            n_whole = n_bars + value["bars"] - 1  # the next bar has begun
                        else:
                            done = value
                            n_whole = value["n_bars"]
                        while came < n_whole:  # each bar, when it is whole
                            start = start or now
                            due = start + came * self.alone.bar_seconds
                            found.n_late += now > due
                            start += max(0.0, now - due)  # it waits for the bar
                            came += 1
                    if done is None:
                        raise RuntimeError("a stream ended before it was done")
                except Refused as refusal:
                    found.n_refused += 1
                    await asyncio.sleep(refusal.args[0])
            found.n_bars += done["n_bars"] - n_bars
            found.music_seconds += (done["n_bars"] - n_bars) * self.alone.bar_seconds
            n_bars = done["n_bars"]
            if not is_fork:
                same = self.alone.tokens[seed][: len(tokens)]
                found.n_different += tokens[: len(same)] != same
            if done["ended"]:
                break
            if self.chance.random() < P_BRANCH:
                fork = await self.patiently("POST", f"/api/sessions/{session}/fork")
                session, is_fork = fork["id"], True
                sessions.append(session)
                found.n_branches += 1
            ask_again = start + (n_bars - LEAD) * self.alone.bar_seconds
            await asyncio.sleep(min(ask_again, end) - time.perf_counter())
        for one in sessions:
            await server.get("DELETE", f"/api/sessions/{one}")

    async def patiently(self, method: str, path: str, body: dict | None = None) -> Any:
        """Ask until it is not refused."""
        while True:
            try:
                return await self.server.get(method, path, body)
            except Refused as refusal:
                self.found.n_refused += 1
                await asyncio.sleep(refusal.args[0])


async def play_alone(server: Server, run: str, bars: int) -> Alone:
    """Let one session of each seed go on alone."""
    alone = Alone()
    for seed in range(SEEDS):
        session = (await server.get("POST", "/api/sessions", {"run": run, "seed": seed}))["id"]
        alone.tokens[seed], state = [], {"n_bars": 0, "ended": False}
        while state["n_bars"] < bars and not state["ended"]:
            async for name, value in server.go_on(session, CHUNK):
                if name == "tokens":
                    alone.tokens[seed] += value["tokens"]
                else:
                    state = value
        piece = state["piece"]
        alone.bar_seconds = piece["bars"][-1] / state["n_bars"] * 60 / piece["tempos"][0]["bpm"]
        await server.get("DELETE", f"/api/sessions/{session}")
    return alone


async def stage(options: argparse.Namespace, server: Server, alone: Alone, n: int) -> dict:
    """Let n listeners listen; return what was found."""
    found, begin, cpu = Found(), time.perf_counter(), cpu_seconds(options.pid)
    end = begin + options.seconds
    ramp = min(alone.bar_seconds * CHUNK, options.seconds / 4)  # they do not come all at once
    listeners = [Listener(server, options.run, alone, found, k) for k in range(n)]
    await asyncio.gather(*(x.listen(begin + ramp * k / n, end) for k, x in enumerate(listeners)))
    seconds, used = time.perf_counter() - begin, cpu_seconds(options.pid) - cpu
    late = found.n_late / max(found.n_bars, 1)
    return {
        "listeners": n,
        "first_token_ms": percentiles(found.firsts),
        "gap_ms": percentiles(found.gaps),
        "late_bars": round(late, 4),
        "refused": found.n_refused,
        "tokens_per_second": round((len(found.gaps) + len(found.firsts)) / seconds, 1),
        "real_time_streams_per_core": round(found.music_seconds / used, 1) if used else None,
        "server_cores": round(used / seconds, 2) if used else None,
        "server_mb": round(memory(options.pid)),
        "sessions": found.n_sessions,
        "branches": found.n_branches,
        "different": found.n_different,
        "failures": len(found.failures),
        "failure": next(iter(found.failures), None),
        "bends": late > MOST_LATE or found.n_refused > 0,
    }


def percentiles(times: list[float]) -> list[float]:
    """Return the median, 95% and 99% in milliseconds."""
    if len(times) < 2:
        return [round(1e3 * t, 1) for t in times] * 3
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return [round(1e3 * cuts[k - 1], 1) for k in (50, 95, 99)]


def processes(pid: int | None) -> list[int]:
    """Return a process and all that it has started."""
    if pid is None:
        return []
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def cpu_seconds(pid: int | None) -> float:
    """Return how long the server's processes have computed; 0 where it is not known."""
    total = 0
    for one in processes(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))  # user, system, and those of ended children
    return total / os.sysconf("SC_CLK_TCK")


def memory(pid: int | None) -> float:
    """Return the resident memory of the server's processes in MB."""
    pages = 0
    for one in processes(pid):
        try:
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def run(options: argparse.Namespace) -> list[dict]:
    """Run all stages, and tell of each."""
    say = sys.stdout.write
    url = urlsplit(options.address)
    token = parse_qs(url.query).get("token", [None])[0]
    server = Server(url.hostname or "127.0.0.1", url.port or 80, token)
    # A session can be as long as a stage; bars are rarely shorter than two seconds.
    alone = await play_alone(server, options.run, int(options.seconds / 2) + CHUNK)
    found = []
    for n in map(int, options.listeners.split(",")):
        result = await stage(options, server, alone, n)
        found.append(result)
        say(f"{n} listeners{', where it bends' if result['bends'] else ''}\n")
        for name, value in result.items():
            if name not in ("listeners", "bends") and value is not None:
                say(f"  {name}: {value}\n")
        sys.stdout.flush()
    return found


def main() -> int:
    """Listen, and report; 1 where a stream differed or failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="as the server prints it, with its token")
    parser.add_argument("run")
    parser.add_argument("--listeners", default="10", help="how many, in stages: 10,20,40")
    parser.add_argument("--seconds", type=float, default=60, help="of each stage")
    parser.add_argument("--pid", type=int, help="of the server, for its computing and memory")
    parser.add_argument("--record", type=Path, help="a JSON file to write what was found into")
    options = parser.parse_args()
    found = asyncio.run(run(options))
    if options.record is not None:
        settings = {"chunk_bars": CHUNK, "lead_bars": LEAD, "stay_seconds": STAY_SECONDS}
        machine = {"cores": os.cpu_count(), "machine": platform.machine()}
        machine |= {"load_average": os.getloadavg(), "python": platform.python_version()}
        arguments = {"run": options.run, "seconds": options.seconds}
        record = {**arguments, **settings, **machine, "branch": P_BRANCH, "stages": found}
        options.record.write_text(json.dumps(record, indent=1) + "\n")
    return int(any(result["different"] or result["failures"] for result in found))


if __name__ == "__main__":
    sys.exit(main())
