"""Ray: a cluster that runs already, or one of this machine's cores alone."""

import logging
import os
from functools import partial

from seqgen.errors import UserError
from seqgen.files import PROJECT

ANSWER_SECONDS = 5.0
START = "start one with `ray start --head`, or leave out --address to use this machine alone"


def connect(address: str | None) -> None:
    """Connect to a cluster, whose processes get this version of seqgen.

    Args:
        address: "host:port", or "auto" for the one that this machine belongs to; None: start one
            on this machine, which ends with this process.

    Raises:
        UserError: Ray is not installed, nothing answers there, it asks for a token, or it is a Ray
            or a Python of another version.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do, unwarned
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError(
            f"--engine ray needs Ray, which is not installed ({error.name} is missing): "
            f"pip install 'seqgen[scale]'"
        ) from None
    start = partial(ray.init, log_to_driver=False, logging_level=logging.ERROR)
    if address is None:
        try:
            start(address="local", include_dashboard=False)
        except Exception as error:  # of no narrower type
            if "timed out during startup" not in str(error):
                raise
            raise UserError(
                "Ray did not start in time, as on a machine that is very busy: try again, or start "
                "it with `ray start --head` and give --address auto"
            ) from None
        return
    if address != "auto":
        _check_answers(address)
    try:
        start(address=address, runtime_env={"py_modules": [str(PROJECT / "seqgen")]})
    except ConnectionError:
        if address != "auto":
            raise UserError(
                f"the Ray cluster at {address} refuses this process: if it asks for a token, set "
                f"RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or ~/.ray/auth_token to its token"
            ) from None
        raise UserError(
            f"no Ray cluster runs here, so that --address auto finds none: {START}"
        ) from None
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        versions = [line.split(": ")[1] for line in str(error).splitlines() if line[:4] == "    "]
        theirs, their_python, ours, our_python = versions
        raise UserError(
            f"the cluster at {address} has Ray {theirs} on Python {their_python}, and here is Ray "
            f"{ours} on Python {our_python}: install the same versions on all machines"
        ) from None


def _check_answers(address: str) -> None:
    """Raise UserError where no Ray answers: Ray itself would wait long, and end the process."""
    import grpc

    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(
            f'--address {address}: must be "host:port", such as "10.0.0.1:6379", or "auto"'
        )
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            raise UserError(f"no Ray cluster answers at {address}: {START}") from None
