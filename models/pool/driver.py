"""The process that speaks to the Ray cluster for one caller: `python -m models.pool.driver FD`.

Of its own because Ray ends the process that it is loaded in when the cluster's head stays away. It answers requests
over a socket pair: each a tuple (what, arguments), each answered with ("ok", value) or (kind of failure, words). It
ends with its caller.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from models.engine import Floats, Prediction
from models.pool.link import App
from models.pool.replica import Packed, Replica, Rules

DEATHS = 3
"""So many replicas may die over one batch before the batch is taken to be the reason."""
LOOK_SECONDS = 0.2
HEAD_SECONDS = 2.0


class Away(Exception):
    """The cluster or the application is not there."""


class Refused(Exception):
    """The application cannot start: the bundle or the device is wrong."""


def connect(address: str) -> dict[str, Any]:
    """Join the cluster through this host's own Ray node, and see what it has."""
    try:
        ray.init(address=address, namespace="overread", log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise Away(f"{type(error).__name__}: {_first_line(error)}") from None
    return resources()


def resources() -> dict[str, Any]:
    """CPUs, GPUs and hosts of the cluster."""
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]
    hosts = sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]
    return {"cpus": total.get("CPU", 0.0), "gpus": total.get("GPU", 0.0), "hosts": hosts}


def deploy(app: App, packed: bytes, digest: str, seconds: float) -> None:
    """See that an application runs, and start it when there is none. What runs is left as it is: its name says all."""
    serve.start(proxy_location="Disabled")
    if _status(app.name) not in (ApplicationStatus.RUNNING, ApplicationStatus.DEPLOYING):
        options: dict[str, Any] = {"num_cpus": app.cpus, "num_gpus": app.gpus}
        scaling = {
            "min_replicas": app.replicas_min,
            "max_replicas": app.replicas_max,
            "initial_replicas": max(1, app.replicas_min),
            "target_ongoing_requests": app.batch,
        }
        deployment: Any = serve.deployment(
            Replica,
            name="replica",
            ray_actor_options=options,
            autoscaling_config=scaling,
            # no more than it takes at once, or the router gives one replica what another one is idle for
            max_ongoing_requests=app.batch,
            health_check_period_s=5,
            health_check_timeout_s=30,
        )
        rules = Rules(app.gpus > 0, app.threads, app.batch, app.batch_wait_ms / 1000)
        target = serve.RunTarget(deployment.bind(Packed(digest, packed), rules), name=app.name, route_prefix=None)
        serve.run_many([target], wait_for_applications_running=False)
    until = time.monotonic() + seconds
    while (status := _status(app.name)) is not ApplicationStatus.RUNNING:
        if status is ApplicationStatus.DEPLOY_FAILED:
            said = serve.status().applications[app.name].message
            serve.delete(app.name)
            raise Refused(f"the replicas of {app.name} cannot start: {said.strip()[-400:]}")
        if time.monotonic() > until:
            raise Away(f"no replica of {app.name} was ready after {seconds:g} s (ray.start_seconds): {status}")
        time.sleep(LOOK_SECONDS)


def _status(name: str) -> ApplicationStatus | None:
    found = serve.status().applications.get(name)
    return found.status if found else None


def predict(name: str, inputs: list[Floats], seconds: float) -> list[tuple[str, int, Prediction]]:
    """Ask for each image by itself, all at once; those whose replica died are asked for again."""
    try:
        handle = _handle(name)
    except RayServeException as error:
        raise Away(f"{name} does not run: {_first_line(error)}") from None
    until = time.monotonic() + seconds
    found: dict[int, tuple[str, int, Prediction]] = {}
    for death in range(DEATHS):
        asked = {i: handle.remote(one) for i, one in enumerate(inputs) if i not in found}
        died = ""
        for i, answer in asked.items():
            try:
                found[i] = _answer(answer, until)
            except TimeoutError:
                raise _late(name, seconds) from None
            except ray.exceptions.RayTaskError as error:
                raise ValueError(_first_line(error.cause) if error.cause else type(error).__name__) from None
            except (RayError, RayServeException) as error:
                died = f"{type(error).__name__}: {_first_line(error)}"
        if len(found) == len(inputs):
            return [found[i] for i in range(len(inputs))]
        if death < DEATHS - 1:
            time.sleep(LOOK_SECONDS * 2**death)
    if (status := _status(name)) is not ApplicationStatus.RUNNING:
        raise Away(f"{name} is {status or 'gone'} ({died})")
    raise ValueError(f"{DEATHS} replicas in a row died over these images ({died})")


def _answer(answer: Any, until: float) -> Any:
    """An image's answer; the head is looked for while it does not come, as Ray itself takes a minute to miss it.

    Raises:
        TimeoutError: it did not come in time.
        Away: the head's port takes no connection.
    """
    while True:
        try:
            return answer.result(timeout_s=min(HEAD_SECONDS, max(until - time.monotonic(), 0.01)))
        except TimeoutError:
            if time.monotonic() >= until:
                raise
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), HEAD_SECONDS).close()
        except OSError as error:
            raise Away(f"the head takes no connection: {error.strerror or error}") from None


def _handle(name: str) -> DeploymentHandle[Any]:
    return serve.get_app_handle(name)


def _late(name: str, seconds: float) -> Exception:
    """No answer in time: the images' fault only where the application says that it is well."""
    status = _status(name)
    if status is ApplicationStatus.RUNNING:
        return ValueError(f"{name} runs, and gave no answer in {seconds:g} s (ray.answer_seconds)")
    return Away(f"no answer in {seconds:g} s: {name} is {status or 'gone'}")


def delete(name: str) -> None:
    with contextlib.suppress(RayServeException):
        serve.delete(name)


def apps() -> list[str]:
    return sorted(serve.status().applications)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]


def main(fd: int) -> None:
    """Answer until the caller is gone."""
    verbs: dict[str, Callable[..., Any]] = {f.__name__: f for f in (connect, resources, deploy, predict, delete, apps)}
    with Connection(fd) as caller:
        while True:
            try:
                verb, arguments = caller.recv()
            except (EOFError, OSError):
                os._exit(0)  # Ray's own ending would wait for a head that may not answer
            try:
                said = ("ok", verbs[verb](*arguments))
            except ValueError as error:
                said = ("value", str(error))
            except Refused as error:
                said = ("refused", str(error))
            except Away as error:
                said = ("away", str(error))
            except Exception as error:  # whatever Ray raises while its cluster goes: the caller waits and comes again
                said = ("away", f"{type(error).__name__}: {_first_line(error)}")
            caller.send(said)


if __name__ == "__main__":
    main(int(sys.argv[1]))
