"""The commands: help lists them, and one rule orders the notebooks and runs only what is stale."""

import os
import re
import shutil
import subprocess

from conftest import ROOT, copy_project


def make(root, *arguments):
    environment = {**os.environ, "ALIGN_DATA": "data/raw"}
    done = subprocess.run(
        ["make", *arguments, "USE_ENV=1"], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def project(tmp_path):
    root = copy_project(tmp_path)
    shutil.copytree(ROOT / "align_utils", root / "align_utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", root)
    return root


def planned(output):
    return re.findall(r"align_utils\.runner (\d\d)_", output)


def test_help_lists_every_command(tmp_path):
    text = make(project(tmp_path))
    for command in ("reproduce", "smoke", "test", "lint", "publish", "clean", "PROFILE=cpu_real", "USE_ENV=1"):
        assert command in text


def test_one_notebook_brings_what_it_needs_in_order(tmp_path):
    root = project(tmp_path)
    assert planned(make(root, "-n", "04", "PROFILE=smoke")) == ["01", "02", "03", "04"]
    assert planned(make(root, "-n", "reproduce", "PROFILE=smoke")) == ["01", "02", "03", "04", "05", "06"]


def test_only_what_is_stale_runs_again(tmp_path):
    root = project(tmp_path)
    done = root / "runs" / "smoke" / "done"
    done.mkdir(parents=True)
    (done / "data-folder").write_text("data/raw\n")
    for path in sorted((root / "notebooks").glob("0*.ipynb")):
        (done / path.stem).touch()
    assert planned(make(root, "-n", "reproduce", "PROFILE=smoke")) == []
    os.utime(root / "notebooks" / "05_wvs_survey.ipynb", (2**31, 2**31))
    assert planned(make(root, "-n", "reproduce", "PROFILE=smoke")) == ["05", "06"]
    os.utime(root / "align_utils" / "norms.py", (2**31, 2**31))
    assert planned(make(root, "-n", "reproduce", "PROFILE=smoke")) == ["01", "02", "03", "04", "05", "06"]
