"""Prepare and serve on two hosts of a Ray cluster, which are network namespaces, and lose one.

    sudo python scripts/two_nodes.py prepare WORK data.source=FOLDER --losses 2 --kills 3
    sudo python scripts/two_nodes.py serve WORK shipped --losses 2

The second host dies with all its processes; it comes back, but for the last time. `prepare`
compares what is prepared with what one machine prepares, byte for byte; `serve` lets `listeners.py`
compare each session with the same one alone. Needs Linux, iproute2, root, and the extras scale and
studio.
"""

import filecmp
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from two_hosts import CLI, HOSTS, two_hosts

FIRST, SECOND = HOSTS
ADDRESS = f"{HOSTS[FIRST]}:6379"
ENVIRONMENT = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
PORT = 8765  # of the server
LISTENERS = Path(__file__).with_name("listeners.py")


def on(host: str, *command: str) -> list[str]:
    """Return a command that runs another one on a host."""
    named = ["unshare", "--uts", "sh", "-c", f'hostname {host} && exec "$@"', "sh"]
    return ["ip", "netns", "exec", host, *named, *command]


def start(host: str, *command: str, log: Path) -> subprocess.Popen:
    """Start a command of Python on a host."""
    with log.open("ab") as file:
        whole = on(host, sys.executable, *command)
        return subprocess.Popen(whole, stdout=file, stderr=file, env=ENVIRONMENT)


def start_node(host: str, cpus: int) -> None:
    """Let a host be a node of the cluster, as a person would with a shell there."""
    place = ["--head", "--port", "6379", "--include-dashboard", "false"]
    place = place if host == FIRST else ["--address", ADDRESS]
    size = ["--num-cpus", str(cpus), "--object-store-memory", str(2 * 10**8)]
    ray = [str(Path(sys.executable).with_name("ray")), "start", *place, *size]
    command = on(host, *ray, "--node-ip-address", HOSTS[host])
    subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True)


def kill(host: str) -> None:
    """Kill all processes of a host."""
    found = subprocess.run(["ip", "netns", "pids", host], capture_output=True, check=False)
    for process in found.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)


def lose_second(left: int, cpus: int) -> None:
    """Lose the second host, and let it come back if it is to be lost again."""
    begin = time.monotonic()
    kill(SECOND)
    click.echo("the second host is lost")
    if left > 0:
        start_node(SECOND, cpus)
        click.echo(f"it was back {time.monotonic() - begin:.1f} s later")


@contextmanager
def cluster(cpus: int) -> Iterator[None]:
    """Start two nodes with so many CPUs each, as Ray counts them; end them with their hosts."""
    with two_hosts():
        try:
            for host in HOSTS:
                start_node(host, cpus)
            yield
        finally:
            for host in HOSTS:
                kill(host)


@click.group()
def main() -> None:
    """Prepare or serve on two hosts."""


@main.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.argument("settings", nargs=-1)
@click.option("--losses", default=2, show_default=True, help="Of the second host.")
@click.option("--kills", default=3, show_default=True, help="Of the command, which starts again.")
@click.option("--cpus", default=1, show_default=True, help="Of each host.")
@click.option("--seed", default=0, show_default=True, help="In which order, and when.")
def prepare(
    work: Path, settings: tuple[str, ...], losses: int, kills: int, cpus: int, seed: int
) -> None:
    """Prepare, lose and kill, compare."""
    rng = random.Random(seed)
    work.mkdir(parents=True)
    prepared, log = work / "cluster", work / "prepare.log"
    command = [str(CLI), "prepare", *settings]
    alone = work / "alone"
    subprocess.run([sys.executable, *command, f"data.prepared_dir={alone}"], check=True)
    command += [f"data.prepared_dir={prepared}", "--engine", "ray", "--address", ADDRESS]
    events = ["lose"] * losses + ["kill"] * kills
    rng.shuffle(events)
    with cluster(cpus):
        running, n_shards = start(FIRST, *command, log=log), 0
        for event in events:
            n_shards += rng.randint(1, 3)
            while len([*prepared.glob(".*.shards/*.shard")]) < n_shards:
                if running.poll() is not None:
                    raise click.ClickException(f"it ended before {event} {n_shards}: see {log}")
                time.sleep(0.02)
            if event == "lose":
                losses -= 1
                lose_second(losses, cpus)
            else:
                running.kill()
                running.wait()
                n_shards = len([*prepared.glob(".*.shards/*.shard")])
                click.echo(f"the command was killed after {n_shards} shards")
                running = start(FIRST, *command, log=log)
        if running.wait():
            raise click.ClickException(f"it ended with {running.returncode}: see {log}")
    folders = (alone, prepared)
    names = {path.relative_to(f) for f in folders for path in f.rglob("*") if path.is_file()}
    _, differ, lacking = filecmp.cmpfiles(*folders, sorted(names), shallow=False)
    click.echo(f"{len(names)} files compared with one machine; different: {differ + lacking}")
    sys.exit(bool(differ + lacking))


@main.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.argument("run")
@click.option("--losses", default=2, show_default=True, help="Of the second host.")
@click.option("--listeners", default=6, show_default=True)
@click.option("--seconds", default=90, show_default=True, help="In which they listen.")
@click.option("--cpus", default=2, show_default=True, help="Of each host.")
def serve(work: Path, run: str, losses: int, listeners: int, seconds: int, cpus: int) -> None:
    """Serve with two replicas, lose, compare."""
    work.mkdir(parents=True)
    log = work / "serve.log"
    place = ["--projects", str(work / "sessions"), "--port", str(PORT)]
    replicas = ["--engine", "ray", "--address", ADDRESS, "--replicas", "2"]
    load = ["--listeners", str(listeners), "--seconds", str(seconds)]
    with cluster(cpus):
        server = start(FIRST, str(CLI), "serve", run, *place, *replicas, log=log)
        while "http://" not in log.read_text():
            if server.poll() is not None:
                raise click.ClickException(f"it does not serve: see {log}")
            time.sleep(0.1)
        command = [str(LISTENERS), f"http://127.0.0.1:{PORT}", run, *load]
        listening = start(FIRST, *command, log=work / "listeners.log")
        for left in reversed(range(losses)):
            time.sleep(seconds / (losses + 1))
            lose_second(left, cpus)
        code = listening.wait()
        server.send_signal(signal.SIGINT)
        server.wait()
    click.echo((work / "listeners.log").read_text())
    sys.exit(code)


if __name__ == "__main__":
    main()
