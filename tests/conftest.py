"""Shared fixtures: the smoke configuration, and a private copy of the project's folders for tests that run notebooks."""

import os
import shutil
from pathlib import Path

import pytest

from align_utils.config import profiles as config

ROOT = config.PACKAGE_ROOT
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


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
