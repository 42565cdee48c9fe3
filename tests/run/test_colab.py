"""The setup cell of the notebooks and what it calls, on Colab, on Kaggle and elsewhere."""

import os
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
import torch
from conftest import ROOT

from align_utils import config
from align_utils.run import colab

(SETUP,) = [
    cell.source for cell in nbformat.read(ROOT / "notebooks" / "01_norms.ipynb", 4).cells if "setup" in cell.metadata.get("tags", [])
]  # fmt: skip


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    for name in ("ALIGN_OUTPUT", "ALIGN_DATA", "ALIGN_REPOSITORY", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # what `setup` sets is taken back after the test


def test_the_cell_does_nothing_elsewhere():
    before = set(sys.modules)
    exec(SETUP, {})
    assert set(sys.modules) == before


def test_the_cell_says_what_to_set_while_unpublished(monkeypatch, tmp_path):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="ALIGN_REPOSITORY"):
        exec(SETUP, {})


def test_the_cell_may_be_run_again_after_a_restart_and_after_a_failure(tmp_path):
    """The machine stays, the session is new; pip and what `setup` asks of Colab are stand-ins."""
    project, content, tools = tmp_path / "project", tmp_path / "content", tmp_path / "tools"
    for path, text in {
        project / "constraints.txt": "torch==1\ntqdm==1\n",
        project / "notebooks/01.ipynb": "",
        project / "align_utils/__init__.py": "",
        project / "align_utils/run/__init__.py": "",
        project
        / "align_utils/run/colab.py": "import os\ndef setup():\n    print('set up')\n    os.environ['FAIL'] and exit(3)",
        tools / "pip": "#!/bin/sh\ngrep -c . pins\n",
        content / "cell.py": SETUP + "\nprint(os.getcwd())",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tools / "pip").chmod(0o755)
    git = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    environment = os.environ | {
        "COLAB_RELEASE_TAG": "x",
        "ALIGN_REPOSITORY": str(project),
        "PATH": f"{tools}:{os.environ['PATH']}",
    }
    for fail in ("yes", "", ""):
        run = [sys.executable, "-P", "cell.py"]
        done = subprocess.run(run, cwd=content, env=environment | {"FAIL": fail}, capture_output=True, text=True, check=False)
        assert done.returncode == (3 if fail else 0), done.stderr
        assert done.stdout.split("\n")[:2] == ["1", "set up"], done.stdout
    assert done.stdout.split("\n")[2] == str(content / "align" / "notebooks")


@pytest.mark.parametrize("place", ["COLAB", "KAGGLE"])
def test_results_lie_where_the_next_notebook_finds_them(monkeypatch, tmp_path, capsys, place):
    mounted = []
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(drive=SimpleNamespace(mount=mounted.append)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(colab, place, (tmp_path / "data", tmp_path / "output"))
    if place == "KAGGLE":
        monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    colab.setup()
    assert mounted == [str(colab.DRIVE)] * (place == "COLAB") and os.environ["ALIGN_DATA"] == str(tmp_path / "data")
    assert config.load("smoke").runs == tmp_path / "output" / "runs" / "smoke"
    assert f"results: {tmp_path / 'output'}" in capsys.readouterr().out


def test_without_drive_or_gpu_the_remedy_is_named(monkeypatch):
    def mount(_):
        raise ValueError("mount failed")

    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(drive=SimpleNamespace(mount=mount)))
    with pytest.raises(RuntimeError, match="Drive.*mount failed.*again"):
        colab.setup()
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="no GPU"):
        colab.setup()
