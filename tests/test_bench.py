"""`make bench` itself: a race that fails is said and ends no other one."""

import json

import bench
import pytest

FOUND = {"seconds": 2.0, "mb": 100.4, "result": [0.5]}


def test_the_races_go_on_when_a_side_fails(tmp_path, monkeypatch, capsys):
    sides = {
        ("norms", "ours"): {"error": "ModelError: no such package"}, ("norms", "baseline"): FOUND,
        ("generation", "ours"): FOUND, ("generation", "baseline"): FOUND | {"seconds": 5.0, "mb": 300.0},
        ("ppo_update", "ours"): FOUND, ("ppo_update", "baseline"): FOUND | {"result": [0.6]},
    }  # fmt: skip
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "run_side", lambda race, side: sides[race, side])
    assert bench.main(["norms", "generation", "ppo_update"]) == 1
    rows = json.loads((tmp_path / "runs" / "bench.json").read_text())
    assert [(row["ratio"], row["ours_s"], row["baseline_s"], row["equal"]) for row in rows] == [
        (None, None, 2.0, None), (2.5, 2.0, 5.0, True), (1.0, 2.0, 2.0, False),
    ]  # fmt: skip
    shown = capsys.readouterr().out.splitlines()
    # Each row as its race finishes, and all once more at the end.
    for race, cells in (
        ("norms", "- - - - 2.0 - 100 - FAILED, ours: ModelError: no such package"),
        ("generation", "2.5 - - 2.0 5.0 100 300 yes transformers' generate, one cue at a time"),
        ("ppo_update", "1.0 - - 2.0 2.0 100 100 no trl's PPO"),
    ):
        assert len([line for line in shown if " ".join(line.split()).startswith(f"{race} {cells}")]) == 2, race
    assert shown[-1] == "failed: norms"
    assert bench.main(["generation"]) == 0
    kept = json.loads((tmp_path / "runs" / "bench.json").read_text())
    assert [row["race"] for row in kept] == ["norms", "generation", "ppo_update"] and kept[0]["failed"], (
        "one race leaves the others"
    )


@pytest.mark.parametrize(("seconds", "reached"), [(5.0, True), (3.0, False)])
def test_a_target_is_said_to_be_reached_or_not(monkeypatch, seconds, reached):
    sides = {"ours": FOUND | {"result": [[-60.0]]}, "baseline": FOUND | {"seconds": seconds, "result": [[-60.0002]]}}
    monkeypatch.setattr(bench, "run_side", lambda race, side: sides[side])
    row = bench.run_race("sft_step")
    assert (row["target"], row["reached"]) == (1.7, reached)
    assert row["equal"] is False and "largest difference 2.0e-04" in row["note"], "the tolerance is no share of the number"


def test_a_process_that_fails_says_why(monkeypatch):
    monkeypatch.setenv("ALIGN_BENCH_TRIALS", "many")
    assert bench.run_side("norms_trials", "ours")["error"].startswith("ValueError: invalid literal for int()")
    monkeypatch.setattr(bench.sys, "executable", "/bin/false")
    assert bench.run_side("norms_trials", "ours") == {"error": "ended with exit code 1 (-9: killed, as where memory runs out)"}


def test_help_explains_the_variables(capsys):
    with pytest.raises(SystemExit, match="0"):
        bench.main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"{name} (default {default}): {meaning}" in shown for name, (default, meaning) in bench.VARIABLES.items())
