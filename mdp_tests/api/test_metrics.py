"""What Prometheus is told is what happened, and it can read it."""

from __future__ import annotations

import math
import os

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mdp.api.measures import BOUNDS_S, Measures
from mdp.api.metrics import exposition, registry_of
from mdp.api.mirror import Mirror
from mdp.config.settings import load_settings
from mdp_tests.api.live_service import grown_stale, live_buffer
from mdp_tests.support.builders import MARKET


@pytest.fixture
def mirror(tmp_path):
    return Mirror(load_settings(data_dir=tmp_path, simulated=True), None)


def told(measures, mirror):
    """Every sample, by name and labels."""
    text = exposition(registry_of(measures, mirror, "1.2")).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_request_is_counted_by_route_and_status_in_the_class_of_its_duration(mirror):
    measures = Measures()
    for seconds in (0.0001, BOUNDS_S[0], 0.3, 60.0):
        measures.count("GET", "/x/{y}", 200, seconds)
    measures.count("GET", "/x/{y}", 404, 0.002)
    found = told(measures, mirror)

    def of(name, status, **more):
        labels = {"method": "GET", "route": "/x/{y}", "status": status, **more}
        return found["mdp_http_request_duration_seconds" + name, *sorted(labels.items())]

    assert (of("_count", "200"), of("_count", "404")) == (4, 1)
    assert of("_sum", "200") == pytest.approx(60.3006)
    # a class holds its upper bound itself, as Prometheus has it
    assert [of("_bucket", "200", le=le) for le in ("0.0005", "0.25", "0.5", "10.0", "+Inf")] == [2, 2, 3, 3, 4]


def test_the_buffers_and_the_bus_are_told(mirror):
    assert math.isnan(told(Measures(), mirror)["mdp_buffers_heard_seconds",])
    buffer = live_buffer()
    mirror.places[MARKET, buffer.timeframe].buffer = buffer
    found = told(Measures(), mirror)
    assert (found["mdp_buffers",], found["mdp_buffers_stale",], found["mdp_bus_connected",]) == (1, 0, 0)
    mirror.places[MARKET, buffer.timeframe].buffer = grown_stale(buffer)
    assert told(Measures(), mirror)["mdp_buffers_stale",] == 1


def test_streams_are_told_and_which_worker_speaks(mirror):
    measures = Measures(streams_open=3, streams_opened=9, streams_cut=2, messages_sent=70, messages_conflated=5)
    found = told(measures, mirror)
    names = ("streams_open", "streams_opened_total", "streams_cut_total", "stream_messages_sent_total")
    assert [found[f"mdp_{name}",] for name in names] == [3, 9, 2, 70]
    assert found["mdp_service_info", ("version", "1.2"), ("worker", str(os.getpid()))] == 1
    assert any(key[0] == "process_resident_memory_bytes" for key in found)


def test_the_route_says_it_as_prometheus_reads_it_and_counts_by_template(client):
    client.get("/api/v1/market-data/binance/BTC-USDT/buffer/2m")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    routes = {sample.labels["route"] for sample in families["mdp_http_request_duration_seconds"].samples}
    assert "/api/v1/market-data/{exchange}/{symbol}/buffer/{timeframe}" in routes
    assert not any("2m" in route for route in routes)


def test_addresses_that_name_no_route_do_not_grow_what_is_counted(client):
    before = len(client.app.state.surroundings.measures.requests)
    for number in range(3):
        client.get(f"/nowhere/{number}")
        client.request(f"MADE{'X' * number}", "/healthz")
    assert len(client.app.state.surroundings.measures.requests) - before <= 3


def test_without_the_bus_the_route_answers_and_says_so(client):
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert "\nmdp_bus_up 0.0\n" in answer.text
    assert "mdp_build_info{" in answer.text
