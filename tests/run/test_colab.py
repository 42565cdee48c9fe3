"""The setup cell of the notebooks and what it calls, on Colab, on Kaggle and elsewhere."""

import os
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest
import torch
from conftest import ROOT, copy_project

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


# What the machine has instead of Colab: Drive in a folder, and a pip that says what it was told to hold.
PIP = """#!/bin/sh
[ "$1" = freeze ] && printf 'pandas==3\\ntorch==2+cu\\ntqdm==9\\ntorchvision==4\\n' && exit
for file; do :; done
paste -sd ' ' "$file"
[ "$file" != "$UNMET" ]
"""
MOUNT = "import os\ndef mount(place):\n    os.environ['REFUSED'] and exit('refused')\n    os.makedirs(place + '/MyDrive', exist_ok=True)"
SETUP_HERE = "import os\ndef setup():\n    print('set up')\n    os.environ['FAIL'] and exit(3)"


@pytest.fixture
def session(tmp_path):
    """Runs the cell as a new session of the same machine does; returns its exit code and what was printed. `project` is a small copy."""
    content, stubs = tmp_path / "content", tmp_path / "stubs"
    project = {
        "constraints.txt": "torch==1\ntqdm==1\n",
        "notebooks/01.ipynb": "",
        "align_utils/__init__.py": "",
        "align_utils/run/__init__.py": "",
        "align_utils/run/colab.py": SETUP_HERE,
    }
    write_files(tmp_path / "align-companion", project)
    write_files(stubs, {"google/colab/drive.py": MOUNT, "bin/pip": PIP})
    (stubs / "bin" / "pip").chmod(0o755)
    places = {"/content/drive": str(tmp_path / "drive"), "/kaggle/input": str(tmp_path / "input")}
    text = SETUP + "\nprint(os.getcwd())"
    for place, here in places.items():
        assert place in text
        text = text.replace(place, here)
    write_files(content, {"cell.py": text})

    def run(**environment):
        own = {
            "COLAB_RELEASE_TAG": "x",
            "PATH": f"{stubs / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(stubs),
            "FAIL": "",
            "REFUSED": "",
            "UNMET": "",
        }
        own = {name: value for name, value in (os.environ | own | environment).items() if value is not None}
        command = [sys.executable, "-P", "cell.py"]
        done = subprocess.run(command, cwd=content, env=own, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.splitlines(), done.stderr

    run.ready = (0, ["pandas==3 torch==2+cu tqdm==1", "set up", str(content / "align" / "notebooks")], "")
    return run


def write_files(folder, texts):
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_the_cell_may_be_run_again_after_a_failure_and_after_a_restart(session, tmp_path):
    project = tmp_path / "align-companion"
    git = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    code, _, said = session()
    assert code == 1 and "Not published yet: upload align-companion.zip, or set os.environ['ALIGN_REPOSITORY']" in said
    address = {"ALIGN_REPOSITORY": str(project)}
    assert session(**address, REFUSED="yes")[0] == 1
    assert session(**address, FAIL="yes")[:2] == (3, ["pandas==3 torch==2+cu tqdm==1", "set up"])
    # Where nothing goes with what the machine has, it is given up.
    assert session(**address, UNMET="held")[1][:2] == ["pandas==3 torch==2+cu tqdm==1", "tqdm==1"]
    assert session(**address) == session() == session.ready
    shutil.rmtree(tmp_path / "content" / "align")
    assert (
        session(COLAB_RELEASE_TAG=None, KAGGLE_KERNEL_RUN_TYPE="Interactive", **address, REFUSED="on Colab alone")
        == session.ready
    )


@pytest.mark.parametrize(
    ("place", "form"), [("content", "zip"), ("drive/MyDrive", "gztar"), ("drive/MyDrive", "folder"), ("input", "folder")]
)
def test_the_cell_takes_a_copy_that_is_uploaded_or_on_drive_before_the_published_one(session, tmp_path, place, form):
    project, folder = tmp_path / "align-companion", tmp_path / place
    # What a copy drags along, and what is called nearly so.
    write_files(project, {"runs/cpu/big": "", "tests/constraints.txt/x": ""})
    write_files(folder, {"align-companion notes.txt": "no copy"})
    if form == "folder":
        shutil.move(project, folder)
    else:
        # As GitHub packs it, fetched for the second time; then as `git archive` does, without a folder of its own.
        inner = {"root_dir": tmp_path, "base_dir": "align-companion"} if form == "zip" else {"root_dir": project}
        shutil.make_archive(str(folder / "align-companion-main (1)"), form, **inner)
    assert session(ALIGN_REPOSITORY="nowhere") == session() == session.ready
    assert (tmp_path / "content/align/runs").exists() == (form != "folder")


def test_an_archive_of_something_else_is_named(session, tmp_path):
    write_files(tmp_path / "other", {"a/b": ""})
    shutil.make_archive(str(tmp_path / "content" / "align-companion"), "zip", root_dir=tmp_path / "other")
    code, _, said = session()
    assert code == 1 and "align-companion.zip is no copy of this project: it holds no constraints.txt" in said


@pytest.mark.parametrize("place", ["COLAB", "KAGGLE"])
def test_results_lie_where_the_next_notebook_finds_them_and_files_are_listed(monkeypatch, tmp_path, capsys, place):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(colab, "find_gpus", lambda: {"Tesla T4": 16.1})
    monkeypatch.setattr("align_utils.run.doctor.find_spec", lambda name: True)
    monkeypatch.setattr(colab, place, (tmp_path / "data", tmp_path / "output"))
    if place == "KAGGLE":
        monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    colab.setup()
    assert (
        os.environ["ALIGN_DATA"] == str(tmp_path / "data")
        and config.load("smoke").runs == tmp_path / "output" / "runs" / "smoke"
    )
    said = capsys.readouterr().out
    assert f"Results: {tmp_path / 'output'}" in said and f"{tmp_path / 'data'}/swow does not exist" in said
    shutil.copytree(ROOT / "data" / "sample" / "swow", tmp_path / "data" / "swow")
    colab.setup()
    sample, own = capsys.readouterr().out.split('PROFILE = "colab", on your official files:')
    assert "the bundled sample, made up" in sample and "Tesla" not in own
    assert "ok   norms, China            strength.SWOW-ZH" in own and "no   survey" in own and "worldvaluessurvey.org" in own


def test_without_a_gpu_the_remedy_is_named_after_everything_else_was_told(monkeypatch, capsys):
    monkeypatch.setattr(colab, "find_gpus", dict)
    with pytest.raises(RuntimeError, match="no GPU.*Runtime > Change runtime type > T4 GPU"):
        colab.setup()
    assert "Results: " in capsys.readouterr().out


def test_the_address_is_moved_everywhere_at_once(tmp_path):
    root = copy_project(tmp_path)
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, root)

    def read():
        paths = [root / "README.md", root / "pyproject.toml", *root.rglob("*.ipynb")]
        return {path: path.read_text(encoding="utf-8") for path in paths}

    before = read()
    present = tomllib.loads(before[root / "pyproject.toml"])["project"]["urls"]["Repository"].removeprefix(
        "https://github.com/"
    )
    changed = colab.move_address(root, "https://github.com/new-owner/name.v2.git")
    after = read()
    assert set(changed) == set(before) and len(changed) >= 14 and not [path for path, text in after.items() if present in text]
    for path, text in after.items():
        if path.suffix == ".ipynb":
            badge = f"colab.research.google.com/github/new-owner/name.v2/blob/main/{path.relative_to(root).as_posix()}"
            assert badge in nbformat.reads(text, 4).cells[0].source
            assert '"https://github.com/new-owner/name.v2")' in nbformat.reads(text, 4).cells[1].source
    # What only begins alike is another project; and back again nothing is lost.
    (root / "README.md").write_text(after[root / "README.md"] + "github.com/new-owner/name.v2-data")
    colab.move_address(root, f"https://github.com/{present}")
    assert read() == before | {root / "README.md": before[root / "README.md"] + "github.com/new-owner/name.v2-data"}
    assert colab.move_address(root, f"https://github.com/{present}/") == []
    for wrong in ("", "github.com/a/b", "https://gitlab.com/a/b", "https://github.com/a", "https://github.com/a/b/tree/main"):
        with pytest.raises(ValueError, match=r"expected URL=https://github.com/<owner>/<name>, found"):
            colab.move_address(root, wrong)


def test_what_the_titles_promise_on_colab_is_what_the_profiles_estimate():
    profiles = {name: config.read_profile(name, root=ROOT).gpu for name in ("colab_sample", "colab")}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        first, key = nbformat.read(path, 4).cells[0].source, path.stem[:2]
        sample, own = (int(profiles[name].minutes[key]) for name in profiles)
        assert f"On a Colab T4, by an estimate, {sample} minutes with `colab_sample` and {own} with `colab`" in first
        memory = {name: gpu.memory_gb.get(key) for name, gpu in profiles.items()}
        assert memory["colab"] == memory["colab_sample"]
        assert (f"in {memory['colab']:g} GB of the GPU's memory" if memory["colab"] else "for installing") in first
