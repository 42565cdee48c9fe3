"""The commands: help lists them, and one rule orders the notebooks and runs only what is stale."""

import os
import re
import shlex
import shutil
import subprocess
import tomllib

import pytest
from conftest import ROOT, copy_project


def make(root, *arguments, code=0, **environment):
    # As a reader types it: within `make test` it would take the outer one's flags and name the folders it enters.
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}
    own = {key: value for key, value in os.environ.items() if key not in outer} | {"ALIGN_DATA": "data/raw", **environment}
    done = subprocess.run(["make", *arguments], cwd=root, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def project(tmp_path):
    root = copy_project(tmp_path)
    shutil.copytree(ROOT / "align_utils", root / "align_utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", root)
    return root


def planned(output):
    return re.findall(r"align_utils\.run ([0A]\d)_", output)


def test_help_lists_every_command(tmp_path):
    text = make(project(tmp_path), "USE_ENV=1")
    for command in ("doctor", "reproduce", "smoke", "test", "lint", "publish", "clean", "PROFILE=cpu_real", "USE_ENV=1"):
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
    for number in range(1, 7):
        output = make(root, "-n", f"{number:02d}", "PROFILE=smoke", "USE_ENV=1", f"ALIGN_OUTPUT={tmp_path / 'none'}")
        assert planned(output) == [f"{n:02d}" for n in range(1, number + 1)]
    assert planned(make(root, "-n", "reproduce", "PROFILE=smoke", "USE_ENV=1")) == ["01", "02", "03", "04", "05", "06"]


def test_nothing_is_used_that_make_of_a_mac_has_not():
    # 3.81 follows no pattern rule to itself; these came later, or are GNU's sed and find alone.
    text = (ROOT / "Makefile").read_text()
    rules = [line for line in text.splitlines() if re.match(r"[^\t#:=]*:(?!=)", line)]
    assert len(rules) > 20 and not [rule for rule in rules if "%" in rule or "&:" in rule]
    assert not re.search(
        r"\.ONESHELL|\.EXTRA_PREREQS|\$\((file|let|intcmp|guile) |!=|::=|\bsed\b|find .*-printf|readlink|realpath", text
    )


NAMES = ["with a space", "l'\u00e9t\u00e9 (1), 2", "\u6570\u636e"]


@pytest.mark.parametrize("name", NAMES)
def test_folders_may_be_called_anything(tmp_path, name):
    root, output, data = project(tmp_path / name / "c"), tmp_path / name / "out", tmp_path / name / "data"
    (data / "swow").mkdir(parents=True)
    file = data / "swow" / "a copy.csv"
    file.write_text("")
    os.utime(file, (2**30, 2**30))
    # A profile that extends one on real files reads real files too.
    (root / "notebooks/settings/profiles/mine.yaml").write_text("extends: cpu_real\nseeds: [2]\n")
    folders = f"ALIGN_OUTPUT={output}", f"ALIGN_DATA={data}", "USE_ENV=1", "PROFILE=mine"
    tools, done = tmp_path / "tools", output / "runs" / "mine" / "done"
    tools.mkdir()
    (tools / "python").symlink_to("/bin/true")
    for _ in range(2):
        assert planned(make(root, "-n", "02", *folders)) == ["01", "02"] and not done.exists(), "a dry run writes nothing"
    make(root, "02", *folders, PATH=f"{tools}:{os.environ['PATH']}")
    assert sorted(path.name for path in done.iterdir()) == ["01_norms", "02_sft", "data-folder"]
    assert (done / "data-folder").read_text() == f"{data}\n"
    assert planned(make(root, "-n", "02", *folders)) == []
    assert planned(make(root, "-n", "02", folders[0], f"ALIGN_DATA={data / 'other'}", *folders[2:])) == ["01", "02"]
    os.utime(file, (2**31, 2**31))
    assert planned(make(root, "-n", "02", *folders)) == ["01", "02"]


@pytest.mark.parametrize("written", ["out", "~/out", "../my out", "/"])
def test_the_folders_are_resolved_once_for_make_and_for_what_it_runs(tmp_path, written):
    root, home, tools = project(tmp_path / "c"), tmp_path / "home", tmp_path / "tools"
    wanted = {"out": root / "out", "~/out": home / "out", "../my out": tmp_path / "my out", "/": tmp_path / "absolute"}[written]
    written = str(wanted) if written == "/" else written
    tools.mkdir()
    (tools / "python").write_text('#!/bin/sh\necho "got $ALIGN_OUTPUT and $ALIGN_DATA"\n')
    (tools / "python").chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(home), "ALIGN_DATA": written}
    for arguments, more in (([f"ALIGN_OUTPUT={written}"], {}), ([], {"ALIGN_OUTPUT": written})):
        said = make(root, "01", "PROFILE=smoke", "USE_ENV=1", *arguments, **environment, **more)
        (got,) = set(re.findall(r"got (.*) and (.*)", said)) or {None}
        if not more:
            assert [os.path.normpath(path) for path in got] == [str(wanted)] * 2
        else:
            assert (got is None and "up to date" in said) or "Nothing to be done" in said
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("01_norms")] == [
        (wanted / "runs/smoke/done/01_norms").relative_to(tmp_path)
    ]


# Stands for a Python: tells its version, makes an environment of itself, and notes what else it is asked.
PYTHON = """#!/bin/sh
case "$*" in
(-c*) echo {version};;
("-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python && echo made {version} >> log;;
(*) echo "$1 $2 $3 by {version} $PYTHONPATH$PIP_TARGET$PIP_USER" >> log;;
esac
"""


def test_a_python_that_the_pins_do_not_allow_is_refused_and_its_environment_made_anew(tmp_path):
    root = project(tmp_path / "my project")
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    for version in ("3.10", "3.11", "3.13", "3.15"):
        path = root / f"python{version}"
        path.write_text(PYTHON.format(version=version))
        path.chmod(0o755)
    personal = {"PYTHONPATH": "/theirs", "PIP_TARGET": "/theirs", "PIP_USER": "1"}

    def set_up(version, code=0, **more):
        shutil.rmtree(root / "log", ignore_errors=True)
        (root / "log").write_text("")
        asked = [f"PYTHON3=./python{version}"] if version else []
        said = make(root, ".venv/ready", *asked, code=code, **personal, **more)
        return said, (root / "log").read_text().splitlines()

    for version in ("3.10", "3.15"):
        said, log = set_up(version, code=2)
        assert f"./python{version} is Python {version}, expected 3.11 to 3.14: add PYTHON3=python3.11" in said and not log
    assert set_up("9", code=2)[1] == []
    # What an older make left behind.
    shutil.copy(root / "python3.10", root / ".venv-python")
    (root / ".venv" / "bin").mkdir(parents=True)
    shutil.move(root / ".venv-python", root / ".venv" / "bin" / "python")
    assert set_up("3.11")[1] == ["made 3.11", "-m pip install by 3.11 0"]
    os.utime(root / "constraints.txt", (2**31, 2**31))
    assert set_up("3.11")[1] == ["-m pip install by 3.11 0"], "kept: pip brings it up to date"
    assert set_up("3.13")[1] == ["made 3.13", "-m pip install by 3.13 0"]
    # None is asked for: python3 may be too old, the environment will do.
    (root / "python3").write_text(PYTHON.format(version="3.10"))
    (root / "python3").chmod(0o755)
    assert set_up("", PATH=f"{root}:{os.environ['PATH']}")[1] == ["-m pip install by 3.13 0"]


def test_what_cannot_run_is_told_before_anything_is_set_up(tmp_path):
    root = project(tmp_path)
    (root / "fake").write_text('#!/bin/sh\ncase "$*" in (-c*) echo 3.11;; (*) echo "$*" >> log; exit 1;; esac\n')
    (root / "fake").chmod(0o755)
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    for target, profile in (("reproduce", "cpu_real"), ("doctor", "cpu")):
        (root / "log").write_text("")
        make(root, target, f"PROFILE={profile}", "PYTHON3=./fake", code=2)
        assert (root / "log").read_text().strip() == f"align_utils/run/doctor.py --profile {profile}"
    assert not (root / ".venv").exists()
    said = make(root, "doctor", "PYTHON3=./nowhere", code=2)
    assert "no ./nowhere here: install Python 3.11 to 3.14" in said


def test_a_profile_that_is_none_is_one_error_whatever_is_asked(tmp_path):
    root = project(tmp_path)
    for profile in ("nosuch", "base"):
        for target in ("01", "doctor", "reproduce"):
            (said,) = make(root, target, f"PROFILE={profile}", "PYTHON3=./none", code=2).splitlines()
            assert f"PROFILE={profile} is none that can be run; there are: colab colab_sample cpu cpu_real paper smoke" in said


def test_only_what_is_stale_runs_again(tmp_path):
    root = project(tmp_path)
    done = root / "runs" / "smoke" / "done"
    done.mkdir(parents=True)
    appendix = sorted((root / "notebooks").glob("appendix/A*.ipynb"))
    for path in [*sorted((root / "notebooks").glob("0*.ipynb")), *appendix]:
        (done / path.stem).touch()
    assert planned(make(root, "-n", "reproduce", "PROFILE=smoke", "USE_ENV=1")) == []
    (root / "runs" / "smoke" / "ablation").mkdir()
    for name, first in (("ppo", 3), ("sft", 2)):
        table = root / "runs" / "smoke" / "ablation" / f"{name}.csv"
        table.touch()
        os.utime(table, (2**31, 2**31))
        assert planned(make(root, "-n", "reproduce", "PROFILE=smoke", "USE_ENV=1")) == []
        stale = [path.stem[:2] for path in appendix if int(path.stem[1]) >= first]
        assert planned(make(root, "-n", "appendix", "PROFILE=smoke", "USE_ENV=1")) == stale
        table.unlink()
    os.utime(root / "notebooks" / "05_wvs_survey.ipynb", (2**31, 2**31))
    assert planned(make(root, "-n", "reproduce", "PROFILE=smoke", "USE_ENV=1")) == ["05", "06"]
    os.utime(root / "notebooks" / "05_wvs_survey.ipynb", (2**30, 2**30))
    # Whatever the run is made of, however deep it lies.
    for part in (
        "align_utils/norms/strengths.py",
        "align_utils/plots/companion.mplstyle",
        "notebooks/settings/cultures/us.yaml",
        "data/sample/README.md",
    ):
        os.utime(root / part, (2**31, 2**31))
        assert planned(make(root, "-n", "reproduce", "PROFILE=smoke", "USE_ENV=1")) == ["01", "02", "03", "04", "05", "06"], (
            part
        )
        os.utime(root / part, (2**30, 2**30))
        assert planned(make(root, "-n", "reproduce", "PROFILE=smoke", "USE_ENV=1")) == [], part


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
        (arguments,) = re.findall(r"-m pytest\b(.*)", make(root, "-n", target, "USE_ENV=1"))
        words = shlex.split(settings["addopts"] + arguments)
        chosen[target] = words[len(words) - words[::-1].index("-m")]  # the last -m counts
    folders = [str(ROOT / name) for name in settings["testpaths"]]
    assert pytest.main(["--collect-only", "-q", "-m", "", *folders], plugins=[recorder]) == 0
    assert {path.name for path in (ROOT / "tests").rglob("test_*.py")} <= {name for name, _, _ in recorder.found}
    runs = {}
    for name, test, marks in recorder.found:
        known = {word: word in marks for word in ("extra", "gpu", "browser")}
        runs[test] = [target for target, expression in chosen.items() if eval(expression, {}, known)]
        assert len(runs[test]) == 1, f"{test} is run by {runs[test] or 'no target'}"
        assert (runs[test] != ["test"]) == (
            name in {"test_unsloth.py", "test_servers_real.py", "test_gpu.py", "test_browser.py"}
        ), f"{test} is run by {runs[test]}"
