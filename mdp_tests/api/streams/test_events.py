"""Server-sent events are what the standard says, and who comes back hears what changed since."""

from __future__ import annotations

import asyncio
import json

import pytest

from mdp.api.streams.events import EventStream
from mdp_tests.api.streams.scripted import BUFFERS, CANDLES, CLOSED, Believer, Scene


class Reader:
    """A browser: reads events, remembers the last id, leaves when told to."""

    def __init__(self):
        self.start = None
        self.body = b""
        self.is_over = False
        self.left = asyncio.Event()

    async def receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message["body"]
            self.is_over = not message["more_body"]
        await asyncio.sleep(0)

    @property
    def events(self):
        found = []
        for block in self.body.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if "data" in fields:
                found.append((fields["event"], json.loads(fields["data"]), fields.get("id")))
        return found

    @property
    def last_id(self):
        return [given for _, _, given in self.events if given][-1]

    async def until(self, kind, count=1):
        async with asyncio.timeout(10):
            while [one for one, _, _ in self.events].count(kind) < count:
                await asyncio.sleep(0.001)


async def read(scene, script, *, last_id=None, topics=(CANDLES,)):
    """Read events while a script runs."""
    hub, reader = scene.hub, Reader()
    found = {name: scene.topic(name) for name in topics}
    number = hub.number_of(last_id or "")
    resumed = {name: topic.since_number(number) for name, topic in found.items()} if number is not None else {}
    resumed = {name: one for name, one in resumed.items() if one is not None}
    stream = EventStream(hub, found, resumed, has_generations=False)
    task = asyncio.create_task(stream({"type": "http"}, reader.receive, reader.send))
    await script(reader)
    reader.left.set()
    await asyncio.wait_for(task, 10)
    assert scene.measures.streams_open == 0
    return reader


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path, heartbeat_s=0.2).begin()


def test_events_have_type_data_and_id_and_the_headers_that_keep_them_flowing(scene):
    async def script(reader):
        await reader.until("snapshot")
        scene.change(3, 7.0)
        await reader.until("candle")

    reader = asyncio.run(read(scene, script))
    headers = dict(reader.start["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert headers[b"cache-control"] == b"no-store"
    assert reader.body.startswith(b"retry: 2000\n\n")
    assert [kind for kind, _, _ in reader.events][:3] == ["subscribed", "snapshot", "candle"]
    for kind, said, _ in reader.events:
        assert said["type"] == kind
    assert reader.last_id == scene.hub.mark


def test_who_comes_back_hears_only_what_changed_since_and_can_prove_it(scene):
    believer = Believer()

    async def first(reader):
        await reader.until("snapshot")
        scene.change(3, 7.0)
        await reader.until("candle")

    async def again(reader):
        await reader.until("candle", 2)

    before = asyncio.run(read(scene, first))
    for close, state in ((8.0, CLOSED), (9.0, CLOSED)):
        scene.change(3, close, state)
    scene.change(4, 1.0)
    after = asyncio.run(read(scene, again, last_id=before.last_id))
    assert after.events[0][1]["resumed"] == [CANDLES]
    told = [said for _, said, _ in before.events + after.events if said["type"] in ("snapshot", "candle")]
    assert [(one["type"], one["seq"]) for one in told] == [
        ("snapshot", 10), ("candle", 11), ("candle", 13), ("candle", 14),
    ]  # fmt: skip
    for one in told:
        believer.believe(one)
    assert believer.seq == scene.buffer.seq


@pytest.mark.parametrize(
    "last_id", ["", "nonsense", "0123456789ab-5", "{name}-99999", "{name}--1", "{name}-²", "{name}-"]
)
def test_an_id_of_another_process_or_none_at_all_begins_with_snapshots(scene, last_id):
    async def script(reader):
        await reader.until("snapshot")

    name = scene.hub.mark.partition("-")[0]
    reader = asyncio.run(read(scene, script, last_id=last_id.format(name=name)))
    assert [kind for kind, _, _ in reader.events][:2] == ["subscribed", "snapshot"]


def test_an_id_of_before_lost_changes_gets_the_whole_of_that_topic_alone(scene):
    scene.change(3, 1.0)
    mark = scene.hub.mark
    scene.lose((3, 2.0, CLOSED), (4, 2.0))

    async def script(reader):
        await reader.until("buffer")
        await reader.until("snapshot")

    reader = asyncio.run(read(scene, script, last_id=mark, topics=(CANDLES, BUFFERS)))
    assert "resumed" not in reader.events[0][1]


@pytest.mark.slow
def test_silence_is_broken_by_a_heartbeat_that_moves_the_id_on(scene):
    async def script(reader):
        await reader.until("snapshot")
        await reader.until("heartbeat", 2)

    reader = asyncio.run(read(scene, script))
    assert reader.events[-1][2] == scene.hub.mark


def test_the_end_is_told_and_ends_the_answer(scene):
    async def run():
        reader = Reader()
        stream = EventStream(scene.hub, {CANDLES: scene.topic()}, {}, has_generations=False)
        task = asyncio.create_task(stream({"type": "http"}, reader.receive, reader.send))
        await reader.until("snapshot")
        scene.closing.set()
        await asyncio.wait_for(task, 10)
        return reader

    reader = asyncio.run(run())
    assert reader.events[-1][0] == "closing"
    assert reader.is_over


@pytest.mark.slow
def test_who_does_not_read_is_cut_off_and_holds_nobody_up(tmp_path):
    scene = Scene(tmp_path, heartbeat_s=0.2, slow_client_s=1).begin()

    class Stuck(Reader):
        async def send(self, message):
            await super().send(message)
            if b"snapshot" in message.get("body", b""):
                await asyncio.Event().wait()

    async def run():
        stuck, other = Stuck(), Reader()
        topics = {CANDLES: scene.topic()}
        tasks = [
            asyncio.create_task(
                EventStream(scene.hub, topics, {}, has_generations=False)({"type": "http"}, one.receive, one.send)
            )
            for one in (stuck, other)
        ]
        await other.until("snapshot")
        for number in range(3, 200):
            scene.change(number, 1.0, CLOSED)
            await other.until("candle", number - 2)
        await asyncio.wait_for(tasks[0], 10)
        assert not tasks[1].done()
        other.left.set()
        await tasks[1]
        return stuck

    stuck = asyncio.run(run())
    assert [kind for kind, _, _ in stuck.events] == ["subscribed", "snapshot"]
    assert scene.measures.streams_cut == 1


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "topic"), ("topic=", "topic"), ("topic=nothing", "topic"), ("topic=generation.../x", "topic"),
        ("topic=feeds.binance&x=1", "x"), ("topic=feeds.binance&since=a&since=b", "since"),
        ("&".join(["topic=feeds.binance"] * 201), "topic"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(client, query, names):
    refused = client.get(f"/api/v1/stream/events?{query}")
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["parameter"] == names
