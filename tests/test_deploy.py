"""What a site installs by: the image, the compose file, the unit, the locked list of what is installed.

No Docker engine is asked for: the commands of the Dockerfile are run as they stand, below folders of their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from dockerfile import Stage, script, stages
from needed import missing
from packaging.requirements import Requirement

from config.settings import Settings
from node.network.orthanc import free_port

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "config" / "deploy"
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked(variant: str) -> dict[str, str]:
    """What a lock installs: versions by name."""
    lines = (DEPLOY / f"{variant}.lock").read_text()
    return {name.replace("_", "-"): v for name, v in re.findall(r"^([\w.-]+)==([^\s;]+)", lines, flags=re.M)}


def wanted(variant: str) -> list[Requirement]:
    extras = PROJECT["optional-dependencies"]
    return [Requirement(r) for r in (*PROJECT["dependencies"], *extras[variant], *extras["demo"])]


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_the_lock_holds_all_that_is_needed_in_versions_that_are_allowed(variant: str) -> None:
    have = locked(variant)
    wrong = [str(r) for r in wanted(variant) if not r.specifier.contains(have.get(r.name.lower(), "0"))]
    assert wrong == [], "make config/deploy/*.lock anew: see CONTRIBUTING"


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_each_line_of_the_lock_has_hashes_and_names_no_host(variant: str) -> None:
    text = (DEPLOY / f"{variant}.lock").read_text()
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in entry, entry
    assert "://" not in text


def test_both_locks_agree_but_for_what_a_gpu_needs() -> None:
    cpu, gpu = locked("cpu"), locked("gpu")
    assert {n for n in cpu.keys() & gpu.keys() if cpu[n] != gpu[n]} == set()
    assert "tensorflow-cpu" in cpu and "tensorflow" not in cpu
    assert "tensorflow" in gpu and "tensorflow-cpu" not in gpu
    assert any(n.startswith("nvidia-") for n in gpu)


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
def test_the_bill_of_materials_names_every_component_of_the_lock(variant: str, tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    lock = DEPLOY / f"{variant}.lock"
    command = [
        BIN / "cyclonedx-py",
        "requirements",
        "--pyproject",
        ROOT / "pyproject.toml",
        "--output-file",
        file,
        lock,
    ]
    subprocess.run(command, check=True, capture_output=True)
    made = json.loads(file.read_text())
    assert made["bomFormat"] == "CycloneDX"
    assert {c["name"].replace("_", "-"): c["version"] for c in made["components"]} == locked(variant)


def test_the_dockerfile_has_no_fault_that_a_linter_knows() -> None:
    done = subprocess.run([BIN / "hadolint", ROOT / "Dockerfile.gpu"], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr


def test_the_compose_file_is_one() -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_compose_file_s_settings_are_valid() -> None:
    settings = Settings.load(DEPLOY / "compose.toml")
    assert settings.peer_named("orthanc") is not None


def test_the_unit_is_understood_by_systemd(program: Callable[[str], str], tmp_path: Path) -> None:
    analyze = program("systemd-analyze")
    unit = tmp_path / "overread.service"
    unit.write_text(
        (DEPLOY / "overread.service").read_text().replace("/opt/overread/bin/overread", str(BIN / "overread"))
    )
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    judged = subprocess.run([analyze, "security", "--offline=true", unit], capture_output=True, text=True)
    exposure = re.search(r"exposure level for overread.service: ([\d.]+)", judged.stdout)
    assert exposure and float(exposure[1]) < 2.5, judged.stdout


def test_what_is_read_only_and_who_runs_is_the_same_in_both(tmp_path: Path) -> None:
    image = stages(ROOT / "Dockerfile.gpu")[-1]
    assert image.user == "10001"
    compose = (DEPLOY / "compose.yaml").read_text()
    for said in ("read_only: true", "cap_drop: [ALL]", "no-new-privileges:true", "tmpfs: /tmp"):
        assert said in compose


@pytest.mark.slow
def test_the_image_s_commands_build_a_node_that_runs_as_nobody_on_a_read_only_root(tmp_path: Path) -> None:
    """As in a container: folders of its own at the Dockerfile's paths, user 10001, a root that cannot be written."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        missing("root, who may give a process file systems of its own")
    if sys.version_info[:2] != (3, 11):
        missing("Python 3.11, as in the image")
    port = free_port()
    (tmp_path / "overread.toml").write_text(
        f'[node]\ndata_dir = "/data/node"\n[listener]\nport = {port}\nreserve_mb = 0\n[web]\nport = {free_port()}\n'
    )
    run = tmp_path / "build.sh"
    run.write_text(
        script(stages(ROOT / "Dockerfile.gpu", VARIANT="cpu"), context=ROOT, python=sys.base_prefix, scratch=tmp_path)
    )
    done = subprocess.run(["unshare", "--mount", "sh", "-eu", run], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert f"overread {version('overread')}" in done.stdout
    assert "WROTE THE ROOT" not in done.stdout
    assert "healthy" in done.stdout


def test_a_stage_is_read_as_docker_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(
        "ARG V=1\nFROM a:${V} AS one\n# words\nWORKDIR /x\nRUN a \\\n    && b\nFROM b\nARG W=2\n"
        "COPY --from=one /x/${W} /y\n"
        'ENV P=/z:$P \\\n    Q=1\nUSER 7\nHEALTHCHECK --interval=30s CMD ["c", "d"]\n'
    )
    one, two = stages(file, W="3")
    assert one == Stage("one", "a:1", [("WORKDIR", "/x"), ("RUN", "a && b")])
    assert two.steps[0] == ("COPY", "--from=one /x/3 /y")
    assert two.user == "7" and two.health == ["c", "d"]
