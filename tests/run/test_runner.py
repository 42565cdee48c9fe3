"""The runner: its own interpreter, package and folders, whatever a person's machine has set."""

import sys

import nbformat
import pytest
from conftest import ROOT, copy_project, run_notebooks

from align_utils import config
from align_utils.run import runner

LOOK = """
import os, sys, matplotlib
import align_utils
from align_utils import config, store
list(store.progress(range(3), desc="counting"))
print(sys.executable, align_utils.__file__, config.load(PROFILE).runs, sys.flags.optimize, matplotlib.rcParams["text.usetex"], sep="|")
open("text", "w").write("\u6570") and os.remove("text")
"""


def write_notebook(root, text):
    parameters = nbformat.v4.new_code_cell('PROFILE = "cpu"', metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(text)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, root / "notebooks" / "01_norms.ipynb")


def test_a_run_is_of_this_interpreter_whatever_a_person_has_set(tmp_path):
    root, home = copy_project(tmp_path / "c d"), tmp_path / "home"
    write_notebook(root, LOOK)
    kernel = '{"argv": ["false", "{connection_file}"], "display_name": "another", "language": "python"}'
    for path, text in {
        home / "jupyter/kernels/python3/kernel.json": kernel,
        home / ".local/share/jupyter/kernels/python3/kernel.json": kernel,
        home / ".ipython/profile_default/startup/00.py": "exit(1)",
        home / "start.py": "exit(1)",
        home / "matplotlibrc": "text.usetex: True",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    temporary = home / ("t" * 100)
    temporary.mkdir()
    done = run_notebooks(
        root, "01", "--profile", "smoke", HOME=str(home), JUPYTER_PATH=str(home / "jupyter"), PYTHONSTARTUP=str(home / "start.py"),
        IPYTHONDIR=str(home / ".ipython"), MATPLOTLIBRC=str(home / "matplotlibrc"), MPLBACKEND="TkAgg", PYTHONOPTIMIZE="2",
        LC_ALL="C", ALIGN_OUTPUT="~/My Drive/l'\u00e9t\u00e9 \u6570", ALIGN_DATA="", TMPDIR=str(temporary),
    )  # fmt: skip
    assert done.returncode == 0 and "counting: 100%" in done.stderr, done.stderr
    runs = home / "My Drive" / "l'\u00e9t\u00e9 \u6570" / "runs" / "smoke"
    (output,) = nbformat.read(runs / "notebooks" / "01_norms.ipynb", 4).cells[-1].outputs
    assert output.text.strip().split("|") == [
        sys.executable,
        str(ROOT / "align_utils" / "__init__.py"),
        str(runs),
        "0",
        "False",
    ]


def test_a_folder_that_cannot_be_written_to_is_named_with_the_remedy(tmp_path, monkeypatch):
    root = copy_project(tmp_path)
    (tmp_path / "full").write_text("")
    monkeypatch.setenv("ALIGN_OUTPUT", str(tmp_path / "full"))
    with pytest.raises(runner.RunError) as error:
        runner.run_notebook(config.load("smoke", root=root), "01")
    assert f"{tmp_path / 'full' / 'runs' / 'smoke'} (Not a directory): set ALIGN_OUTPUT=<" in str(error.value)


def test_a_kernel_that_dies_is_one_sentence(tmp_path):
    root = copy_project(tmp_path)
    write_notebook(root, "import os; os.kill(os.getpid(), 9)")
    done = run_notebooks(root, "01", "--profile", "smoke")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "01_norms: the kernel died, mostly for lack of mem" in done.stderr
