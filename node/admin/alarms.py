"""What is wrong with a node, found by looking at rows, files and clocks; and telling people of it.

Finding changes nothing. Telling keeps what is to be told in rows until somebody took it. No alarm names a patient.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from config.settings import Settings, SettingsFileError
from node.admin import hosts
from node.admin.reconcile import Account, reconcile, totals
from node.admin.wording import plural
from node.errors import OverreadError, SettingsError
from node.network import telling, tls
from node.network.secret import read_secret
from node.storage import (
    alarms,
    auditing,
    canaries,
    commitments,
    deliveries,
    expected,
    proofs,
    quarantine,
    roles,
    studies,
    waits,
)
from node.storage.alarms import Alarm, Notice, Rules
from node.storage.spool import Spool
from node.storage.store import Store

log = logging.getLogger(__name__)

HOUR = 3600.0
DAY = 24 * HOUR
LOOK_SECONDS = 15.0
SOON_DAYS = 30
"""A certificate that ends within so long is an alarm, ..."""
VERY_SOON_DAYS = 7
"""... and a critical one when it is so near."""
LATE_CANARIES = 3
"""A canary that is due for so many of its intervals does not run at all."""
AUDIT_SECONDS = 300.0
RETRY_SECONDS = 60.0
LONGEST_SECONDS = HOUR
GIVE_UP_DAYS = 7
UNEXPLAINED = "studies.unexplained"
"""The one alarm that looks at each study of a day: the watchman does so every hour, others take his word."""
STATES: dict[str, tuple[alarms.Severity, str, str, str]] = {
    "study.HELD": ("warning", "study is held", "studies are held", "`overread held list`"),
    "job.DEAD": (
        "warning",
        "job was given up",
        "jobs were given up",
        "`overread show STUDY` says why, `overread retry STUDY` tries again",
    ),
    "delivery.DEAD": (
        "warning",
        "result was not delivered",
        "results were not delivered",
        "`overread show STUDY` says why, `overread retry STUDY` tries again",
    ),
}


def found(
    settings: Settings, store: Store, spool: Spool, counts: Mapping[str, int], *, now: float, not_valid: str = ""
) -> list[Alarm]:
    """Everything that a person should see to now; `counts` are those of `studies`. What takes time is as the watchman
    last saw it. `not_valid` is what is wrong with the settings file, where these are those of the node that runs."""
    seen = [Alarm(a.key, a.severity, a.text, a.remedy, a.since) for a in alarms.standing(store) if a.key == UNEXPLAINED]
    return [*at_a_glance(settings, store, spool, counts, now=now, not_valid=not_valid), *seen]


def at_a_glance(
    settings: Settings, store: Store, spool: Spool, counts: Mapping[str, int], *, now: float, not_valid: str = ""
) -> list[Alarm]:
    """The same, without what takes time."""
    return [
        *_states(store, counts),
        *_roles(settings, store),
        *_proofs(settings, store, now),
        *_peers(store, now),
        *_counts(store),
        *_disk(settings, spool),
        *_certificates(settings, now),
        *_canary(settings, store, now),
        *_clock(store, now),
        *_file(settings, not_valid),
        *_audit(settings, store, now),
    ]


def accounts(store: Store, *, now: float) -> list[Alarm]:
    """Studies of the last day that nothing explains; looks at each of them."""
    unexplained = totals(reconcile(store, since=now - DAY, until=now + DAY, now=now)).get(Account.UNEXPLAINED)
    if not unexplained:
        return []
    text = plural(unexplained, "settled study is unexplained", "settled studies are unexplained")
    return [Alarm(UNEXPLAINED, "critical", text, "`overread reconcile`")]


def _states(store: Store, counts: Mapping[str, int]) -> Iterator[Alarm]:
    for key, (severity, one, more, remedy) in STATES.items():
        if n := counts.get(key):
            yield Alarm(key, severity, plural(n, one, more), remedy)
    if n := quarantine.waiting(store):
        text = plural(n, "result failed its self-check and was", "results failed their self-check and were")
        yield Alarm("results.quarantined", "critical", f"{text} not sent", "`overread show STUDY`")


def _roles(settings: Settings, store: Store) -> Iterator[Alarm]:
    if store.database.shared:
        yield from hosts.alarms(store)
        return
    running = roles.expected(settings.node.data_dir, settings.infer.device)
    for name, said in running.items():
        if not said["running"]:
            yield Alarm(f"role.{name}", "critical", f"the role {name} is not running")
        elif away := said.get("engine_away"):
            yield Alarm(
                f"role.{name}.engine", "critical", f"the role {name} waits for its engine: {away}", "`overread check`"
            )


def _proofs(settings: Settings, store: Store, now: float) -> Iterator[Alarm]:
    """Peers that do not say whether they keep results, and whom we could not tell."""
    by_peer: dict[str, list[proofs.Open]] = {}
    for one in proofs.overdue(store, since=now - settings.retention.dead_days * DAY):
        by_peer.setdefault(one.peer, []).append(one)
    for peer, ones in by_peer.items():
        for n, one in enumerate(ones):
            text = f"{peer} has not proven {plural(one.count, 'result')} for {_minutes(now - one.since)}"
            key = f"peer.{peer}.unproven" + (f".{n + 1}" if n else "")
            them = "it" if one.count == 1 else "them"
            yield Alarm(key, "warning", text, one.reason or f"has not reported on {them}", one.since)
    for peer, why in commitments.untold(store):
        yield Alarm(f"peer.{peer}.untold", "warning", f"{peer} asked for commitment and could not be told", why)


def _peers(store: Store, now: float) -> Iterator[Alarm]:
    for peer, n, since in deliveries.failing(store):
        if peer != canaries.PEER:
            text = f"{peer} has not taken {plural(n, 'result')} for {_minutes(now - since)}"
            yield Alarm(
                f"peer.{peer}.failing", "warning", text, f"`overread peer echo {peer}` says what to change", since
            )


def _counts(store: Store) -> Iterator[Alarm]:
    """Peers that are asked how many instances a study has, and do not say."""
    for peer, n, why in expected.failing(store):
        text = f"{peer} cannot be asked how many instances {plural(n, 'study has', 'studies have')}"
        yield Alarm(f"peer.{peer}.uncounted", "warning", text, why)


def _disk(settings: Settings, spool: Spool) -> Iterator[Alarm]:
    free = spool.free_bytes() // 1024**2
    if free < settings.listener.reserve_mb:
        text = f"{free} MB free is below listener.reserve_mb"
        yield Alarm("disk.reserve", "critical", text, "associations are rejected")


def _certificates(settings: Settings, now: float) -> Iterator[Alarm]:
    if not settings.tls:
        return
    for name in ("certificate", "authorities"):
        try:
            days = min(tls.days_left(getattr(settings.tls, name), now=datetime.fromtimestamp(now, UTC)))
        except SettingsError as error:
            yield Alarm(f"tls.{name}", "critical", f"[tls] {name} cannot be read", str(error))
            continue
        if days < SOON_DAYS:
            text = f"[tls] {name}: a certificate {'has ended' if days < 0 else 'ends in ' + plural(round(days), 'day')}"
            severity: alarms.Severity = "critical" if days < VERY_SOON_DAYS else "warning"
            yield Alarm(f"tls.{name}", severity, text, "renew it; the next connection takes it up")


def _canary(settings: Settings, store: Store, now: float) -> Iterator[Alarm]:
    every = settings.canary.every_hours * HOUR
    if not every:
        return
    routes = {route.name for route in settings.route}
    for ran in canaries.latest(store):
        if ran.route not in routes or ran.ended_at is None:
            continue
        remedy = "`overread canary` runs it now and shows each step"
        if ran.ok is False:
            yield Alarm(f"canary.{ran.route}", "critical", f"the canary of {ran.route}: {ran.reason}", remedy)
        elif now - ran.ended_at > LATE_CANARIES * every:
            waited = plural(round((now - ran.ended_at) / HOUR), "hour")
            yield Alarm(f"canary.{ran.route}", "warning", f"the canary of {ran.route} has not run for {waited}", remedy)


def _clock(store: Store, now: float) -> Iterator[Alarm]:
    jump = waits.last_jump(store)
    if jump and 0 <= now - jump[0] < DAY:
        text = f"the clock was set by {jump[1]:+.0f} s; nothing is deleted for a day"
        yield Alarm("clock.set", "warning", text, "see to its synchronisation (NTP)", jump[0])


def _file(settings: Settings, not_valid: str) -> Iterator[Alarm]:
    """Of a node that runs by other settings than its file has."""
    for said in roles.supervisors(settings.node.data_dir).values():
        if why := not_valid or said.get("refused"):
            since = datetime.fromtimestamp(said["since"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
            first, *_ = why.splitlines()
            text = f"the settings file is not valid, the node runs with those of {since}"
            yield Alarm("settings.file", "warning", text, first)
            return
    if settings.file is None:
        return
    try:
        same = Settings.load(settings.file) == settings
    except SettingsFileError as error:
        text = f"the settings file cannot be used any more ({str(error).splitlines()[0]})"
        yield Alarm("settings.file", "warning", text, "the node goes on with what it took up")
        return
    if not same:
        text = "the settings file has changed since the node took it up"
        yield Alarm("settings.file", "warning", text, "`overread reload`, or take the change back")


def _audit(settings: Settings, store: Store, now: float) -> Iterator[Alarm]:
    if not settings.audit.sinks:
        return
    trail = auditing.behind(store)
    if trail.dropped_at is not None and now - trail.dropped_at < DAY:
        remedy = "see to its file or syslog server; what was lost is lost"
        lost = plural(trail.dropped, "audit message was", "audit messages were")
        yield Alarm("audit.dropped", "critical", f"{lost} dropped so far", remedy)
    if trail.oldest is not None and now - trail.oldest > AUDIT_SECONDS:
        text = f"{plural(trail.waiting, 'audit message')} could not be written for {_minutes(now - trail.oldest)}"
        yield Alarm("audit.waiting", "warning", text, "see to its file or syslog server", trail.oldest)


def _minutes(seconds: float) -> str:
    return plural(round(seconds / 60), "minute")


class Watchman:
    """Looks every LOOK_SECONDS, and tells people by the ways that the settings name. One for a node."""

    def __init__(
        self, store: Store, spool: Spool, *, settings: Settings, clock: Callable[[], float] | None = None
    ) -> None:
        self._store = store
        self._spool = spool
        self._settings = settings
        self._clock = clock or store.now
        self._looked_at = -LOOK_SECONDS
        self._accounts: tuple[float, list[Alarm]] = (-HOUR, [])

    def step(self) -> int:
        """Look if it is time, and tell what is due.

        Returns:
            How many messages were tried.
        """
        now = self._clock()
        if not 0 <= now - self._looked_at < LOOK_SECONDS:
            self._looked_at = now
            self.look(now)
        return self.tell(now)

    def look(self, now: float) -> None:
        """Hold what is wrong now against what was."""
        if not 0 <= now - self._accounts[0] < HOUR:
            self._accounts = (now, accounts(self._store, now=now))
        counts = studies.counts(self._store)
        wrong = [*at_a_glance(self._settings, self._store, self._spool, counts, now=now), *self._accounts[1]]
        for event, key in alarms.see(self._store, wrong, rules(self._settings), now=now):
            log.log(logging.INFO if event == "over" else logging.WARNING, "alarm.%s key=%s", event, key)

    def tell(self, now: float) -> int:
        due = alarms.due(self._store, now=now, longest=LONGEST_SECONDS)
        for notice in due:
            try:
                send(notice, self._settings)
            except OverreadError as error:
                self._again(notice, str(error), now)
            else:
                alarms.done(self._store, notice)
        return len(due)

    def _again(self, notice: Notice, reason: str, now: float) -> None:
        """What nobody took is tried again for a week."""
        log.warning("alarm.not-told channel=%s attempts=%d reason=%r", notice.channel, notice.attempts + 1, reason)
        if now - notice.created_at > GIVE_UP_DAYS * DAY:
            alarms.done(self._store, notice)
            return
        wait = min(RETRY_SECONDS * 2.0 ** min(notice.attempts, 10), LONGEST_SECONDS)
        alarms.later(self._store, notice, reason, due_at=now + wait)

    def rest(self) -> None:
        """Nothing is held between two looks."""

    def close(self) -> None:
        """Nothing is held open."""


def tell_a_test(settings: Settings, *, now: float) -> dict[str, str]:
    """Tell a test by every way that the settings name, at once; by each "" or what went wrong."""
    said = alarms.test_body(settings.node.ae_title, now=now)
    outcomes = {}
    for channel in rules(settings).channels:
        try:
            send(Notice(0, channel, said, now, 0), settings)
            outcomes[channel] = ""
        except OverreadError as error:
            outcomes[channel] = str(error)
    return outcomes


def rules(settings: Settings) -> Rules:
    said = settings.alarm
    channels = [name for name, way in (("webhook", said.webhook), ("mail", said.mail)) if way]
    return Rules(said.after_seconds, said.again_hours * HOUR, channels, settings.node.ae_title)


def send(notice: Notice, settings: Settings) -> None:
    """Tell one thing by one way.

    Raises:
        PeerError, SettingsError: nobody took it.
    """
    body = dict(notice.body)
    began = datetime.fromtimestamp(body["since"], UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    text = words(body, began)
    rule = settings.alarm
    if notice.channel == "webhook" and rule.webhook:
        token = read_secret(rule.token_file) if rule.token_file else ""
        telling.post(rule.webhook, body | {"since": began, "text": text}, token=token)
    elif notice.channel == "mail" and rule.mail:
        subject = f"[Overread {body['node']}] {body['event']}: {body['alarm']}"
        telling.mail(rule.mail, subject=subject, text=f"{text}\n", now=notice.created_at)


def words(body: dict[str, str], began: str) -> str:
    """One alarm in a sentence, for a chat or a mail."""
    how = {"raised": "", "lasts": "still: ", "over": "over: ", "test": ""}[body["event"]]
    remedy = f": {body['remedy']}" if body["remedy"] and body["event"] != "over" else ""
    return f"Overread {body['node']} ({body['severity']}): {how}{body['alarm']}{remedy} (since {began})"
