"""Train on two hosts, which are two network namespaces of this machine, and kill processes.

    sudo python scripts/two_hosts.py data.source=FOLDER run.dir=RUN train.max_steps=60 --kills 3

torchrun starts two processes on each host; they reach each other over a virtual cable with gloo.
After each kill the run is resumed, with one process on each host and two in turn. At the end all
losses are compared with those of the same run in one process. Needs Linux, iproute2 and root.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from seqgen.checkpoint import RunFolder, read_metrics

CLI = Path(__file__).resolve().parents[1] / "cli.py"
HOSTS = {"seqgen-a": "10.99.0.1", "seqgen-b": "10.99.0.2"}  # namespaces, and their addresses
CABLE = "seqgen-cable"
PORT = 29400
COMPARED = ("loss", "gradient_norm")


@contextmanager
def two_hosts() -> Iterator[None]:
    """Make two network namespaces with a cable between them; remove them at the end."""
    a, b = HOSTS
    try:
        for host in HOSTS:
            ip("netns", "add", host)
        ip("link", "add", CABLE, "netns", a, "type", "veth", "peer", "name", CABLE, "netns", b)
        for host, address in HOSTS.items():
            ip("-n", host, "address", "add", f"{address}/24", "dev", CABLE)
            ip("-n", host, "link", "set", CABLE, "up")
            ip("-n", host, "link", "set", "lo", "up")
        yield
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "delete", host], check=False, capture_output=True)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def launch(per_node: int, arguments: list[str], logs: Path) -> list[subprocess.Popen]:
    """Start torchrun on both hosts, as a person would with a shell on each."""
    started = []
    for number, host in enumerate(HOSTS):
        command = [
            *("ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run"),
            *("--nnodes", "2", "--node-rank", str(number), "--nproc-per-node", str(per_node)),
            *("--master-addr", next(iter(HOSTS.values())), "--master-port", str(PORT)),
            *(str(CLI), "train", *arguments),
        ]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": CABLE}
        with (logs / f"{host}.log").open("ab") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
    return started


def children(process: int) -> list[int]:
    """Return the child processes of a process."""
    return [int(x) for x in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def kill_one(launchers: list[subprocess.Popen], run: Path, at_step: int, rng: random.Random) -> str:
    """Kill a worker at random, with SIGKILL, once a step is logged; return which."""
    while steps(run) < at_step and all(one.poll() is None for one in launchers):
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 0.2))
    place = rng.randrange(len(launchers))
    workers = children(launchers[place].pid)
    if not workers:
        return "nothing (the run had ended)"
    worker = rng.randrange(len(workers))
    os.kill(workers[worker], signal.SIGKILL)
    return f"process {worker} on host {place}"


def steps(run: Path) -> int:
    """Return how many steps a run has logged."""
    metrics = RunFolder(run).metrics
    return (
        max((line["step"] for line in read_metrics(metrics)), default=0) if metrics.exists() else 0
    )


def values(run: Path) -> dict[tuple[str, int], float]:
    """Return what is compared, by name and step."""
    lines = read_metrics(RunFolder(run).metrics)
    return {(key, line["step"]): line[key] for line in lines for key in COMPARED if key in line}


@click.command()
@click.argument("settings", nargs=-1, metavar="SETTINGS")
@click.option("--kills", default=3, show_default=True, help="Processes to kill, one after another.")
@click.option("--seed", default=0, show_default=True, help="Which, and when.")
def main(settings: tuple[str, ...], kills: int, seed: int) -> None:
    """Train, kill, resume, compare."""
    given = dict(one.split("=", 1) for one in settings)
    run, last = Path(given["run.dir"]), int(given["train.max_steps"])
    common = [*settings, "train.log_every=1", "train.accelerator=cpu"]
    rng = random.Random(seed)
    logs = run.parent
    logs.mkdir(parents=True, exist_ok=True)
    with two_hosts():
        for turn in range(kills + 1):
            begun = RunFolder(run).last.exists()
            arguments = ["--resume", f"run.dir={run}"] if begun else common
            launchers = launch(1 + (turn + 1) % 2, arguments, logs)
            if turn < kills:
                at_step = rng.randint(steps(run) + 1, last * (turn + 1) // (kills + 1))
                click.echo(f"killed at step {at_step}: {kill_one(launchers, run, at_step, rng)}")
            begin = time.monotonic()
            codes = [one.wait() for one in launchers]
            click.echo(f"  both ended {time.monotonic() - begin:.1f} s later, with codes {codes}")
    alone = run.with_name(f"{run.name}-alone")
    command = [sys.executable, str(CLI), "train", *common, f"run.dir={alone}"]
    subprocess.run(command, check=True, capture_output=True)
    expected, found = values(alone), values(run)
    worst = max(abs(found[key] - value) / abs(value) for key, value in expected.items())
    click.echo(f"{len(expected)} values compared with one process: largest difference {worst:.1e}")


if __name__ == "__main__":
    main()
