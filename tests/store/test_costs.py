"""What a step costs: measured while it runs, kept in its mark, shown as a table."""

import json
import time

import pytest

from align_utils.store import steps


def test_a_step_remembers_its_time_its_highest_memory_and_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "INTERVAL", 0.01)
    with steps.measure_cost() as idle:
        pass
    with steps.make_step(tmp_path / "step", {"a": 1}) as work:
        held = bytearray(300_000_000)
        held[::4096] = b"x" * len(held[::4096])  # every page is used
        time.sleep(0.1)
        del held
        (work / steps.NOTE).write_text("went on from step 3")
    cost = json.loads((tmp_path / "step" / "step.json").read_text())["cost"]
    assert cost["memory_gb"] - idle["memory_gb"] == pytest.approx(0.3, abs=0.05), "freed before the end, yet seen"
    assert 0.1 <= cost["seconds"] < 5 and cost["note"] == "went on from step 3"
    assert [path.name for path in (tmp_path / "step").iterdir()] == ["step.json"]


def test_clocks_change_no_hash(tmp_path):
    for name, seconds in (("one", "1.0"), ("two", "2.0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("same")
        (tmp_path / name / "step.json").write_text(seconds)
        (tmp_path / name / "times.csv").write_text(seconds)
    assert steps.hash_file(tmp_path / "one") == steps.hash_file(tmp_path / "two")
    (tmp_path / "two" / "weights").write_text("other")
    assert steps.hash_file(tmp_path / "one") != steps.hash_file(tmp_path / "two")
