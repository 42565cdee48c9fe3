"""The commands: help lists them, and one rule orders the notebooks and runs only what is stale."""

import os
import re
import shlex
import shutil
import subprocess
import tomllib

import pytest
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
    return re.findall(r"align_utils\.run (\d\d)_", output)


def test_help_lists_every_command(tmp_path):
    text = make(project(tmp_path))
    for command in ("reproduce", "smoke", "test", "lint", "publish", "clean", "PROFILE=cpu_real", "USE_ENV=1"):
        assert command in text


def test_every_module_that_is_run_by_its_name_does_something():
    texts = [path.read_text() for path in (ROOT / "Makefile", ROOT / "README.md", *(ROOT / "align_utils").rglob("*.py"))]
    called = {name for text in texts for name in re.findall(r"-m (align_utils[a-z_.]+[a-z_])", text)}
    assert {
        f"align_utils.{name}" for name in ("training.ablation", "models.export", "run.publish", "run", "training")
    } <= called
    for name in called:
        path = ROOT / name.replace(".", "/")
        source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        # Without these lines the command ends at once, without a word and as if all were well.
        assert re.search(r'if __name__ == "__main__":\n    (main\(\)|sys\.exit\(main\(\)\))\n\Z', source), name


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
    (root / "runs" / "smoke" / "ablation").mkdir()
    for name, first in (("ppo", 3), ("sft", 2)):
        table = root / "runs" / "smoke" / "ablation" / f"{name}.csv"
        table.touch()
        os.utime(table, (2**31, 2**31))
        assert planned(make(root, "-n", "reproduce", "PROFILE=smoke")) == [f"{number:02d}" for number in range(first, 7)]
        table.unlink()
    os.utime(root / "notebooks" / "05_wvs_survey.ipynb", (2**31, 2**31))
    assert planned(make(root, "-n", "reproduce", "PROFILE=smoke")) == ["05", "06"]
    os.utime(root / "notebooks" / "05_wvs_survey.ipynb", (2**30, 2**30))
    # Whatever the run is made of, however deep it lies.
    for part in (
        "align_utils/norms/strengths.py",
        "align_utils/plots/companion.mplstyle",
        "notebooks/settings/cultures/us.yaml",
        "data/sample/README.md",
    ):
        os.utime(root / part, (2**31, 2**31))
        assert planned(make(root, "-n", "reproduce", "PROFILE=smoke")) == ["01", "02", "03", "04", "05", "06"], part
        os.utime(root / part, (2**30, 2**30))
        assert planned(make(root, "-n", "reproduce", "PROFILE=smoke")) == [], part


class Recorder:
    """Keeps what a collection finds: file, name and marks of each test."""

    def pytest_collection_finish(self, session):
        self.found = [(item.path.name, item.nodeid, {mark.name for mark in item.iter_markers()}) for item in session.items]


def test_every_test_is_run_by_one_make_target(tmp_path):
    root, recorder = project(tmp_path), Recorder()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    targets = re.findall(r"^(test[a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    chosen = {}
    for target in targets:
        (arguments,) = re.findall(r"-m pytest\b(.*)", make(root, "-n", target))
        words = shlex.split(settings["addopts"] + arguments)
        chosen[target] = words[len(words) - words[::-1].index("-m")]  # the last -m counts
    folders = [str(ROOT / name) for name in settings["testpaths"]]
    assert pytest.main(["--collect-only", "-q", "-m", "", *folders], plugins=[recorder]) == 0
    assert {path.name for path in (ROOT / "tests").rglob("test_*.py")} <= {name for name, _, _ in recorder.found}
    runs = {}
    for name, test, marks in recorder.found:
        known = {word: word in marks for word in ("extra", "gpu")}
        runs[test] = [target for target, expression in chosen.items() if eval(expression, {}, known)]
        assert len(runs[test]) == 1, f"{test} is run by {runs[test] or 'no target'}"
        assert (runs[test] != ["test"]) == (name in {"test_unsloth.py", "test_servers_real.py", "test_gpu.py"}), (
            f"{test} is run by {runs[test]}"
        )
