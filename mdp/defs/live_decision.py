"""What the live sensor does, decided from what is known: one live run is alive, none is a zombie, old gaps are healed.

Pure: facts in, decision out. Not here: gathering the facts (``live_facts``), doing it (``live_sensor``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

YOUNG_S = 60.0
"""A run that was never heard of may take so long from its start to its first sign of life, on a busy machine."""

HEAL_EVERY_S = 3_600.0
OLD_S = 3_600.0
"""A minute that is missing for so long is no matter of the feed any more."""


@dataclass(frozen=True, slots=True)
class RunFact:
    """A live run that Dagster counts as not ended.

    Attributes:
        run_id: Which.
        status: In Dagster's words: ``QUEUED``, ``STARTED``, ``CANCELING`` …
        age_s: Since it started, or since it was made where it has not.
    """

    run_id: str
    status: str
    age_s: float

    @property
    def is_at_work(self) -> bool:
        """Tell whether a process should be behind it, which gives signs of life."""
        return self.status in ("STARTED", "CANCELING")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sensor knows at one tick.

    Attributes:
        mode: Of the settings.
        bus_problem: Why the bus cannot be asked; empty where it was.
        runs: The live runs that have not ended.
        lease: Who holds the lease ``live``.
        lease_is_left: Whether that is a run which Dagster knows to have ended: its process is dead or ending.
        heard: The run that gave a sign of life within three lengths of a lease.
        heard_before: The run that gave the last one before: to the bus, or at an earlier tick.
        missing: Markets in which minutes are missing for over ``OLD_S``, on a day that is over.
        backlog_age_s: How long the oldest entry waits for storage; None without any.
        heal_runs: Whether the job that heals has not ended.
        healed_s_ago: Since it was last launched; None: never.
    """

    mode: str
    bus_problem: str = ""
    runs: Sequence[RunFact] = ()
    lease: str | None = None
    lease_is_left: bool = False
    heard: str | None = None
    heard_before: str | None = None
    missing: Sequence[str] = ()
    backlog_age_s: float | None = None
    heal_runs: bool = False
    healed_s_ago: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done.

    Attributes:
        start: Whether a live run is launched.
        end: Runs without a process, to be marked as ended.
        heal: The markets for which the job that heals is launched; empty: it is not.
        why: In one sentence, for the tick's page.
    """

    why: str
    start: bool = False
    end: Sequence[RunFact] = ()
    heal: Sequence[str] = ()


def decide(facts: Facts) -> Decision:
    """Decide what one tick of the sensor does."""
    if facts.mode != "live":
        return Decision(f"MDP_MODE is {facts.mode}: storage is read, and nothing runs live. Turn this sensor off.")
    if facts.bus_problem:
        return Decision(f"the bus does not answer, so nobody can tell what runs: {facts.bus_problem}")
    zombies = [run for run in facts.runs if _is_zombie(run, facts)]
    alive = [run for run in facts.runs if run not in zombies]
    heal = _to_heal(facts)
    if alive:
        said = f"live run {alive[0].run_id} is {alive[0].status} for {alive[0].age_s:.0f} s"
        return Decision(said, end=zombies, heal=heal)
    if facts.lease is not None and not facts.lease_is_left and facts.lease not in {run.run_id for run in zombies}:
        said = (
            f"live run {facts.lease} holds the lease, which this Dagster does not know: another one keeps the buffers"
        )
        return Decision(said, end=zombies)
    return Decision("no live run is alive: one is launched", start=True, end=zombies, heal=heal)


def _is_zombie(run: RunFact, facts: Facts) -> bool:
    """Tell whether Dagster counts a run as at work whose process is gone."""
    if not run.is_at_work or run.run_id in (facts.lease, facts.heard):
        return False
    return run.age_s > YOUNG_S or run.run_id == facts.heard_before


def _to_heal(facts: Facts) -> Sequence[str]:
    is_due = facts.healed_s_ago is None or facts.healed_s_ago >= HEAL_EVERY_S
    return tuple(facts.missing) if is_due and not facts.heal_runs else ()
