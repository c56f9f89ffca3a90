"""Faults and scenarios as a person writes them: what is wrong is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mdp.errors import InputError
from mdp.simulator.fault_kinds import KINDS
from mdp.simulator.scenarios import CARRIED_SCENARIOS, load_scenario
from mdp.simulator.script import FaultScript


class TestReading:
    @pytest.mark.parametrize(
        ("fields", "field", "words"),
        [
            ({"kind": "flood"}, "kind", "one of archive_checksum"),
            ({"kind": "status", "exchange": "binance"}, "status", "it is required"),
            ({"kind": "status", "exchange": "kraken", "status": 503}, "exchange", "one of binance, bybit"),
            ({"kind": "status", "exchange": "okx", "status": 200}, "status", ">= 400"),
            ({"kind": "status", "exchange": "okx", "status": 503, "codes": 1}, "codes", "the name of a field"),
            ({"kind": "code", "exchange": "okx", "code": -1003}, "code", "one of okx's 50001"),
            ({"kind": "hang", "exchange": "okx", "seconds": "long"}, "seconds", "float"),
            ({"kind": "hang", "exchange": "okx", "symbol": "DOGE-USDT"}, "symbol", "BTC-USDT"),
            ({"kind": "hang", "exchange": "okx", "after_s": 5, "until_s": 5}, "until_s", "more than after_s, 5"),
            ({"kind": "flat", "exchange": "okx", "start": "2024-01-01", "end": "2024-01-01"}, "end", "after start"),
            ({"kind": "flat", "exchange": "okx", "start": "2024-01-01T00:00", "end": 5}, "start", "with its offset"),
            ({"kind": "flat", "exchange": "okx", "start": datetime(2024, 1, 1), "end": 5}, "start", "timezone"),  # noqa: DTZ001
        ],
    )
    def test_a_wrong_field_is_refused_by_name(self, fields, field, words):
        script = FaultScript()
        with pytest.raises(InputError, match=f"^{field}: expected .*{words}"):
            script.add(**fields)
        assert script.entries == ()

    @pytest.mark.parametrize("path", sorted(CARRIED_SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
    def test_every_carried_scenario_is_sound(self, path):
        scenario = load_scenario(path.stem)
        assert scenario.description
        assert scenario.faults

    def test_between_them_the_carried_scenarios_hold_every_kind(self):
        scenarios = [load_scenario(path.stem) for path in CARRIED_SCENARIOS.glob("*.toml")]
        kinds = {fault.__struct_config__.tag for scenario in scenarios for fault in scenario.faults}
        assert set(KINDS) == kinds

    def test_a_day_that_begins_when_the_simulator_does_moves_all_its_times(self, tmp_path):
        path = tmp_path / "day.toml"
        path.write_text(
            'begins = 2025-01-01T00:00:00Z\n[[faults]]\nkind = "outage"\nexchange = "okx"\n'
            "start = 2025-01-01T01:00:00Z\nend = 2025-01-01T02:00:00Z\nfrom_time = 2025-01-01T00:30:00Z\n"
            '[[faults]]\nkind = "reset"\nexchange = "okx"\n'
        )
        outage, reset = load_scenario(str(path)).faults_at(datetime(2026, 7, 3, 10, 20, 59, tzinfo=UTC))
        assert (outage.start, outage.end) == (
            datetime(2026, 7, 3, 11, 20, tzinfo=UTC),
            datetime(2026, 7, 3, 12, 20, tzinfo=UTC),
        )
        assert outage.from_time == datetime(2026, 7, 3, 10, 50, tzinfo=UTC)
        assert (outage.until_time, reset.from_time) == (None, None)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("begins = 2025-01-01T00:00:00", r"scenario\.toml: begins: expected a time with its offset"),
            ("faults = 5", "scenario.toml: faults: expected a list"),
            ("fault = []", "scenario.toml: fault: expected one of"),
            ('[[faults]]\nkind = "reset"', r"faults\[0\]\.exchange: expected a value"),
            ("[lines.kraken]\nlatency_ms = 5", r"lines\.kraken: expected one of binance"),
            ("[lines.all]\nlatency = 5", r"lines\.all\.latency: expected the name of a field"),
            ("[[faults", "expected a readable TOML file"),
        ],
    )
    def test_a_wrong_scenario_names_the_place(self, tmp_path, text, words):
        path = tmp_path / "scenario.toml"
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            load_scenario(str(path))
