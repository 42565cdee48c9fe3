"""The house rules: floors, docstrings, pins that agree, notebooks alike, a README that tells the truth."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from importlib import import_module

import nbformat
import pytest
import yaml
from conftest import ROOT, copy_project

from align_utils.plots import common as common_plots
from align_utils.run import publish

PLACES = ["config", "store", "norms", "models", "training", "lexical", "survey", "plots", "run"]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "align_utils").rglob("*.py")
)
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


@pytest.mark.xdist_group("grouped")
def test_workers_keep_a_group_together(request):
    grouped = getattr(request.config.option, "loadgroup", False)
    assert not grouped or request.node.nodeid.endswith("@grouped"), "this pytest loses xdist's groups"


def test_arrows_go_down_and_only_some_modules_import_torch():
    # The contracts stand in pyproject.toml; `make lint` prints them.
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "2 kept, 0 broken" in done.stdout, done.stdout


def test_a_place_names_a_dozen_functions_and_brings_no_torch():
    code = "\n".join([
        "import importlib, sys",
        f"places = {{name: importlib.import_module(f'align_utils.{{name}}') for name in {PLACES}}}",
        "for name in ('config', 'store', 'norms', 'plots'):",
        "    for key in places[name].__all__: getattr(places[name], key)",
        "from align_utils import survey",
        "survey.measure_distances, survey.summarise_shifts, survey.compare_with_paper",
        "assert not {'torch', 'transformers', 'trl', 'peft'} & set(sys.modules), sorted(sys.modules)",
        "kinds = {name: [type(getattr(place, key)).__name__ for key in place.__all__] for name, place in places.items()}",
        "print({name: len(found) - found.count('module') for name, found in kinds.items()})",
    ])  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sizes = ast.literal_eval(done.stdout)
    assert all(0 < size <= 16 for size in sizes.values()), sizes
    top = {path.stem for path in (ROOT / "align_utils").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert top == {*PLACES, "stats", "__init__"}


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_have_docstrings(name):
    module = import_module(name)
    assert module.__doc__
    for key, thing in vars(module).items():
        if key.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
            continue
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert inspect.getdoc(thing), f"{name}.{key}"


def test_a_public_name_stands_for_one_thing():
    where = {}
    for path in (ROOT / "align_utils").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_") and node.name != "main":
                where.setdefault(node.name, []).append(path.name)
    assert len(where) > 100 and not {name: paths for name, paths in where.items() if len(paths) > 1}


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_pins_live_in_one_place_and_cover_all_dependencies():
    pins = {name.lower() for name in constraints()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in wanted), "no version outside constraints.txt"
    assert {name.lower() for name in wanted} <= pins
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = environment["dependencies"][-1]["pip"]
    assert pip == ["-c constraints.txt", "-e .[cpu,fonts,test]"]
    assert environment["dependencies"][:-1] == ["python=3.11", "pip", "make"]
    assert ".[cpu,fonts,test]" in (ROOT / "Makefile").read_text()


def test_every_place_is_packaged_with_what_it_needs():
    from setuptools import find_packages

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set(find_packages(ROOT, **settings["packages"]["find"]))
    folders = {path.parent for path in (ROOT / "align_utils").rglob("*.py")}
    assert found == {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    for path in (ROOT / "align_utils").rglob("*.mplstyle"):
        assert settings["package-data"][".".join(path.parent.relative_to(ROOT).parts)] == ["*.mplstyle"]


def test_installed_versions_are_the_pinned_ones():
    from importlib.metadata import PackageNotFoundError, version

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    later = {name for extra, names in extras.items() if extra not in ("cpu", "fonts", "test") for name in names}
    for name, pin in constraints().items():
        if name in later - set(extras["test"]):
            continue
        try:
            assert version(name).split("+")[0] == pin, name
        except PackageNotFoundError:
            pytest.fail(f"{name} is pinned but not installed: delete .venv/ready and run make test")


def cell_text(notebook, tag):
    return [cell.source for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def test_setup_cell_is_the_same_everywhere_short_and_names_the_address():
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    cells = {tuple(cell_text(nbformat.read(path, 4), "setup")) for path in NOTEBOOKS}
    ((setup,),) = cells
    assert len(setup.splitlines()) <= 30 and address in setup and "constraints.txt" in setup
    assert not re.search(r"^\s*(import|from)\s+(torch|numpy|pandas|transformers)", setup, re.MULTILINE)
    slug = address.removeprefix("https://github.com/")
    for path in NOTEBOOKS:
        badge = f"https://colab.research.google.com/github/{slug}/blob/main/{path.relative_to(ROOT)}"
        assert badge in nbformat.read(path, 4).cells[0].source
    assert f"https://colab.research.google.com/github/{slug}/" in (ROOT / "README.md").read_text()
    others = {p: p.read_text() for p in [ROOT / "README.md", *(ROOT / "align_utils").rglob("*.py")]}
    assert not [p for p, text in others.items() if address in text and f"/{slug}/blob" not in text]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_anatomy(path):
    notebook = nbformat.read(path, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.outputs or cell.execution_count for cell in code), "stripped"
    first = notebook.cells[0].source
    assert first.startswith(f"# {path.stem[:2]} ")
    for word in ("Question.", "You will see.", "Paper.", "Time and memory."):
        assert f"**{word}**" in first
    for link in re.findall(
        r"\]\(([^)]+\.ipynb)\)", "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    ):
        assert link.startswith("http") or (path.parent / link).is_file(), link
    assert notebook.cells[-3].source.startswith("## What this run shows") and "page.close(" in notebook.cells[-2].source
    main = path.parent.name == "notebooks"
    assert (f"appendix/A{path.stem[1]}_" if main else "../0") in first
    (parameters,) = cell_text(notebook, "parameters")
    assert all(re.fullmatch(r"[A-Z_]+ = \S.*", line) for line in parameters.splitlines()) and len(parameters.splitlines()) <= 8
    own = [cell.source for cell in code if "setup" not in cell.metadata.get("tags", [])]
    lines = [[line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")] for text in own]
    sections = [cell for cell in notebook.cells if cell.cell_type == "markdown" and cell.source.startswith("## ")]
    assert max(map(len, lines)) <= 12 and max(len(line) for part in lines for line in part) <= 150
    if main:
        # The parameters cell is not counted.
        assert len(sections) - 1 <= 8 and len(own) - 1 <= 12 and sum(map(len, lines)) - 1 <= 60, (
            len(sections),
            len(own),
            sum(map(len, lines)),
        )
    assert sum(map(len, lines)) <= 150 and len(own) <= 25
    assert not re.search(r"^\s*(def|class|if False|!)\b", "\n".join(own), re.MULTILINE)
    source = "\n".join(own)
    shown = re.findall(r"page\.show_(figure|table)\((?:(?!page\.)(?:.|\n))*?\"((?:fig|tab)[0A]\d_\w+)\"", source)
    assert shown and all(name.startswith(("fig" if kind == "figure" else "tab") + path.stem[:2]) for kind, name in shown)
    # Places alone, at most five, and no bookkeeping.
    (places,) = re.findall(r"^from align_utils import (.*)$", source, re.MULTILINE)
    assert set(places.split(", ")) <= set(PLACES) and len(places.split(", ")) <= 5
    assert not re.search(r"align_utils\.|section=|inputs=", source)


def test_chinese_labels_render():
    sentence = common_plots.use_style()
    if "No font" in sentence:
        pytest.skip(sentence)
    from matplotlib import pyplot as plt

    figure = plt.figure()
    figure.text(0.5, 0.5, "听到苹果")
    with pytest.warns(UserWarning) as caught:
        figure.canvas.draw()
        __import__("warnings").warn("end", stacklevel=1)
    assert [str(w.message) for w in caught] == ["end"], "no missing glyph"


def test_readme_numbers_are_those_of_figures_cpu_as_committed(tmp_path):
    # As committed: who runs `make reproduce` gets figures of their own machine there, and the tests still pass.
    done = subprocess.run(["git", "archive", "HEAD", "figures"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode and b"pathspec" not in done.stderr:
        pytest.skip("not a git checkout: nothing committed to compare with")
    root = copy_project(tmp_path)
    if not done.returncode:
        subprocess.run(["tar", "-x", "-C", root], input=done.stdout, check=True)
    text = (ROOT / "README.md").read_text()
    assert publish.rewrite(text, root, "cpu") == text, "run `make publish`"


@pytest.mark.parametrize("name", publish.TEXTS)
def test_no_result_stands_outside_of_a_block_that_a_run_fills(name):
    text = (ROOT / name).read_text()
    assert len(text.splitlines()) <= 150 and publish.BLOCK.search(text)
    own = re.sub(
        r"`[^`]*`|```.*?```|\(https?:[^)]*\)|Python 3\.\d+ to 3\.\d+|\d+\.\d+\.\d+|arXiv \S+|Apache-2.0",
        "",
        publish.BLOCK.sub("", text),
        flags=re.DOTALL,
    )
    # A share, a difference, an interval, a p: what only a run may state.
    assert not re.findall(r"[+-]?\d+\.\d+|[+-]\d+\b|\bp [<=] ?\d", own)


def test_every_kind_of_block_is_used():
    text = "".join((ROOT / name).read_text() for name in publish.TEXTS)
    assert {match[1] for match in publish.BLOCK.findall(text)} == set(publish.BLOCKS)


def test_readme_commands_exist():
    text, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z]+)", text)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_every_variable_that_is_read_is_explained():
    paths = [
        path for place in ("align_utils/**/*.py", "notebooks/**/*.ipynb", "notebooks/**/*.yaml") for path in ROOT.glob(place)
    ]
    texts = "".join(path.read_text(encoding="utf-8") for path in [ROOT / "Makefile", *paths])
    read = set(re.findall(r"ALIGN_[A-Z0-9_]*[A-Z0-9]", texts))
    told = set(re.findall(r"`(ALIGN_\w+)`", (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")))
    assert len(read) > 5 and read <= told, read - told


def test_no_path_of_a_machine_and_no_index_host_is_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    bad = re.compile(r"/(?:root|home|Users)/|pypi\.org|files\.pythonhosted|download\.pytorch|\+cpu\b")
    for name in tracked:
        path = ROOT / name
        if (
            path.suffix in {".py", ".ipynb", ".yaml", ".yml", ".toml", ".txt", ".md", ".cff", ".csv", ".tex"}
            and name != "tests/test_repository.py"
        ):
            assert not bad.search(path.read_text(encoding="utf-8")), name
