"""`overread-train`: parses, prints, exits; no logic."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from training.manifest import Item
    from training.report import Story

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train bundles for Overread. Research use only.")


@app.callback()
def _root() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@app.command()
def recipes() -> None:
    """List the recipes, with what each leaves open to --set."""
    from training.recipe import described, named_plainly, names

    for name in names():
        typer.echo(f"{name}: {described(name)}")
        for key, answers in named_plainly(name).open.items():
            typer.echo(f"    --set {key}=  {', '.join(answers)}")


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help="One of `overread-train recipes`.")],
    data: Annotated[Path, typer.Option(help="Folder of the data sources.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder that the bundle's folder is made in.", file_okay=False)],
    weights: Annotated[
        str, typer.Option(metavar="FILE", help='Starting weights: a file, "imagenet" (Keras fetches them) or "none".')
    ] = "imagenet",
    change: Annotated[list[str] | None, typer.Option("--set", help="A setting of the recipe, key=value.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for decoded films and finished folds; a killed run goes on from it.")
    ] = None,
    name: Annotated[str, typer.Option(help="The bundle's name, where the recipe's own is taken.")] = "",
    version: Annotated[str, typer.Option(help="The bundle's version, such as 1.1.0.")] = "",
    wait: Annotated[
        float, typer.Option(help="Minutes for which a worker waits for the others of TF_CONFIG.", min=0.01)
    ] = 10,
) -> None:
    """Train a recipe and write its bundle, its report and its manifest. The same command again goes on after a kill."""
    from training import fit as training_run
    from training.errors import TrainingError
    from training.recipe import named

    console = Console()
    try:
        overrides = dict(_pair(item) for item in change or [])
        bundle = training_run.run(
            named(recipe, overrides, called=name, version=version),
            data,
            out=out,
            weights=weights if weights in ("imagenet", "none") else Path(weights),
            work=work or out / "work",
            console=console,
            wait=wait * 60,
        )
    except TrainingError as error:
        typer.echo(f"overread-train: {error}", err=True)
        raise typer.Exit(2) from None
    if bundle:
        console.print(f"Bundle: {bundle}")


Labelled = Annotated[
    Path | None, typer.Option("--data", help="A labelled folder; this or --from-node.", exists=True, file_okay=False)
]
FromNode = Annotated[
    Path | None,
    typer.Option(help="The data folder of a node: what it received, from its spool.", exists=True, file_okay=False),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="CSV. For --from-node: accession_number or sop_instance_uid, and label; else its labels.csv. For "
        "--predictions: a key, and a column for each label, or label.",
        exists=True,
        dir_okay=False,
    ),
]
Predictions = Annotated[
    Path | None,
    typer.Option(help="What `overread results export` wrote; with --labels.", exists=True, dir_okay=False),
]
SourceName = Annotated[str, typer.Option("--source", help="What kind of folder it is; guessed when not given.")]
NoGate = Annotated[bool, typer.Option("--no-gate", help="Let only the header refuse films, not the bundle's gate.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


Out = Annotated[Path | None, typer.Option("--out", help="Folder for report.html and report.json.", file_okay=False)]


@app.command()
def evaluate(
    bundle: Annotated[
        str, typer.Argument(help="A bundle's folder, or name[@version] of one that ships or is in the predictions.")
    ] = "",
    data: Labelled = None,
    source: SourceName = "",
    from_node: FromNode = None,
    labels: Labels = None,
    predictions: Predictions = None,
    label: Annotated[str, typer.Option(help="With --predictions: only this label.")] = "",
    key: Annotated[str, typer.Option(help="With --predictions: StudyInstanceUID, accession or study.")] = "",
    no_gate: NoGate = False,
    prevalence: Annotated[float | None, typer.Option(help="For PPV and NPV, 0 to 1.", min=0, max=1)] = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """What a bundle is worth on your own labelled films, read exactly as the node reads them; or, with --predictions,
    what a node's readings were worth that `overread results export` wrote.

    Labels match by name, in any case, "_" being a space. A finding is measured against the films labelled only
    "No Finding" where the source has that label, otherwise against all films without the finding.
    """
    from training import measured, reading, report, shown

    with _refusing():
        if predictions:
            _see_alone(data, from_node)
            story = _of_predictions(predictions, labels, bundle, key, label, prevalence)
        else:
            _see_bundle(bundle, label, key)
            items, reader = _items(data, source, from_node, labels), reading.opened(bundle, gate=not no_gate)
            story = measured.story(reader, items, console=Console(stderr=True), prevalence=prevalence)
        if out:
            out.mkdir(parents=True, exist_ok=True)
            report.write(story, out / report.NAME)
            report.write_json(measured.as_json(story), out / report.NAME)
    if as_json:
        typer.echo(json.dumps(measured.as_json(story), indent=2, ensure_ascii=False))
    else:
        shown.story(story, Console())
    if out:
        typer.echo(f"Report: {out / report.NAME}", err=True)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A bundle's folder, or name[@version] of one that ships.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    data: Labelled = None,
    source: SourceName = "",
    from_node: FromNode = None,
    labels: Labels = None,
    no_gate: NoGate = False,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Two bundles on the same labelled films: paired DeLong and McNemar for each label that both know."""
    from training import measured, reading, report

    with _refusing():
        items = _items(data, source, from_node, labels)
        readers = reading.opened(a, gate=not no_gate), reading.opened(b, gate=not no_gate)
        found = measured.comparison(readers, items, console=Console(stderr=True))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        for one in found:
            typer.echo(one.words(readers[0].bundle.ref, readers[1].bundle.ref))
    if out:
        refs = {"a": readers[0].bundle.ref, "b": readers[1].bundle.ref}
        on = f"{len(items)} films of {from_node or data}"
        typer.echo(f"Report: {report.write_comparison(found, out, name=report.NAME, on=on, **refs)}", err=True)


@app.command()
def audit(
    data: Labelled = None,
    source: SourceName = "",
    from_node: FromNode = None,
    labels: Labels = None,
    label: Annotated[str, typer.Option(help="Ask about one label; without it about all.")] = "",
    anatomy: Annotated[bool, typer.Option("--anatomy", help="The labels are body parts, not findings.")] = False,
    as_json: Json = False,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps the decoded films.", file_okay=False)] = None,
    out: Out = None,
) -> None:
    """What could make a figure on these films look better than a model is: leaks, copies, shortcuts. Needs no model.

    Exit code 0: pass or warn; 1: fail; 2: the data cannot be used.
    """
    from training import report
    from training.audit import of_items, printed

    with _refusing():
        items = _items(data, source, from_node, labels)
        found = of_items(
            "anatomy" if anatomy else "finding",
            items,
            label=label,
            kept=cache,
            console=Console(stderr=True),
        )
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        printed(found, Console())
    if out:
        on = f"{len(items)} films of {from_node or data}"
        typer.echo(f"Report: {report.write_audit(found, out, name=report.NAME, on=on)}", err=True)
    if found.verdict == "fail":
        raise typer.Exit(1)


@contextmanager
def _refusing() -> Iterator[None]:
    """What the user can mend becomes a sentence and exit code 2."""
    from models.bundle import BundleError
    from models.predictor import DeviceError
    from training.errors import TrainingError

    try:
        yield
    except (BundleError, DeviceError, TrainingError) as error:
        typer.echo(f"overread-train: {error}", err=True)
        raise typer.Exit(2) from None


def _pair(text: str) -> tuple[str, str]:
    from training.errors import RecipeError

    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text}: key=value is needed")
    return key, value


def _see_alone(data: Path | None, from_node: Path | None) -> None:
    from training.errors import SourceError

    if data or from_node:
        raise SourceError("one of --data, --from-node and --predictions is needed, and no more")


def _see_bundle(bundle: str, label: str, key: str) -> None:
    from training.errors import SourceError

    if not bundle:
        raise SourceError("which bundle? Name one, or give --predictions FILE")
    if label or key:
        raise SourceError("--label and --key go with --predictions")


def _of_predictions(
    file: Path, labels: Path | None, bundle: str, key: str, label: str, prevalence: float | None
) -> Story:
    from training import measured, predictions
    from training.errors import SourceError

    if labels is None:
        raise SourceError("--predictions FILE needs --labels FILE")
    said = predictions.read(file, key=predictions.key_of(labels, key), bundle=bundle)
    return measured.story_of(said, predictions.joined(said, labels, label=label), prevalence=prevalence)


def _items(data: Path | None, source: str, from_node: Path | None, labels: Path | None) -> list[Item]:
    from training.errors import SourceError
    from training.sources import SOURCES, detect, node

    if (data is None) == (from_node is None):
        raise SourceError("--data FOLDER or --from-node FOLDER is needed, and not both")
    if from_node:
        return node(from_node, labels)
    assert data
    if labels:
        raise SourceError("--labels goes with --from-node; of other folders the labels lie where their source says")
    name = source or detect(data)
    if name not in SOURCES:
        raise SourceError(f"--source {name}: no such source (have: {', '.join(SOURCES)})")
    return SOURCES[name](data)


def main() -> None:
    app()
