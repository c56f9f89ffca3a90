"""What is written about the topics is what is told: the file is made of the messages, and the messages fit the file."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import msgspec
import pytest
import yaml

from mdp.bus import open_live_reader
from mdp.bus.address import socket_path
from mdp.bus.asyncapi import asyncapi_document
from mdp.bus.topics import GenerationMessage
from mdp.config.settings import load_settings
from mdp.domain.live import CandleState, Change
from mdp.domain.timeframe import Timeframe
from mdp_tests.bus.live_candles import BTC, DVOL, candle


class _Plain(yaml.SafeDumper):
    """Without anchors, and with paragraphs as they are."""

    def ignore_aliases(self, data):
        return True


_Plain.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)

FILE = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


def test_the_file_is_made_of_the_messages():
    made = asyncapi_document()
    if os.environ.get("WRITE_SNAPSHOT"):
        head = "# Made by `make golden` of mdp/bus/topics.py; do not edit.\n"
        FILE.write_text(
            head + yaml.dump(made, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True), encoding="utf-8"
        )
    assert yaml.load(FILE.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) == made, "run `make golden`"


def test_every_reference_leads_somewhere_and_every_parameter_is_in_its_address():
    document = asyncapi_document()
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        found = document
        for part in reference.split("/"):
            found = found[part]
    for channel in document["channels"].values():
        assert re.findall(r"\{(\w+)\}", channel["address"]) == list(channel["parameters"])


async def published(bus_dir):
    """Return what a subscriber hears of everything that can be told."""
    settings = load_settings(data_dir=bus_dir, env="staging", bus={"url": f"unix://{socket_path(bus_dir)}"})
    async with open_live_reader(settings) as bus:
        hearing = bus.subscribe("*")
        await hearing.ready()
        for state in CandleState:
            changes = [Change(timeframe, candle(0, state, timeframe=timeframe)) for timeframe in Timeframe]
            await bus.publish(BTC, changes)
            await bus.publish(DVOL, [Change(Timeframe.M1, candle(0, state, volume=None, trades=None))])
        await bus.rewrite(BTC, {Timeframe.M1: [candle()], Timeframe.H1: []})
        return [await anext(hearing) for _ in range(4 * 7 + 3 * 7 + 2)]


def schema_of(document, topic):
    for channel in document["channels"].values():
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", r"[^.]+", re.escape(channel["address"])), topic):
            (name,) = channel["messages"]
            return {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    raise AssertionError(f"{topic} is not in the file")


@pytest.mark.slow  # importing the validator takes longer than everything it validates
def test_what_is_really_published_fits_the_file(bus_dir):
    from jsonschema import Draft202012Validator, ValidationError

    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    heard = asyncio.run(published(bus_dir))
    for message in heard:
        Draft202012Validator(schema_of(document, message.topic)).validate(json.loads(message.body))
    assert {message.topic.partition(".")[0] for message in heard} == {"candles", "buffers"}
    wrong = json.loads(heard[0].body) | {"open_time": "2024-12-30T10:15:00Z"}
    with pytest.raises(ValidationError):
        Draft202012Validator(schema_of(document, heard[0].topic)).validate(wrong)
    time = "2024-12-30T10:15:00.000000Z"
    job = GenerationMessage("j1", "running", "binance", "BTC-USDT", time, time, 3, 1, "", time)
    Draft202012Validator(schema_of(document, "generation.j1")).validate(json.loads(msgspec.json.encode(job)))
