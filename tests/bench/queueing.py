"""`python -m tests.bench.queueing [--jobs 200]`: what one job costs in the database, from routing to its results.

Three steps: routing makes the job, a worker claims it, a worker finishes it with a finding, two results and their
deliveries. The same rows are written through SQLAlchemy's ORM, one session a step, as many systems do; the mapping
stands here only. Both without fsync, and in
processor time, so that neither the disk nor a busy machine decides.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session, registry

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measured import rounds, table, timed
from rows import NOW, ORIGIN, built, received

from node.domain import Built, DeliveryState, FindingRow, JobState, Matched, Study, StudyState
from node.storage import instances, jobs, queue, routing, schema, studies
from node.storage.store import Store

ROUTE, BUNDLE, PEER = "chest", "chest-findings@1.0.0", "pacs"
RESULT = ("kind", "ordinal", "sop_instance_uid", "sop_class_uid", "series_instance_uid", "digest", "size")
MAPPED = ("study", "instance", "route_reason", "job", "job_instance", "finding", "result", "delivery", "event")


def settled(store: Store, uid: str) -> Study:
    """A study of one image that waits to be routed."""
    study = instances.remember(store, received(store, uid), ORIGIN, own_device_uid="", now=NOW).study
    done = studies.settle(store, study, "benchmark", image_digest=uid, now=NOW)
    assert done is not None
    return done


def results(store: Store, uid: str) -> list[Built]:
    return [built(store, f"{uid}.7{n}", kind) for n, kind in enumerate(("sr", "sc"))]


def ours(store: Store, study: Study, made: list[Built]) -> None:
    members = tuple(i.id for i in instances.of_study(store, study.id))
    routing.route(store, study, [routing.Wanted(Matched(ROUTE, members, "1 of 1"), BUNDLE, {PEER: []})], now=NOW)
    work = queue.claim(store, "infer@here", 1, now=NOW, lease=60)[0]
    found = [FindingRow(work.instances[0].id, "ok", "", "Effusion", 0.5, "absent")]
    assert jobs.finish(store, work.job, JobState.DONE, found, made, reason="", now=NOW)


class Orm:
    """The same three steps, object by object."""

    def __init__(self, store: Store) -> None:
        self._store = store
        mapper = registry()
        self.kinds: dict[str, Any] = {name: type(name, (), {}) for name in MAPPED}
        for name, kind in self.kinds.items():
            mapper.map_imperatively(kind, schema.metadata.tables[name])

    def job(self, study: Study, made: list[Built]) -> None:
        self.route(study)
        job_id = self.claim()
        self.finish(job_id, made)

    def _new(self, table: str, **values: Any) -> Any:
        one = self.kinds[table]()
        for name, value in values.items():
            setattr(one, name, value)
        return one

    def route(self, study: Study) -> None:
        kinds = self.kinds
        with Session(self._store.engine) as session, session.begin():
            row = session.get(kinds["study"], study.id)
            jobs_of = select(kinds["job"]).where(kinds["job"].study_id == row.id, kinds["job"].route == ROUTE)
            last = session.scalars(jobs_of.order_by(kinds["job"].revision.desc())).first()
            members = session.scalars(select(kinds["instance"]).where(kinds["instance"].study_id == row.id)).all()
            digest = routing.input_digest([(m.sop_instance_uid, m.digest) for m in members])
            assert last is None or last.input_digest != digest
            values = {"route": ROUTE, "bundle": BUNDLE, "input_digest": digest, "state": JobState.QUEUED}
            job = self._new(
                "job",
                study_id=row.id,
                revision=row.revision,
                due_at=NOW,
                deliver_to={PEER: []},
                created_at=NOW,
                **values,
            )
            session.add(job)
            session.flush()
            session.add_all(self._new("job_instance", job_id=job.id, instance_id=m.id) for m in members)
            why = {"route": ROUTE, "matched": len(members), "reason": "1 of 1"}
            session.add(self._new("route_reason", study_id=row.id, revision=row.revision, **why))
            session.add(self._new("event", study_id=row.id, at=NOW, verb="route", text=f"{ROUTE}: 1 of 1"))
            row.state, row.reason = StudyState.ROUTED, ""

    def claim(self) -> int:
        kinds = self.kinds
        job_kind, study = kinds["job"], kinds["study"]
        due = and_(job_kind.state == JobState.QUEUED, job_kind.due_at <= NOW)
        expired = and_(job_kind.state == JobState.LEASED, job_kind.lease_until < NOW)
        with Session(self._store.engine) as session, session.begin():
            free = select(job_kind).join(study, study.id == job_kind.study_id).where(study.state != StudyState.HELD)
            first = free.where(or_(due, expired)).order_by(job_kind.due_at, job_kind.id).limit(1)
            job = session.scalars(first).one()
            job.state, job.worker, job.lease_until = JobState.LEASED, "infer@here", NOW + 60
            job.attempts, job.fence = job.attempts + 1, job.fence + 1
            session.get(study, job.study_id)
            link, instance = kinds["job_instance"], kinds["instance"]
            session.scalars(
                select(instance).join(link, link.instance_id == instance.id).where(link.job_id == job.id)
            ).all()
            result = kinds["result"]
            earlier = select(result).join(job_kind, job_kind.id == result.job_id)
            session.scalars(earlier.where(job_kind.study_id == job.study_id, job_kind.revision < job.revision)).all()
            return int(job.id)

    def finish(self, job_id: int, made: list[Built]) -> None:
        finding, link = self.kinds["finding"], self.kinds["job_instance"]
        with Session(self._store.engine) as session, session.begin():
            job = session.get(self.kinds["job"], job_id)
            assert job.state == JobState.LEASED
            job.state, job.reason, job.finished_at, job.lease_until = JobState.DONE, "", NOW, None
            for old in session.scalars(select(finding).where(finding.job_id == job.id)):
                session.delete(old)
            instance_id = session.scalars(select(link).where(link.job_id == job.id)).one().instance_id
            values = {"status": "ok", "reason": "", "label": "Effusion", "score": 0.5, "presence": "absent"}
            session.add(self._new("finding", job_id=job.id, instance_id=instance_id, **values))
            for one in made:
                values = {n: getattr(one, n) for n in RESULT} | {"path": one.path.name}
                result = self._new("result", job_id=job.id, created_at=NOW, **values)
                session.add(result)
                session.flush()
                state = {"peer": PEER, "state": DeliveryState.QUEUED, "due_at": NOW, "created_at": NOW}
                session.add(self._new("delivery", result_id=result.id, **state))
            session.add(self._new("event", study_id=job.study_id, at=NOW, verb="report", text=f"{ROUTE}: DONE"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        stores = [Store(Path(temporary) / f"{n}.db", Path(temporary) / "spool", durable=False) for n in range(2)]
        for store in stores:
            store.open()
            store.spool.open()
            studies.begin_association(store, ORIGIN)
        orm = Orm(stores[0])
        counters = [0, 0]

        def one(which: int) -> float:
            counters[which] += 1
            uid = f"1.2.{counters[which]}"
            study, made = settled(stores[which], uid), results(stores[which], uid)
            call = partial(ours, stores[1], study, made) if which else partial(orm.job, study, made)
            return timed(call, clock=time.process_time)

        found = rounds(given.jobs, {"ORM, a session a step": partial(one, 0), "overread": partial(one, 1)})
    table(f"{given.jobs} jobs: routed, claimed, finished", "ms of processor a job", found, times=1000)


if __name__ == "__main__":
    main()
