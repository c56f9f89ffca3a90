"""What needs a person: which alerts follow from what Dagster knows, which of them are due, what each says.

Pure: facts in, alerts out. Not here: gathering the facts (``alert_facts``), sending (``alert_sending``), the sensor
(``alert_sensor``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

MOST_AT_ONCE = 20
"""Of one look; the rest is summed up in one more alert, for nobody reads a thousand."""

MOST_WAITING = 200
"""That could not be sent; of more, the oldest are given up, and that is said."""

STUCK_S = 3 * 3_600.0
"""A run without an event for so long does nothing: the longest steps tell of each batch."""

OVERLAP_S = 600.0
"""Each look goes back so far behind the one before: what another host's clock dated earlier, or what a slow transaction
brought late, is still found. What was found already is remembered for as long."""


class Alert(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that needs a person.

    Attributes:
        kind: ``run_failed``, ``check_failed``, ``backfill_failed``, ``run_stuck``, ``too_many`` or ``given_up``.
        about: What it is about: two alerts of one kind about one thing are the same.
        text: A sentence.
        fields: More, for machines.
    """

    kind: str
    about: str
    text: str
    fields: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def identity(self) -> str:
        """What makes it the same alert again."""
        return f"{self.kind} {self.about}"


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the sensor remembers between two looks, as its cursor.

    Attributes:
        seen_to: Up to when runs, checks and backfills were looked at, seconds since 1970.
        sent: When each alert was last sent, by its identity.
        waiting: What could not be sent yet, oldest first.
        known: When each fact that was found lately happened, by its id.
    """

    seen_to: float
    sent: dict[str, float] = msgspec.field(default_factory=dict)
    waiting: tuple[Alert, ...] = ()
    known: dict[str, float] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that failed and is not tried again.

    Attributes:
        run_id: Of it.
        job: Its job.
        why: What it says of itself, in a line.
        ended: When, seconds since 1970.
        exchange: Which one it asks; empty where several.
    """

    run_id: str
    job: str
    why: str
    ended: float
    exchange: str = ""

    @property
    def fact_id(self) -> str:
        """Its own, whatever else failed alike."""
        return self.run_id


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A verdict of a check of severity ERROR: not passed.

    Attributes:
        name: As ``asset:check``.
        said: By it, in a line.
        run_id: Of the run that looked.
        judged: When, seconds since 1970.
        partition: What it looked at; empty: all.
    """

    name: str
    said: str
    run_id: str
    judged: float
    partition: str = ""

    @property
    def fact_id(self) -> str:
        """One look at one partition."""
        return f"{self.name} {self.run_id} {self.partition}"


@dataclass(frozen=True, slots=True)
class FailedBackfill:
    """A backfill that ended, and not well.

    Attributes:
        backfill_id: Of it.
        said: Of it, in a line.
        ended: When, seconds since 1970.
    """

    backfill_id: str
    said: str
    ended: float

    @property
    def fact_id(self) -> str:
        """Its own."""
        return self.backfill_id


@dataclass(frozen=True, slots=True)
class Facts:
    """What Dagster knows since the last look.

    Attributes:
        now: Seconds since 1970.
        failed_runs: That ended since.
        failed_checks: That were judged since.
        failed_backfills: That ended since.
        stuck_runs: Started, and without an event for how many seconds, by run id; of these, all that are so now.
    """

    now: float
    failed_runs: Sequence[FailedRun] = ()
    failed_checks: Sequence[FailedCheck] = ()
    failed_backfills: Sequence[FailedBackfill] = ()
    stuck_runs: Mapping[str, float] = field(default_factory=dict)

    def happened(self) -> dict[str, float]:
        """Return when each thing happened, by its id."""
        return {
            **{one.fact_id: one.ended for one in self.failed_runs},
            **{one.fact_id: one.judged for one in self.failed_checks},
            **{one.fact_id: one.ended for one in self.failed_backfills},
        }


def news(facts: Facts, state: State) -> Facts:
    """Return the facts without those that an earlier look found already."""
    return replace(
        facts,
        failed_runs=[one for one in facts.failed_runs if one.fact_id not in state.known],
        failed_checks=[one for one in facts.failed_checks if one.fact_id not in state.known],
        failed_backfills=[one for one in facts.failed_backfills if one.fact_id not in state.known],
    )


def alerts_of(facts: Facts) -> list[Alert]:
    """Return what needs a person.

    Runs of one job that failed on one exchange are one thing, for an exchange that is down fails a run of each market;
    so are the partitions that one check found wrong.
    """
    found: dict[str, Alert] = {}
    for made in (*map(_of_run, facts.failed_runs), *_of_checks(facts.failed_checks)):
        found.setdefault(made.identity, made)
    return [
        *found.values(),
        *(
            Alert("backfill_failed", one.backfill_id, f"Backfill {one.backfill_id}: {one.said}")
            for one in facts.failed_backfills
        ),
        *(
            Alert("run_stuck", one, f"Run {one[:8]} has been silent for {silent_s / 3_600:.1f} hours", {"run_id": one})
            for one, silent_s in facts.stuck_runs.items()
        ),
    ]


def _of_run(run: FailedRun) -> Alert:
    about = f"{run.job} {run.exchange}".strip()
    told = {"run_id": run.run_id, "job": run.job, "exchange": run.exchange}
    return Alert("run_failed", about, f"Run {run.run_id[:8]} of {about} failed: {run.why}", told)


def _of_checks(failed: Sequence[FailedCheck]) -> Iterator[Alert]:
    by_name: dict[str, list[FailedCheck]] = {}
    for check in failed:
        by_name.setdefault(check.name, []).append(check)
    for name, looks in by_name.items():
        first = looks[0]
        of = f" of {first.partition}" if first.partition else ""
        more = f" (and {len(looks) - 1} more)" if len(looks) > 1 else ""
        told = {"run_id": first.run_id, "partition": first.partition}
        yield Alert("check_failed", name, f"Check {name}{of} failed{more}: {first.said}", told)


def due(alerts: Iterable[Alert], state: State, *, now: float, repeat_after_s: float) -> list[Alert]:
    """Return what is to be sent now: what waits, then what was not sent for a while, then how many more there are.

    Args:
        alerts: Of this look.
        state: Of the one before.
        now: Seconds since 1970; a clock that was set back repeats an alert rather than swallow it.
        repeat_after_s: So long the same alert is not sent again.
    """
    waiting = {alert.identity: alert for alert in state.waiting if alert.kind != "too_many"}
    new: dict[str, Alert] = {}
    for alert in alerts:
        last = state.sent.get(alert.identity)
        if last is None or not 0 <= now - last < repeat_after_s:
            (waiting if alert.identity in waiting else new)[alert.identity] = alert
    found = [*waiting.values(), *list(new.values())[:MOST_AT_ONCE]]
    more = max(0, len(new) - MOST_AT_ONCE) + _counted("too_many", state.waiting)
    return [*found, _count("too_many", more, f"And {more} more alerts; see Dagster.")] if more else found


def _count(kind: str, alerts: int, text: str) -> Alert:
    """Return what stands for alerts that are not told one by one."""
    return Alert(kind, "alerts", text, {"alerts": str(alerts)})


def _counted(kind: str, waiting: Iterable[Alert]) -> int:
    return sum(int(alert.fields.get("alerts", 0)) for alert in waiting if alert.kind == kind)


def state_after(
    state: State, facts: Facts, *, sent: Sequence[Alert], unsent: Sequence[Alert], repeat_after_s: float
) -> State:
    """Return what is to be remembered: what was sent lately, what still waits, what later looks will find again."""
    lately = {name: at for name, at in state.sent.items() if 0 <= facts.now - at < repeat_after_s}
    waiting = list(unsent)
    if len(waiting) > MOST_WAITING:
        named = [alert for alert in unsent if alert.kind != "given_up"]
        kept = named[len(named) - MOST_WAITING + 1 :]
        lost = len(named) - len(kept) + _counted("given_up", unsent)
        said = f"{lost} alerts could not be sent and were given up; see Dagster."
        waiting = [_count("given_up", lost, said), *kept]
    known = {one: at for one, at in (state.known | facts.happened()).items() if at > facts.now - 2 * OVERLAP_S}
    return State(facts.now, lately | {alert.identity: facts.now for alert in sent}, tuple(waiting), known)


def read_state(cursor: str | None, now: float) -> State:
    """Read a cursor; one that cannot be read, or none, begins with what happens from now on."""
    try:
        return msgspec.json.decode(cursor, type=State) if cursor else State(now)
    except msgspec.DecodeError:
        return State(now)
