"""Never lose a run: killed at any point and started again, the training ends in the same bytes as one that was let be."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, copy_project, prepare
from killed import ADAPTER, PPO, SFT, start, train

from align_utils import config
from align_utils.models.adapters import find_adapter

STEPS, UPDATES = 6, 2
# Steps of the optimiser after the second start: those since the last sealed checkpoint (there is one every two steps).
LEFT = {"in the first step": 6, "while an old checkpoint is deleted": 2, "before the adapter is saved": 0, "half the adapter": 0,
        "before the step is in place": 0, "after the step is in place": 0}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A smoke profile with dropout and three checkpoints, and what it gives when nothing happens: bytes of adapter and log."""
    # Read by the server that forks the processes, when it starts.
    os.environ["OMP_NUM_THREADS"] = "1"
    root = copy_project(tmp_path_factory.mktemp("keep"))
    path = root / "notebooks" / "settings" / "profiles" / "smoke.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["lora"]["dropout"], settings["cultures"] = 0.1, ["us", "cn"]
    settings["sft"] = {**settings["sft"], "steps": STEPS, "eval_every": 2, "batch": 4, "device_batch": 2}
    path.write_text(yaml.safe_dump(settings))
    cfg = config.load("smoke", root=root)
    prepare(cfg)
    assert start(train, root, ["sft", "ppo"], None, root / "whole") == 0, (root / "whole.txt").read_text()[-2000:]
    expected = {stage: read(cfg, stage) for stage in ("sft", "ppo")}
    shutil.copytree(cfg.runs / "adapters", root / "kept")
    return cfg, expected


def read(cfg, stage):
    folder = find_adapter(cfg, "tiny", "us", stage)
    return [(folder / name).read_bytes() for name in (ADAPTER, "log.csv")]


def count(journal: Path) -> int:
    return len(journal.read_text().splitlines()) if journal.exists() else 0


def is_finished(cfg, stage) -> bool:
    return (find_adapter(cfg, "tiny", "us", stage) / "step.json").exists()


@pytest.mark.parametrize("point", SFT)
def test_sft_goes_on_from_its_checkpoint_to_the_same_bytes(project, tmp_path, point):
    cfg, expected = project
    shutil.rmtree(cfg.runs / "adapters")
    assert start(train, cfg.root, ["sft"], point, tmp_path / "first") == -9, (tmp_path / "first.txt").read_text()[-2000:]
    assert is_finished(cfg, "sft") == (point == "after the step is in place")
    assert start(train, cfg.root, ["sft"], None, tmp_path / "again") == 0, (tmp_path / "again.txt").read_text()[-2000:]
    assert count(tmp_path / "again") == LEFT.get(point, 4)
    assert read(cfg, "sft") == expected["sft"]


@pytest.mark.parametrize("point", PPO)
def test_ppo_is_redone_from_the_sft_adapter_to_the_same_bytes(project, tmp_path, point):
    cfg, expected = project
    shutil.rmtree(cfg.runs / "adapters")
    sft = find_adapter(cfg, "tiny", "us", "sft")
    shutil.copytree(cfg.root / "kept" / sft.relative_to(cfg.runs / "adapters"), sft)
    assert start(train, cfg.root, ["sft", "ppo"], point, tmp_path / "first") == -9, (tmp_path / "first.txt").read_text()[-2000:]
    assert is_finished(cfg, "sft") and not is_finished(cfg, "ppo")
    assert start(train, cfg.root, ["sft", "ppo"], None, tmp_path / "again") == 0, (tmp_path / "again.txt").read_text()[-2000:]
    assert count(tmp_path / "again") == UPDATES * cfg.profile.ppo.epochs, "every update, and no step of SFT"
    assert read(cfg, "sft") == expected["sft"] and read(cfg, "ppo") == expected["ppo"]


def test_killed_at_a_random_step_it_goes_on_from_the_command_line(project, tmp_path):
    cfg, expected = project
    shutil.rmtree(cfg.runs / "adapters")
    number = random.Random(cfg.profile.seed).randint(2, STEPS)
    assert start(train, cfg.root, ["sft"], f"in step {number}", tmp_path / "first") == -9
    environment = {**os.environ, "ALIGN_ROOT": str(cfg.root), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "align_utils.training",
        *["--profile", "smoke", "--culture", "us", "--stage", "sft", "--stage", "ppo"],
    ]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert read(cfg, "sft") == expected["sft"] and read(cfg, "ppo") == expected["ppo"]


def test_a_full_disk_is_one_clear_error_and_the_last_checkpoint_is_kept(project, tmp_path):
    cfg, expected = project
    shutil.rmtree(cfg.runs / "adapters")
    assert start(train, cfg.root, ["sft"], "no room", tmp_path / "first") == 1
    # The progress bar is flushed after the error.
    said = [
        line for line in (tmp_path / "first.txt").read_text().splitlines() if "TrainingError: step tiny/us/sft/seed-" in line
    ]
    assert len(said) == 1 and "is full, or a quota or limit on file sizes" in said[0]
    assert not is_finished(cfg, "sft")
    assert start(train, cfg.root, ["sft"], None, tmp_path / "again") == 0
    assert count(tmp_path / "again") == 4 and read(cfg, "sft") == expected["sft"]
