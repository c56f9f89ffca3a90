"""Frames and events are what the standards say, whatever their length."""

from __future__ import annotations

import json

import pytest
from websockets.frames import Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from mdp.api.streams.messages import Heartbeat, Message, Refused


def text_of(size):
    return json.dumps({"type": "error", "detail": "x" * (size - 31)}).encode()


@pytest.mark.parametrize("size", [40, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_frame_is_read_as_the_text_it_holds(size):
    text = text_of(size)
    assert len(text) == size
    reader = Protocol(CLIENT, state=OPEN)
    reader.receive_data(Message(text).frame * 2)
    frames = reader.events_received()
    assert [(frame.opcode, frame.fin, bytes(frame.data)) for frame in frames] == [(Opcode.TEXT, True, text)] * 2


def test_an_event_names_its_type_and_holds_its_json_on_one_line():
    message = Message.of(Refused("line\nbreak\r and \u2028"))
    name, data, end = message.event.split(b"\n")
    assert (name, end) == (b"event: error-message", b"")
    assert json.loads(data.removeprefix(b"data: ")) == {"type": "error", "detail": "line\nbreak\r and \u2028"}
    assert Message.of(Heartbeat("2024-12-30T10:15:00Z")).event.startswith(b"event: heartbeat\n")


def test_what_was_skipped_is_added_for_one_client_alone():
    message = Message(b'{"type":"candle","seq":7}')
    assert json.loads(message.after_skipped(3).text) == {"type": "candle", "seq": 7, "skipped": 3}
    assert message.after_skipped(0) is message
    assert message.text == b'{"type":"candle","seq":7}'
