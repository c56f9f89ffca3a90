"""What is written about streams is what is sent: the file is made of the messages, and the messages fit the file."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import msgspec
import pytest
import yaml

from mdp.api.streams import messages
from mdp.api.streams.asyncapi import asyncapi_document
from mdp_tests.api.streams.scripted import BUFFERS, CLOSED, Scene, said
from mdp_tests.bus.test_live_asyncapi import _Plain

FILE = Path(__file__).parents[3] / "docs" / "streams-asyncapi.yaml"
AT = "2024-12-30T10:15:00Z"


def test_the_file_is_made_of_the_messages():
    made = asyncapi_document()
    if os.environ.get("WRITE_SNAPSHOT"):
        head = "# Made by `make golden` of mdp/api/streams/messages.py; do not edit.\n"
        FILE.write_text(
            head + yaml.dump(made, Dumper=_Plain, sort_keys=False, width=120, allow_unicode=True), encoding="utf-8"
        )
    assert yaml.load(FILE.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) == made, "run `make golden`"


def test_every_reference_leads_somewhere():
    document = asyncapi_document()
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        found = document
        for part in reference.split("/"):
            found = found[part]


def everything(scene):
    """Return one message of each kind as it is sent."""
    mailbox = scene.listen()
    found = said(mailbox)
    scene.change(3, 1.0)
    scene.change(3, 2.0, CLOSED)
    scene.age()
    found += said(mailbox) + said(scene.listen(BUFFERS))
    scene.come_back()
    found += said(mailbox)
    others = (
        messages.Subscribed(["a"], 15.0, ["a"], ["a"], 7), messages.Unsubscribed(["a"]), messages.Pong(AT, "x"),
        messages.Refused("no", "a", ["b"]), messages.Heartbeat(AT), messages.Closing("the end"),
        messages.Feed("feeds.binance", "binance", msgspec.Raw(b'{"pid":1}')),
        messages.Generation("generation.x", "x", "running", "binance", "BTC-USDT", AT, AT, 3, 1, "", AT),
    )  # fmt: skip
    return found + [json.loads(messages.encode(one)) for one in others]


@pytest.mark.slow  # importing the validator takes longer than everything it validates
def test_what_is_really_sent_fits_the_file(tmp_path):
    from jsonschema import Draft202012Validator, ValidationError

    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    names = {kind.__struct_config__.tag: kind.__name__ for kind in messages.SAID}
    found = everything(Scene(tmp_path).begin())
    assert {one["type"] for one in found} == set(names)
    for one in found:
        schema = {"$ref": f"#/components/schemas/{names[one['type']]}", "components": document["components"]}
        Draft202012Validator(schema).validate(one)
    with pytest.raises(ValidationError):
        Draft202012Validator(schema).validate({"type": "generation"})
    ask = {"$ref": "#/components/schemas/Ask", "components": document["components"]}
    Draft202012Validator(ask).validate({"op": "subscribe", "topics": ["a"], "since": {"a": 7}, "id": 1})
