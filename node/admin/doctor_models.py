"""`overread check` of what the node computes with: routes, bundles with their golden images, devices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from config.settings import Settings
from models.bundle import BundleError
from models.engine import EngineAway
from models.findings import Reader
from models.pool.link import Pool
from models.predictor import DeviceError, find_device
from models.registry import Registry
from node.admin.doctor_pool import pool_is_there
from node.admin.said import Said
from node.errors import OverreadError
from node.pipeline.engine import engine_of, leave
from node.pipeline.plan import plan, registry

NVIDIA = Path("/dev/nvidia0")


def models(settings: Settings) -> Iterator[Said]:
    try:
        planned = plan(settings)
    except OverreadError as error:
        yield Said("routes", "fail", str(error))
        return
    yield from _destinations(settings)
    bundles = registry(settings)
    engine = engine_of(settings)
    refs = list(dict.fromkeys(p.bundle for p in planned))
    if engine:
        try:
            if (yield from pool_is_there(settings, engine)):
                yield from (_bundle(bundles, ref, settings, engine) for ref in refs)
        finally:
            leave(engine, engine)
        return
    for ref in refs:
        yield _bundle(bundles, ref, settings)
    # After the bundles: asking for devices starts TensorFlow, whose number of threads is then fixed
    yield from devices(settings)


def _destinations(settings: Settings) -> Iterator[Said]:
    live = [route.name for route in settings.route if route.mode == "live"]
    if not settings.route:
        yield Said("routes", "warn", "there is no [[route]]: every study stays UNROUTED")
    elif not live:
        yield Said("routes", "warn", "no [[route]] is live: results are made and kept here, and sent to nobody")
    for route in settings.route:
        if route.mode == "shadow":
            yield Said("routes", "ok", f"{route.name} is in shadow mode: its results stay here")
        else:
            yield Said("routes", "ok", f"{route.name} delivers to {', '.join(route.deliver_to)}")


def devices(settings: Settings) -> Iterator[Said]:
    """Each device that is asked for; and a GPU that is there and that nobody uses."""
    for wanted in settings.infer.device:
        try:
            name = find_device(wanted)
        except DeviceError as error:
            yield Said("device", "fail", f"infer.{error}; correct infer.device, or install this machine's GPU driver")
            continue
        if wanted == "auto" and "CPU" in name and NVIDIA.exists():
            text = "there is an NVIDIA GPU, and TensorFlow does not find it: pip install 'tensorflow[and-cuda]'"
            yield Said("device", "warn", text)
        else:
            yield Said("device", "ok", f'"{wanted}" is {name}')


def _bundle(bundles: Registry, ref: str, settings: Settings, engine: Pool | None = None) -> Said:
    try:
        found = bundles.find(ref)
        rules = settings.infer
        reader = Reader(bundles, found, device=rules.device[0], threads=rules.threads, engine=engine)
        reader.verify()
    except (BundleError, DeviceError, EngineAway, ValueError) as error:
        return Said("bundle", "fail", str(error))
    audit = f"audit: {found.audit_verdict}, see `overread bundle show {found.spec.name}`"
    return Said("bundle", "ok", f"{ref} replays its golden images on {reader.device}; {audit}")
