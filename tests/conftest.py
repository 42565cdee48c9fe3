"""Shared fixtures: the smoke configuration, and a private copy of the project's folders for tests that run notebooks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from align_utils import config
from align_utils.norms import split, strengths

ROOT = config.PACKAGE_ROOT
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    # With several workers each has its own session: tests that read one costly run stay on one of them (`--dist loadgroup`).
    for item in items:
        if "smoke" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("smoke"))
        elif item.path.parent.name == "training":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def cfg():
    return config.load("smoke", root=ROOT)


@pytest.fixture(scope="session")
def english(cfg):
    return cfg.languages["en"]


@pytest.fixture(scope="session")
def chinese(cfg):
    return cfg.languages["zh"]


@pytest.fixture(scope="session")
def real_data():
    """The reader's official files; skips, with the reason, where ALIGN_DATA does not name them."""
    folder = Path(os.environ.get("ALIGN_DATA", ""))
    if not os.environ.get("ALIGN_DATA") or not (folder / "swow").is_dir():
        pytest.skip("ALIGN_DATA names no folder with official files (swow/, ratings/, wvs/): real-data tests need them")
    return folder.resolve()


def copy_project(target: Path) -> Path:
    """Notebooks, settings and bundled data without runs and figures, so that a test never touches the reader's results."""
    shutil.copytree(ROOT / "notebooks", target / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(ROOT / "data", target / "data", ignore=shutil.ignore_patterns("raw"))
    return target


def prepare(cfg) -> dict[str, split.CultureNorms]:
    """What 01_norms leaves behind, with fewer cues, as the later notebooks read it."""
    split.split_run(change(cfg, norms={"valid_pairs": 8, "test_pairs": 16}), strengths.load_norms(cfg))
    return split.load_run(cfg)


def change(cfg, **sections):
    """The same run, in the same folder, with settings of the profile's sections changed."""
    return config.overlay_config(cfg, sections, source="test", runs=cfg.runs)


def copy_with_aims(target: Path) -> Path:
    """The project with shares of the map's two items without an order, which the bundled sample lacks."""
    root = copy_project(target)
    with (root / "data/sample/wvs/distributions.sample.csv").open("a", encoding="utf-8") as file:
        for question in ("Q154", "Q155"):
            for country, shares in {"USA": (0.2, 0.3, 0.1, 0.4), "CHN": (0.5, 0.2, 0.2, 0.1)}.items():
                file.writelines(f"{question},{country},{code},{share}\n" for code, share in enumerate(shares, start=1))
    return root


def run_notebooks(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`python -m align_utils.run` over the notebooks of a copy of the project."""
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    own = {**os.environ, "ALIGN_ROOT": str(root), "PYTHONPATH": os.pathsep.join(paths), **environment}
    command = [sys.executable, "-m", "align_utils.run", *arguments]
    return subprocess.run(command, env=own, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A finished smoke run of all notebooks, to be read only; it lies in the empty folder ALIGN_SMOKE where that is set."""
    kept = os.environ.get("ALIGN_SMOKE")
    root = copy_with_aims(Path(kept) if kept else tmp_path_factory.mktemp("smoke"))
    done = run_notebooks(root, "--appendix", "--profile", "smoke")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return config.load("smoke", root=root)
