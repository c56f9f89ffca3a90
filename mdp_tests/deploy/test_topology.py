"""The whole deployment of ``deploy/compose.yaml`` at work: nothing is lost, whichever of its services is killed.

Backfills asked for by the service and by the page go on beside live trading, while each process is killed once and
started again as the file says. In the end every day and every minute equals what the simulator says was true.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from mdp.domain.interval import Interval
from mdp.domain.live import Buffer
from mdp.domain.market import Market
from mdp.domain.timeframe import Timeframe
from mdp.ports.live import LiveBus
from mdp.storage import open_store
from mdp_tests.deploy.topology import Deployment, deployed
from mdp_tests.deploy.topology_compose import interpolated
from mdp_tests.deploy.topology_course import LAYERS, Course, Listener
from mdp_tests.soak import verdict

SPOT = ("binance:BTC-USDT", "bybit:SOL-USDT", "okx:ETH-USDT")
INDEX = "deribit:BTC-DVOL"
FEEDS = {"feed-binance": SPOT[0], "feed-bybit": SPOT[1], "feed-okx": SPOT[2], "feed-deribit": INDEX}
SERVICES = ("code", "daemon", "webserver", *FEEDS, "api")
NOW, SPEED = datetime(2025, 3, 4, 10, 30, tzinfo=UTC), 10.0
FIRST, DAYS = date(2025, 2, 3), 12
PERSIST_S = 2.0
COMPARED = timedelta(minutes=20)
UNSURE = timedelta(minutes=2)
"""An exchange may say something else of a minute for 10 s of its time; REST is asked then."""


def test_variables_of_the_file_are_replaced_as_compose_does():
    assert interpolated("${A:-x}/${B}/${A:-}", {"B": "b"}) == "x/b/"
    with pytest.raises(KeyError, match="C: say it"):
        interpolated("${C:?say it}", {})


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_each_service_is_killed_once_and_nothing_is_lost(tmp_path):
    more = {
        "MDP_MARKETS": json.dumps([*SPOT, INDEX]), "MDP_LIVE__PERSIST_EVERY_S": f"{PERSIST_S:g}",
        **{f"MDP_EXCHANGES__{name}__ARCHIVES": "false" for name in ("BINANCE", "BYBIT", "OKX")},
    }  # fmt: skip
    deployment = Deployment(tmp_path / "deployed", more=more, simulated_from=NOW.timestamp(), speed=SPEED)
    with deployed(deployment) as took:
        course = Course(deployment, (*SPOT, INDEX))
        _bring_up(course)
        listener = Listener(deployment.url("api"))
        listener.start()
        since = _begin(course)
        _kill_each(course)
        _wait_until_all_is_done(course)
        course.wait("live minutes to compare", lambda: deployment.simulated_now > (since + COMPARED).timestamp())
        listener.is_over.set()
        problems = [*_days_differ(course), *_live_differs(course, since), *_runs_differ(course)]
        heard = {topic: len(closed) for topic, closed in listener.closes.items()}
        print(f"heard to close: {heard}, cut off {listener.cut_off} times")
        ended = {name: one.ended for name, one in deployment.running.items() if one.ended}
        print(f"ended by themselves: {ended}")
        assert not problems, "\n".join(problems)
        assert set(listener.closes) == {f"candles.{market.replace(':', '.')}.1m" for market in (*SPOT, INDEX)}
    print(f"asked to end: { {name: round(seconds, 1) for name, seconds in took.items()} }")
    # a code server waits for its runs, and the live run has no end of its own: being killed is what it stands best
    assert {name for name, seconds in took.items() if seconds == float("inf")} <= {"code"}, took


def _bring_up(course: Course) -> None:
    """Start everything as the file orders it: what is needed first, the initialization, then all at once."""
    deployment = course.deployment
    deployment.start("postgres", "valkey", "simulator")
    deployment.run("init")
    deployment.start(*SERVICES)
    _, took_s = course.wait("the page", course.location_is_loaded)
    print(f"the page shows the definitions after {took_s:.1f} s")
    course.wait("the service", lambda: course.get("api", "/healthz").status_code == 200)
    assert {*LAYERS, "live_buffers"} <= course.assets()
    page = course.get("webserver", "/")
    assert page.status_code == 200
    assert "<html" in page.text


def _begin(course: Course) -> datetime:
    """Have days collected by the service and by the page, and turn live on; return since when live must be whole."""
    course.turn_on()
    course.collect_by_service(SPOT[0], FIRST, DAYS)
    course.collect_by_page(SPOT, FIRST + timedelta(days=DAYS), 3)
    _, took_s = course.wait("two runs at once", lambda: len(course.at_work()) == 2)
    print(f"two runs of backfills are at work after {took_s:.1f} s")
    course.wait("buffers", lambda: course.get("api", "/readyz").status_code == 200)
    _, took_s = course.wait("the live run", lambda: course.lease("live"))
    print(f"the live run holds its lease after {took_s:.1f} s")
    for service, market in FEEDS.items():
        course.wait(f"{service} holds its lease", lambda market=market: course.lease(_feed_of(market)))
        holder = course.lease(_feed_of(market))
        assert holder is not None
        assert service in holder.partition(":")[0], f"{market}: {holder} is not the service {service}"
        path = f"/api/v1/market-data/{market.replace(':', '/')}/buffer/1m"
        course.wait(f"the buffer of {market}", lambda path=path: len(course.get("api", path).json()["rows"]) > 90)
    now = datetime.fromtimestamp(course.deployment.simulated_now, UTC)
    return Timeframe.M1.floor(now) + 2 * Timeframe.M1.duration


def _feed_of(market: str) -> str:
    return f"feed/{market.partition(':')[0]}"


def _kill_each(course: Course) -> None:
    """Kill one after the other while backfills and live are at work; each must be back before the next."""
    kills: list[tuple[str, Callable[[Course], Callable[[], object]]]] = [
        ("a run's worker", _kill_worker),
        ("daemon", _kill_daemon),
        ("webserver", lambda course: _kill(course, "webserver", course.location_is_loaded)),
        ("api", lambda course: _kill(course, "api", lambda: course.get("api", "/readyz").status_code == 200)),
        *((feed, lambda course, feed=feed: _kill_feed(course, feed)) for feed in FEEDS),
        ("valkey", _kill_valkey),
        ("postgres", lambda course: _kill(course, "postgres", course.runs)),
        ("simulator", _kill_simulator),
        ("code", _kill_code),
    ]
    for number, (name, kill) in enumerate(kills):
        _keep_at_work(course, number)
        is_back = kill(course)
        _, took_s = course.wait(f"{name} is back", is_back)
        print(f"killed {name}: back after {took_s:.1f} s", flush=True)


def _keep_at_work(course: Course, number: int) -> None:
    """See to it that a run of a backfill is at work; have further days collected where none is left."""
    if not any(run.place == "work" and not run.has_ended for run in course.runs()):
        first = FIRST - timedelta(days=(number + 1) * DAYS)
        course.collect_by_service(SPOT[number % 3], first, DAYS)
        course.collect_by_page([SPOT[(number + 1) % 3]], first, DAYS)
    course.wait("a run of a backfill is at work", course.at_work, 180)


def _kill(course: Course, name: str, is_back: Callable[[], object]) -> Callable[[], object]:
    course.deployment.kill(name)
    return is_back


def _kill_worker(course: Course) -> Callable[[], object]:
    def kill() -> str | None:
        for run in course.at_work():
            worker = course.worker_of(run)
            if worker is not None:
                worker.kill()
                return run.id
        return None

    killed, _ = course.wait("a worker to kill", kill)
    return lambda: [run for run in course.runs() if run.parent == killed]


def _kill_daemon(course: Course) -> Callable[[], object]:
    before = max(course.heartbeats().values())
    course.deployment.kill("daemon")
    return lambda: min(course.heartbeats().values()) > before


def _kill_feed(course: Course, feed: str) -> Callable[[], object]:
    market = FEEDS[feed]
    killed = course.lease(_feed_of(market))
    course.deployment.kill(feed)
    before = course.sequence(market)

    def is_back() -> bool:
        holder = course.lease(_feed_of(market))
        if holder in (None, killed) or course.sequence(market) <= before:
            return False
        assert feed in str(holder), f"{holder} is not the service {feed}"
        return True

    return is_back


def _kill_valkey(course: Course) -> Callable[[], object]:
    before = {market: course.sequence(market) for market in FEEDS.values()}
    course.deployment.kill("valkey")
    return lambda: all(course.sequence(market) > before[market] for market in before)


def _kill_simulator(course: Course) -> Callable[[], object]:
    course.deployment.kill("simulator")
    before = {market: course.sequence(market) for market in FEEDS.values()}
    return lambda: all(course.sequence(market) > before[market] + 2 for market in before)


def _kill_code(course: Course) -> Callable[[], object]:
    """With it go all that execute runs, the live one too."""
    lost = [run.id for run in course.runs() if run.status == "STARTED"]
    live = course.lease("live")
    course.deployment.kill("code")
    assert lost

    def is_back() -> bool:
        ended = {run.id for run in course.runs() if run.has_ended}
        return set(lost) <= ended and course.lease("live") not in (None, live)

    return is_back


def _wait_until_all_is_done(course: Course) -> None:
    course.wait("all backfills end", lambda: not course.unfinished(), 240)
    for path in course.collections:
        told = course.get("api", path).json()
        assert told["state"] == "succeeded", told


def _days_differ(course: Course) -> list[str]:
    store, problems = open_store(course.settings), []
    for market, days in course.asked.items():
        for day in sorted(set(days)):
            window = Interval.of_days(day, day)
            truth = verdict.true_minutes(course.deployment.url("simulator"), Market.parse(market), window)
            problems += verdict.minutes_differ(store, Market.parse(market), window, truth)
            problems += verdict.longer_differ(store, Market.parse(market), window)
            if len(truth) != 1_440:
                problems.append(f"{market} {day}: the simulator knows {len(truth)} minutes")
    print(f"compared {sum(len(set(days)) for days in course.asked.values())} days of {len(course.asked)} markets")
    return problems


def _live_differs(course: Course, since: datetime) -> list[str]:
    """Compare live minutes and buffers with the truth, up to what is certain by now and had the time to be stored."""
    buffers = {market: _buffers_until_certain(course, market) for market in map(Market.parse, SPOT)}
    course.wait("what closed is stored", _is_stored(course, 3 * PERSIST_S))
    store, problems = open_store(course.settings), []
    for market, (end, kept) in buffers.items():
        window = Interval(since, end)
        truth = verdict.true_minutes(course.deployment.url("simulator"), market, window)
        problems += verdict.minutes_differ(store, market, window, truth)
        problems += verdict.longer_differ(store, market, window)
        for timeframe, buffer in kept.items():
            problems += verdict.buffer_differs(store, buffer, market, timeframe, verdict.first_whole(since, timeframe))
        print(f"{market}: compared {len(truth)} live minutes")
        if len(truth) < 10:
            problems.append(f"{market}: {len(truth)} live minutes show little")
    index = Market.parse(INDEX)
    end, kept = _buffers_until_certain(course, index)
    truth = verdict.true_minutes(course.deployment.url("simulator"), index, Interval(end - timedelta(hours=3), end))
    return [*problems, *verdict.index_differs(kept[Timeframe.M1], truth, index)]


def _is_stored(course: Course, after_s: float) -> Callable[[], bool]:
    until = time.monotonic() + after_s
    return lambda: time.monotonic() > until and course.bus(lambda bus: bus.backlog()).entries < len(FEEDS)


def _buffers_until_certain(course: Course, market: Market) -> tuple[datetime, dict[Timeframe, Buffer]]:
    """Return the buffers of a market without the last minutes, of which REST may still have something else to say."""

    async def read(bus: LiveBus) -> dict[Timeframe, Buffer]:
        found = {one: await bus.buffer(market, one) for one in Timeframe}
        return {one: buffer for one, buffer in found.items() if buffer is not None}

    buffers = course.bus(read)
    end = verdict.moment_of(buffers[Timeframe.M1].closed[-1].open_us) - UNSURE
    return end, {
        timeframe: replace(
            buffer,
            candles=tuple(one for one in buffer.closed if verdict.moment_of(one.open_us) + timeframe.duration <= end),
        )
        for timeframe, buffer in buffers.items()
    }


def _runs_differ(course: Course) -> list[str]:
    runs = course.runs()
    parents = {run.parent for run in runs}
    failed = [run for run in runs if run.place == "work" and run.status == "FAILURE" and run.id not in parents]
    left = [run for run in failed if not course.had_done_all(run)]
    live = [run for run in runs if run.job == "live_job" and not run.has_ended]
    print(f"{len(runs)} runs; {[run.status for run in runs]}")
    problems = [f"{run.job} {run.id} failed, and was not launched again" for run in left]
    return problems if len(live) == 1 else [*problems, f"{len(live)} live runs are at work"]
