"""The sensor that keeps exactly one live run alive; its switch in the page is the switch of live trading.

Not here: what it decides (``live_decision``), what it goes by (``live_facts``).
"""

import time

import dagster as dg
from dagster._core.definitions.target import AutomationTarget

from mdp.config.settings import Settings
from mdp.defs.healing import HealConfig
from mdp.defs.live_decision import Decision, decide
from mdp.defs.live_facts import HEAL_JOB, LIVE_JOB, facts_of

DESCRIPTION = """Turned ON: buffers of all markets are kept for live trading. Every 10 seconds this looks whether
exactly one `live_job` run is alive, launches one where none is, frees one whose process died, and launches `heal_job`
(at most once an hour) for old missing minutes. The run starts one feed process for each exchange, which asks that
exchange from then on.

Turned OFF: the live run notices within a second, ends the feeds, stores everything they handed on and succeeds, within
5 seconds. To restart it, turn it off and on again; terminating the run alone only makes the sensor launch the next."""


@dg.sensor(
    job_name=LIVE_JOB,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description=DESCRIPTION,
)
def live_sensor(context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]) -> dg.SensorResult:
    """Gather facts, decide, do it."""
    facts = facts_of(context.instance, settings, context.cursor or None)
    decision = decide(facts)
    return _done(context, decision, heard=facts.heard or facts.lease)


# Two jobs by their names, for which the decorator has no argument. Given as definitions they make Dagster 1.13 copy the
# sensor when it binds resources, and warn of an argument of its own that is beta; write `jobs=` once it does not.
live_sensor._targets = [AutomationTarget(resolvable_to_job=name) for name in (LIVE_JOB, HEAL_JOB)]


def _done(context: dg.SensorEvaluationContext, decision: Decision, *, heard: str | None) -> dg.SensorResult:
    for zombie in decision.end:
        _end(context, zombie.run_id)
    requests = [_heal_request(list(decision.heal))] if decision.heal else []
    if decision.start:
        requests.append(dg.RunRequest(f"live-{time.time_ns()}", job_name=LIVE_JOB))
    context.log.info(decision.why)
    skipped = None if requests else dg.SkipReason(decision.why)
    return dg.SensorResult(run_requests=requests, skip_reason=skipped, cursor=heard or context.cursor)


def _end(context: dg.SensorEvaluationContext, run_id: str) -> None:
    """Mark a run as ended whose process is gone: nobody else does, Dagster does not watch processes."""
    run = context.instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return
    said = "Its process gives no sign of life and its lease lapsed: the live sensor ended it."
    if run.status == dg.DagsterRunStatus.CANCELING:
        context.instance.report_run_canceled(run, said)
    else:
        context.instance.report_run_failed(run, said)


def _heal_request(markets: list[str]) -> dg.RunRequest:
    return dg.RunRequest(
        f"heal-live-{time.time_ns()}",
        job_name=HEAL_JOB,
        run_config=dg.RunConfig(ops={"heal": HealConfig(markets=markets, last_days=2)}),
    )
