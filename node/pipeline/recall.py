"""Recall: a version of a model turned out to be wrong. Its results are superseded by another version's, or withdrawn.

To supersede is to ask each study's routes anew. To withdraw is to tell every destination, by a document that names our
own objects only, and to send nothing of them any more. Both can be repeated and make nothing twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom import config
from pydicom.dataset import Dataset

from config.settings import Settings
from models.codes import SOMETHING
from node.domain import Built, Instance, Result, StudyState
from node.errors import ResultError, SettingsError
from node.failpoint import failpoint
from node.pipeline import report
from node.pipeline.route import Planned
from node.results import withdrawal
from node.results.check import Draft
from node.results.evidence import TYPE_2, UTF_8, Model, read_evidence
from node.results.identifying import anybody
from node.storage import instances, jobs, recalls, roles, routing
from node.storage import results as rows
from node.storage.recalls import Recalled
from node.storage.shelf import Away
from node.storage.spool import Spool
from node.storage.store import Store

log = logging.getLogger(__name__)

STOPPED = "withdrawn: this version of the model was recalled"


@dataclass(frozen=True)
class Answer:
    """What was or would be done about one study: done, or why not."""

    study_id: int
    done: bool
    text: str


def find(store: Store, bundle: str, *, since: float, until: float, route: str = "") -> list[Recalled]:
    """What one version of a bundle has made.

    Raises:
        SettingsError: it is no name@version that ever had a job; the message names those that had.
    """
    have = recalls.bundles(store)
    if versions := [known for known in have if known.startswith(f"{bundle}@")]:
        raise SettingsError(f"--bundle {bundle}: which version? Add it: {', '.join(versions)}")
    if bundle not in have:
        raise SettingsError(f"--bundle {bundle}: nothing was ever made with it (have: {', '.join(have) or 'none'})")
    return recalls.of_bundle(store, bundle, since=since, until=until, route=route)


def see_routes(found: Iterable[Recalled], plans: Sequence[Planned], settings: Settings) -> None:
    """The routes of these results name another version now, in the settings and in the node that runs.

    Raises:
        SettingsError: one of them would only repeat the recalled version.
    """
    now = {p.route.name: p.bundle for p in plans}
    running = _running(settings)
    for route, bundle in sorted({(one.job.route, one.job.bundle) for one in found}):
        if route not in now:
            raise SettingsError(
                f"no [[route]] is named {route} any more: nothing would replace its results of {bundle}"
            )
        if now[route] == bundle:
            raise SettingsError(
                f'route {route} still names {bundle}: give it another version first, as bundle = "name@version"'
            )
        if running is not None and running.get(route) != now[route]:
            raise SettingsError(
                f"the running node still reads with {running.get(route, 'nothing')} in route {route}: "
                "`overread reload` first"
            )


def _running(settings: Settings) -> Mapping[str, str] | None:
    """Which bundle each route has in the dispatch role that runs; None where none does."""
    said = roles.status(settings.node.data_dir, ["dispatch"])["dispatch"]
    return dict(said.get("routes") or {}) if said["running"] else None


def supersede(store: Store, found: Iterable[Recalled], *, now: float, dry: bool = False) -> list[Answer]:
    """Ask the routes of each study anew, unless that was done already or cannot be done; one answer a study."""
    answers: dict[int, Answer] = {}
    for one in found:
        said = _why_not(store, one)
        if not said and answers.get(one.study.id, Answer(0, False, "")).done:
            continue
        if not said and not dry and not routing.again(store, one.study, now=now):
            said = "something arrived just now: say it again later"
        answers[one.study.id] = Answer(one.study.id, not said, said or "its routes are asked anew")
        failpoint("recall.asked")
    return list(answers.values())


def _why_not(store: Store, one: Recalled) -> str:
    """Why the routes of a study are not asked anew; empty where they are."""
    if one.superseded:
        return "another version has taken its place already"
    if one.asked:
        pending = one.study.state is StudyState.SETTLED
        return "its routes are being asked" if pending else "its routes were asked, and none took it again"
    if one.study.state not in (StudyState.ROUTED, StudyState.UNROUTED):
        return f"it is {one.study.state}: say it again later"
    left, purged_at = recalls.images_left(store, one.study.id)
    if not left:
        when = f" on {datetime.fromtimestamp(purged_at).astimezone():%Y-%m-%d}" if purged_at else ""
        return f"its images were purged{when}: its results can only be withdrawn"
    return ""


def withdraw(
    store: Store, spool: Spool, found: Iterable[Recalled], *, settings: Settings, now: float, dry: bool = False
) -> list[Answer]:
    """Take back the results of each job: stop what was not delivered, and tell whoever has one of them."""
    answers = []
    for one in found:
        if one.withdrawn:
            answers.append(Answer(one.study.id, False, "withdrawn already"))
            continue
        if not dry:
            recalls.stop(store, one.job.id, STOPPED, now=now)
            failpoint("recall.stopped")
        has = recalls.arrived(store, one.job.id)
        peers = list(dict.fromkeys(one.peer for one in has))
        if has and not dry:
            _tell(store, spool, one, has, settings=settings, now=now)
        told = f"a withdrawal goes to {', '.join(peers)}" if peers else "nobody has any of it"
        answers.append(Answer(one.study.id, True, f"revision {one.job.revision} of {one.job.route}: {told}"))
        log.info("result.withdrawn study=%s job=%d peers=%d dry=%s", one.study.log_id, one.job.id, len(peers), dry)
    return answers


def _tell(
    store: Store, spool: Spool, one: Recalled, has: Sequence[recalls.Arrived], *, settings: Settings, now: float
) -> None:
    """Make the documents of one job, durable before their rows are."""
    named = _named_to(has)
    documents = [
        (_document(store, spool, one, objects, number, settings=settings, now=now), peers)
        for number, (objects, peers) in enumerate(named.items(), 1)
    ]
    failpoint("recall.written")
    recalls.withdraw(store, one.job, documents, now=now)
    failpoint("recall.end")


def _named_to(has: Iterable[recalls.Arrived]) -> dict[tuple[withdrawal.Withdrawn, ...], list[str]]:
    """Who is told of which objects: some refuse a document that names what they do not have."""
    theirs: dict[str, dict[str, withdrawal.Withdrawn]] = {}
    for a in has:
        # The same object in another transfer syntax has the same name
        theirs.setdefault(a.peer, {}).setdefault(
            a.sop_instance_uid,
            withdrawal.Withdrawn(a.series_instance_uid, a.sop_class_uid, a.sop_instance_uid, a.digest),
        )
    told: dict[tuple[withdrawal.Withdrawn, ...], list[str]] = {}
    names: dict[frozenset[str], tuple[withdrawal.Withdrawn, ...]] = {}
    for peer, objects in theirs.items():
        told.setdefault(names.setdefault(frozenset(objects), tuple(objects.values())), []).append(peer)
    return told


def _document(
    store: Store,
    spool: Spool,
    one: Recalled,
    objects: Sequence[withdrawal.Withdrawn],
    number: int,
    *,
    settings: Settings,
    now: float,
) -> Built:
    name, _, version = one.job.bundle.partition("@")
    ran_with = one.job.ran_with or {}
    subject = withdrawal.subject_of(
        _source(store, one),
        objects,
        device=report.device(store, settings),
        model=Model(
            name=name,
            version=version,
            digest=str(ran_with.get("bundle_digest", "")),
            manufacturer="",
            settings_digest=store.serial,
            family="",
            body_part=SOMETHING,
            audit_note="",
        ),
        revision=one.job.revision,
        route=one.job.route,
        when=datetime.fromtimestamp(int(now), tz=UTC).astimezone(),
    )
    document = report.keep(
        Draft(withdrawal.build(subject, number)),
        recalls.KIND,
        number,
        subject,
        anybodys=lambda: Draft(withdrawal.build(anybody(subject), number)).texts(),
        spool=spool,
        is_ours=lambda uid: not rows.is_reported(store, uid),
    )
    if document.quarantine:
        raise ResultError(f"the withdrawal failed its self-check and is not sent: {document.quarantine}")
    return document


def _source(store: Store, one: Recalled) -> Dataset:
    """Patient and study, as the results themselves have them, or as they are remembered of images that are gone."""
    for result in one.results:
        ds = _header(store, result)
        if ds is not None:
            return ds
    members = jobs.members(store, one.job.id)
    return _remembered(store, members[0])


def _header(store: Store, result: Result) -> Dataset | None:
    try:
        return read_evidence(store.spool.shelf.at_hand(result.path))
    except Away:
        raise
    except (OSError, ResultError):
        return None


def _remembered(store: Store, instance: Instance) -> Dataset:
    ds = Dataset()
    said = dict.fromkeys(TYPE_2, "") | instances.identification(store, instance) | {"SpecificCharacterSet": UTF_8}
    with config.disable_value_validation():  # as it came, and pydicom's complaint would quote it
        for keyword, value in said.items():
            setattr(ds, keyword, value)
    return ds
