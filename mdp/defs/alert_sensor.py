"""The sensor that tells people what needs them, by a webhook.

Not here: what that is (``alerting``), where it is found (``alert_facts``), how it is sent (``alert_sending``).
"""

import time

import dagster as dg
import msgspec

from mdp.config.settings import Settings, load_settings
from mdp.defs.alert_facts import gather
from mdp.defs.alert_sending import send
from mdp.defs.alerting import OVERLAP_S, alerts_of, due, news, read_state, state_after

DESCRIPTION = """Tells `MDP_ALERTS__WEBHOOK_URL` of runs that failed and are not tried again, of checks and backfills
that failed, and of runs that have been silent for hours; the same alert not again within
`MDP_ALERTS__REPEAT_AFTER_MINUTES`. What cannot be sent is sent at a later look. On where the address is set."""


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING
    if load_settings().alerts.webhook_url
    else dg.DefaultSensorStatus.STOPPED,
    description=DESCRIPTION,
)
def alert_sensor(context: dg.SensorEvaluationContext, settings: dg.ResourceParam[Settings]) -> dg.SensorResult:
    """Gather facts, say what is due, remember."""
    now, repeat_after_s = time.time(), settings.alerts.repeat_after_minutes * 60.0
    state = read_state(context.cursor, now)
    if settings.alerts.webhook_url is None:
        return dg.SensorResult(skip_reason="MDP_ALERTS__WEBHOOK_URL is not set: nobody is told", cursor=context.cursor)
    definition = context.repository_def
    checks = definition.asset_graph.asset_check_keys if definition is not None else []
    facts = gather(context.instance, checks, since=min(state.seen_to, now) - OVERLAP_S, now=now)
    wanted = due(alerts_of(news(facts, state)), state, now=now, repeat_after_s=repeat_after_s)
    done = send(settings.alerts.webhook_url, wanted, settings.env)
    for alert in wanted:
        context.log.warning(alert.text)
    for alert in done.refused:
        context.log.error(f"given up, for {done.error}: {alert.text}")
    # what was refused for good counts as sent: asked again every minute, it would stand before all others
    told = [*done.sent, *done.refused]
    after = state_after(state, facts, sent=told, unsent=done.unsent, repeat_after_s=repeat_after_s)
    said = f"{len(done.sent)} sent, {len(done.unsent)} wait{': ' if done.error else ''}{done.error}"
    return dg.SensorResult(skip_reason=said, cursor=msgspec.json.encode(after).decode())
