"""What several hosts are installed by: the manifests and the compose file with PostgreSQL.

No cluster and no Docker are here: schemas say that they are well formed, and the rest is held against the program and
against each other.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from config.settings import Settings
from node.admin.metrics import Exporter
from node.network.secret import _handed_over
from node.storage.roles import ROLES

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
DEPLOY = ROOT / "config" / "deploy"
MANIFESTS = DEPLOY / "kubernetes"
FILES = sorted(path for path in MANIFESTS.glob("*.yaml") if path.name != "kustomization.yaml")
KUBERNETES = "1.30"
"""The oldest version that they are held to; HorizontalPodAutoscaler and all the rest have been stable for longer."""


def documents(*files: Path) -> Iterator[dict[str, Any]]:
    for file in files or FILES:
        yield from yaml.safe_load_all(file.read_text())


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [one for one in documents() if one["kind"] in kinds]


WORKLOADS = of_kind("Deployment", "StatefulSet")
NAMES = [one["metadata"]["name"] for one in WORKLOADS]


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    return dict(workload["spec"]["template"]["spec"])


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (one,) = pod(workload)["containers"]
    return dict(one)


def in_force(workload: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for said in container(workload)["env"]:
        if said["name"] != "OVERREAD_CONFIG":
            monkeypatch.setenv(said["name"], said["value"])
    return Settings.load(MANIFESTS / "overread.toml")


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("version", [KUBERNETES, kubernetes_validate.latest_version()])
def test_each_object_is_one_that_the_cluster_knows(file: Path, version: str) -> None:
    for one in documents(file):
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize(
    ("place", "value"),
    [(("spec", "replicas"), "two"), (("spec", "replica"), 2), (("spec", "template", "spec", "contaners"), [])],
)
def test_a_planted_mistake_is_found(place: tuple[str, ...], value: object) -> None:
    (one,) = [w for w in of_kind("Deployment") if w["metadata"]["name"] == "infer"]
    part = one
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_the_list_holds_every_file_but_the_secret() -> None:
    said = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())
    assert set(said["resources"]) == {file.name for file in FILES} - {"secret.example.yaml"}
    assert [(m["name"], m["files"]) for m in said["configMapGenerator"]] == [("overread-settings", ["overread.toml"])]


def test_every_role_is_somebody_s() -> None:
    assert sorted(NAMES) == sorted(ROLES)
    for one in WORKLOADS:
        assert container(one)["args"] == ["serve", "--roles", one["metadata"]["name"]]
    assert {one["metadata"]["name"]: one["spec"]["replicas"] for one in WORKLOADS if one["spec"]["replicas"] > 1} == {
        "receive": 2,
        "infer": 2,
        "dispatch": 2,
    }
    assert sorted(b["metadata"]["name"] for b in of_kind("PodDisruptionBudget")) == ["dispatch", "infer", "receive"]


@pytest.mark.parametrize("one", WORKLOADS, ids=NAMES)
def test_the_settings_are_valid_as_each_pod_has_them(one: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = in_force(one, monkeypatch)
    mounts = {m["name"]: Path(m["mountPath"]) for m in container(one)["volumeMounts"]}
    assert settings.is_shared
    assert settings.spool_dir == mounts["spool"]
    assert settings.node.data_dir.is_relative_to(mounts["data"])
    password = settings.database.password_file
    assert password is not None and password.parent == mounts["secrets"]
    assert password.parent in _handed_over(), "the group may read it there, and the program lets that be"
    (example,) = of_kind("Secret")
    assert {password.name, str(settings.metrics.token_file and settings.metrics.token_file.name)} == set(
        example["stringData"]
    )
    asks = "nvidia.com/gpu" in container(one)["resources"]["requests"]
    assert asks == (one["metadata"]["name"] == "infer") == (settings.infer.device == ["gpu:0"])


@pytest.mark.parametrize("one", WORKLOADS, ids=NAMES)
def test_a_pod_may_do_no_more_than_it_must(one: dict[str, Any]) -> None:
    may, its = container(one)["securityContext"], pod(one)["securityContext"]
    assert may == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert its["runAsNonRoot"] and its["runAsUser"] == 10001 and its["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(one)["automountServiceAccountToken"] is False
    volumes = {v["name"] for v in pod(one)["volumes"]} | {
        t["metadata"]["name"] for t in one["spec"].get("volumeClaimTemplates", [])
    }
    assert volumes == {m["name"] for m in container(one)["volumeMounts"]}


@pytest.mark.parametrize("one", WORKLOADS, ids=NAMES)
def test_probes_ask_what_there_is(one: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from node.start import main

    role = one["metadata"]["name"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container(one).get(name)
        if probe is None or "httpGet" in probe:
            assert role == "web"
            assert probe is None or probe["httpGet"]["path"] in ("/readyz", "/healthz")
            continue
        program, *arguments = probe["exec"]["command"]
        assert program == "overread" and arguments[-2:] == ["--roles", role]
        assert ("--alive" in arguments) == (name != "readinessProbe"), "what is not ready is not restarted"
        monkeypatch.setattr(sys, "argv", ["overread", *arguments, "--config", str(MANIFESTS / "overread.toml")])
        with pytest.raises(SystemExit) as ended:
            sys.exit(main())
        assert ended.value.code == 1, "understood, and nothing runs here"


def test_a_receiver_is_given_the_time_to_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = of_kind("StatefulSet")
    assert in_force(one, monkeypatch).listener.drain_seconds + 20 < pod(one)["terminationGracePeriodSeconds"]
    infer = next(w for w in WORKLOADS if w["metadata"]["name"] == "infer")
    assert in_force(infer, monkeypatch).infer.deadline_seconds < pod(infer)["terminationGracePeriodSeconds"]


def test_ports_and_names_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.load(MANIFESTS / "overread.toml")
    wanted = {"receive": settings.listener.port, "web": settings.web.port}
    ports = {w["metadata"]["name"]: container(w)["ports"] for w in WORKLOADS if "ports" in container(w)}
    assert {name: one[0]["containerPort"] for name, one in ports.items()} == wanted
    labels = [w["spec"]["template"]["metadata"]["labels"] for w in WORKLOADS]
    for service in of_kind("Service"):
        selected = [one for one in labels if service["spec"]["selector"].items() <= one.items()]
        assert len(selected) == 1, service["metadata"]["name"]
        assert service["spec"]["ports"][0]["targetPort"] == ports[selected[0]["role"]][0]["name"]
    (outside,) = [s for s in of_kind("Service") if s["spec"].get("type") == "LoadBalancer"]
    assert outside["spec"]["externalTrafficPolicy"] == "Local"
    for budget in of_kind("PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"] in labels
    for policy in of_kind("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            assert {one["port"] for one in rule["ports"]} <= set(wanted.values())
    (claim,) = of_kind("PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for one in WORKLOADS:
        volumes = {v["name"]: v for v in pod(one)["volumes"]}
        assert volumes["spool"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_what_the_cluster_scales_by_is_a_metric_that_there_is(tmp_path: Path) -> None:
    (rule,) = of_kind("HorizontalPodAutoscaler")
    assert rule["spec"]["scaleTargetRef"]["name"] in NAMES
    (metric,) = [m["external"]["metric"] for m in rule["spec"]["metrics"]]
    assert metric["name"] in Path(str(sys.modules[Exporter.__module__].__file__)).read_text()
    assert metric["selector"]["matchExpressions"] == [{"key": "priority", "operator": "NotIn", "values": ["BULK"]}]


def test_no_image_s_home_is_named() -> None:
    assert {container(one)["image"] for one in WORKLOADS} == {"overread:cpu", "overread:gpu"}


def test_the_compose_file_is_one() -> None:
    file = DEPLOY / "compose.postgres.yaml"
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_compose_file_is_a_node_on_several_hosts() -> None:
    said = yaml.safe_load((DEPLOY / "compose.postgres.yaml").read_text())
    settings = Settings.load(DEPLOY / "compose.postgres.toml")
    services = {name: one for name, one in said["services"].items() if name != "database"}
    roles = [one["command"][-1] for one in services.values()]
    assert sorted(roles) == ["dispatch", "dispatch", "infer", "infer", "receive", "web"]
    assert settings.is_shared and settings.database.password_file == Path("/run/secrets/database")
    own = set()
    for one in services.values():
        assert one["read_only"] and one["cap_drop"] == ["ALL"] and one["secrets"] == ["database"]
        volumes = dict(volume.split(":")[:2] for volume in one["volumes"])
        assert volumes["spool"] == str(settings.spool_dir)
        own |= {name for name, place in volumes.items() if place == "/data"}
        assert settings.node.data_dir.is_relative_to("/data")
    assert len(own) == len(services) and own <= said["volumes"].keys(), "each host has a data folder of its own"
    published = [str(port) for one in said["services"].values() for port in one.get("ports", [])]
    assert published == ["11112:11112", "127.0.0.1:8090:8090"]
    assert settings.listener.drain_seconds < 40
