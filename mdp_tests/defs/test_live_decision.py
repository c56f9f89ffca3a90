"""The table of what the live sensor decides."""

from __future__ import annotations

import pytest

from mdp.defs.live_decision import HEAL_EVERY_S, YOUNG_S, Decision, Facts, RunFact, decide

OLD = YOUNG_S + 1
GAP = ("okx:BTC-USDT",)


def run(status="STARTED", age_s=OLD, run_id="a"):
    return RunFact(run_id, status, age_s)


def facts(*runs, mode="live", **known):
    return Facts(mode, runs=runs, **known)


@pytest.mark.parametrize(
    ("known", "starts", "ends", "heals"),
    [
        pytest.param(facts(), True, 0, (), id="nothing runs: one is launched"),
        pytest.param(facts(mode="backtest"), False, 0, (), id="backtest: never"),
        pytest.param(facts(run(), mode="backtest"), False, 0, (), id="backtest: nothing is ended either"),
        pytest.param(facts(bus_problem="refused"), False, 0, (), id="the bus is away: nobody knows what runs"),
        pytest.param(facts(run(), bus_problem="refused"), False, 0, (), id="the bus is away: no run is called dead"),
        pytest.param(facts(run("QUEUED")), False, 0, (), id="one is queued"),
        pytest.param(facts(run("NOT_STARTED")), False, 0, (), id="one is made"),
        pytest.param(facts(run("STARTING")), False, 0, (), id="one is starting, however long"),
        pytest.param(facts(run(), lease="a", heard="a"), False, 0, (), id="one is alive"),
        pytest.param(facts(run(), heard="a"), False, 0, (), id="its lease lapsed, but not for three lengths"),
        pytest.param(facts(run(), lease="a"), False, 0, (), id="it holds its lease"),
        pytest.param(facts(run("CANCELING"), lease="a"), False, 0, (), id="one is ending"),
        pytest.param(facts(run(age_s=YOUNG_S)), False, 0, (), id="young, and not heard of yet"),
        pytest.param(facts(run(age_s=5), heard_before="a"), True, 1, (), id="young, but it was heard of before: dead"),
        pytest.param(facts(run()), True, 1, (), id="zombie: ended and replaced"),
        pytest.param(facts(run("CANCELING")), True, 1, (), id="zombie that was being terminated"),
        pytest.param(facts(run(), run("QUEUED", 1, "b")), False, 1, (), id="zombie, but the next one is queued"),
        pytest.param(facts(run(), run(run_id="b"), lease="b"), False, 1, (), id="zombie beside one that is alive"),
        pytest.param(facts(lease="x"), False, 0, (), id="the live run of another Dagster"),
        pytest.param(facts(lease="x", lease_is_left=True), True, 0, (), id="the lease of one that was killed"),
        pytest.param(facts(run(), lease="x"), False, 1, (), id="zombie here, alive at another Dagster"),
        pytest.param(facts(run(), lease="a", missing=GAP), False, 0, GAP, id="old gap: healed"),
        pytest.param(facts(missing=GAP), True, 0, GAP, id="old gap and nothing runs: both"),
        pytest.param(facts(run(), lease="a", missing=GAP, heal_runs=True), False, 0, (), id="healing already"),
        pytest.param(facts(run(), lease="a", missing=GAP, healed_s_ago=HEAL_EVERY_S - 1), False, 0, (), id="not again"),
        pytest.param(facts(run(), lease="a", missing=GAP, healed_s_ago=HEAL_EVERY_S), False, 0, GAP, id="hourly"),
    ],
)  # fmt: skip
def test_what_a_tick_does(known, starts, ends, heals):
    decision = decide(known)
    assert (decision.start, len(decision.end), tuple(decision.heal)) == (starts, ends, heals)
    assert decision.why


def test_a_zombie_is_the_run_that_is_ended_and_no_other():
    dead, alive = run(run_id="dead"), run(run_id="alive")
    assert decide(facts(dead, alive, lease="alive")) == Decision(
        why=f"live run alive is STARTED for {OLD:.0f} s", end=[dead]
    )
