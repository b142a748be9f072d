"""Commands about models: bundle list, show, verify; and predict, which needs no node and no settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markdown import Markdown
from rich.progress import Progress
from rich.table import Table

from config.settings import SettingsFileError
from models import imported
from models.bundle import Bundle, BundleError
from models.families import PRESETS
from models.findings import Reader, Reading, see_gate
from models.pixels import attempted
from models.registry import Registry
from node.cli.printing import FAILED, UNUSABLE, Config, Json, app, err, fail, load, out, print_json, print_table
from node.results.summary import figure, sentence

bundle = typer.Typer(no_args_is_help=True, help="The models that this node can run.")
app.add_typer(bundle, name="bundle")

PICTURES = {".dcm", ".dicom", ".png", ".jpg", ".jpeg"}
BATCH = 8
Ref = Annotated[str, typer.Argument(metavar="NAME", help="name or name@version")]


def _registry(config: Path | None) -> Registry:
    """The settings' bundles where there are settings, else those that ship."""
    from node.pipeline.plan import registry

    try:
        settings, _ = load(config)
    except SettingsFileError:
        if config:
            raise
        return Registry()
    return registry(settings)


@bundle.command("list")
def bundle_list(config: Config = None, as_json: Json = False) -> None:
    """Every bundle, with what it finds and what its audit said."""
    table = Table("bundle", "gate", "audit", "digest", "finds", box=None)
    for found in _registry(config).all():
        labels = [label.name for label in found.spec.labels]
        gate = found.spec.gate.bundle if found.spec.gate else ""
        if as_json:
            said = {"bundle": found.ref, "labels": labels, "gate": gate, "audit": found.audit_verdict}
            print_json(said | {"digest": found.digest, "path": found.path})
        table.add_row(found.ref, gate, found.audit_verdict, found.digest[:12], ", ".join(labels))
    if not as_json:
        print_table(table)


@bundle.command("show")
def bundle_show(name: Ref, config: Config = None, as_json: Json = False) -> None:
    """A bundle's model card."""
    found = _registry(config).find(name)
    if as_json:
        print_json(found.spec.model_dump(mode="json") | {"digest": found.digest, "audit": found.audit_verdict})
    else:
        out.print(Markdown((found.path / "MODEL_CARD.md").read_text(encoding="utf-8")))


@bundle.command("verify")
def bundle_verify(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="name or name@version; all when not given")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check every byte of a bundle and replay the images whose answers it ships with."""
    bundles = _registry(config)
    bad = 0
    for found in [bundles.find(name)] if name else bundles.all():
        wrong = ""
        try:
            Reader(bundles, found).verify()
        except BundleError as error:
            wrong = str(error)
        bad += bool(wrong)
        if as_json:
            print_json({"bundle": found.ref, "ok": not wrong, "error": wrong})
        elif wrong:
            out.print(f"fail  {found.ref}: {wrong}", style="red", markup=False)
        else:
            out.print(f"ok    {found.ref}", style="green")
    raise typer.Exit(FAILED if bad else 0)


@bundle.command("import")
def bundle_import(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="a whole Keras network: .keras, .h5 or .hdf5")],
    name: Annotated[str, typer.Option(help="small letters, digits and -")],
    version: Annotated[str, typer.Option(help="such as 1.0.0")],
    labels: Annotated[str, typer.Option(help="one for each output, in the network's order: covid,normal")],
    preprocessing: Annotated[str, typer.Option(help=f"{', '.join(PRESETS)}, or a JSON file with a list of steps")],
    folder: Annotated[Path, typer.Option("--out", help="where the bundle's folder is made")],
    task: Annotated[str, typer.Option(help="binary, multiclass or multilabel; where the last layer does not say")] = "",
    codes: Annotated[Path | None, typer.Option(help='JSON: {"covid": {"finding": {...}, "site": {...}}}')] = None,
    modality: Annotated[str, typer.Option(help="what it may be used on; empty: all")] = "CR,DX,RG",
    min_age: Annotated[float, typer.Option(help="years; 0: no limit")] = 18,
    gate: Annotated[str, typer.Option(help="BUNDLE:NAME:SCORE that must hold first: body-part:chest:0.9")] = "",
    threshold: Annotated[float, typer.Option(help="score from which a label is present")] = 0.5,
    config: Config = None,
) -> None:
    """Make a bundle of your own Keras network. Nothing in the file is run; a Lambda layer is refused.

    A label that names no finding is not reported: normal, healthy, negative, no finding, and "non-X" or "no X" beside
    X. Its output still counts against the others.

    The bundle has no audit, so a live route to it needs accept_unaudited = true; its scores are no probabilities.
    """
    request = imported.Request(
        model=model,
        name=name,
        version=version,
        labels=_list(labels),
        preprocessing=preprocessing,
        task=imported.task(task),
        codes=codes,
        modality=_list(modality),
        min_age=min_age or None,
        gate=imported.gate(gate) if gate else None,
        threshold=threshold,
    )
    if request.gate:
        see_gate(_registry(config), f"--gate {gate}", request.gate)
    made = imported.make(request, folder)
    out.print(f"made  {made}", style="green", markup=False)
    out.print(f'[node] bundle_dirs = ["{folder.resolve()}"] lets this node use it', markup=False)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM, PNG and JPEG files, and folders")],
    name: Annotated[str, typer.Option("--bundle", metavar="NAME", help="name or name@version; else all")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check your own X-ray images: the same gate and the same pixels as in the node. Research use only."""
    files = list(_pictures(paths))
    if not files:
        fail("no DICOM, PNG or JPEG file there", UNUSABLE)
    bundles = _registry(config)
    failed = 0
    with Progress(console=err, transient=True) as progress:
        for found in [bundles.find(name)] if name else bundles.findings():
            bar = progress.add_task(found.ref, total=len(files))
            reader = Reader(bundles, found)
            for start in range(0, len(files), BATCH):
                chunk = files[start : start + BATCH]
                items = [attempted(path, frames=found.spec.accepts.frames) for path in chunk]
                for path, reading in zip(chunk, reader.read(items), strict=True):
                    failed += reading.status == "failed"
                    _say(path, found, reading, as_json=as_json)
                    progress.advance(bar)
    raise typer.Exit(FAILED if failed else 0)


def _pictures(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            fail(f"{path}: no such file or folder", UNUSABLE)
        if path.is_dir():
            yield from (p for p in sorted(path.rglob("*")) if p.is_file() and _is_picture(p))
        else:
            yield path


def _is_picture(path: Path) -> bool:
    if path.suffix.lower() in PICTURES:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _say(path: Path, found: Bundle, reading: Reading, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "file": str(path),
                "bundle": found.spec.name,
                "version": found.spec.version,
                "status": reading.status,
                "reason": reading.reason,
                "scores": dict(reading.scores),
                "findings": {f.label: f.presence.value.lower() for f in reading.findings},
                "gate": dict(reading.gate),
            }
        )
        return
    style = {"analysed": "green", "refused": "yellow", "failed": "red"}[reading.status]
    out.print(f"[{style}]{reading.status:<9}[/]", end=" ")
    said = sentence([(f.label, figure(f), f.presence) for f in reading.findings]) if reading.findings else ""
    out.print(f"{path}  {said or reading.reason}  ({found.ref})", markup=False)
