"""Nothing that was stored is lost: the keys of every step of the smoke run, and the frames and tables that it leaves, are those written down.

`python tests/test_golden.py RUNS_AND_FIGURES_ROOT` writes them down anew from a finished smoke run (tests/conftest.py makes one with two
more survey items); do so only where a change is meant to make everyone compute again, and say so.
"""

import hashlib
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

GOLDEN = Path(__file__).with_name("golden") / "smoke.json"
# Trained weights differ in their last bits from one processor to the next; that they are in a key at all is pinned.
TRAINED = {"adapter", "start", "adapters"}


def describe_steps(runs: Path) -> dict[str, str]:
    """Folder of every step to the hash of what its key is made of, trained weights as a mere word."""
    found = {}
    for mark in sorted(runs.rglob("step.json")):
        settings = json.loads(mark.read_text(encoding="utf-8"))["settings"]
        known = {key: "weights" if key in TRAINED and value else value for key, value in settings.items()}
        text = json.dumps(known, sort_keys=True, ensure_ascii=False)
        found[str(mark.parent.relative_to(runs))] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def describe_frames(runs: Path, figures: Path) -> dict[str, list]:
    """Frame or table to its columns and number of rows; what no model has a part in also to a hash of its content."""
    paths = [*runs.glob("*/*.parquet"), *runs.glob("*/*.csv"), *runs.glob("survey/people/*.parquet"), *figures.glob("*.csv")]
    found = {}
    for path in sorted(paths):
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, keep_default_na=False)
        content = ""
        if path.parent.name in ("norms", "people") or path.name.startswith(("tab01", "tabA1")):
            text = frame.to_csv(index=False, float_format="%.6g")
            content = hashlib.sha256(text.encode()).hexdigest()[:16]
        found[f"{path.parent.name}/{path.name}"] = [list(frame.columns), len(frame), content]
    return found


def describe(runs: Path, figures: Path) -> dict:
    return {"steps": describe_steps(runs), "frames": describe_frames(runs, figures)}


@pytest.mark.parametrize("kind", ["steps", "frames"])
def test_the_smoke_run_is_the_one_written_down(smoke, kind):
    found, known = describe(smoke.runs, smoke.figures)[kind], json.loads(GOLDEN.read_text(encoding="utf-8"))[kind]
    assert {name: value for name, value in found.items() if known.get(name) != value} == {}
    assert set(known) == set(found)


def test_a_key_that_changes_is_seen(tmp_path):
    for name, settings in {
        "one": {"version": 1, "adapter": "ab"},
        "two": {"version": 1, "adapter": "cd"},
        "three": {"version": 2},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "step.json").write_text(json.dumps({"settings": settings}))
    keys = describe_steps(tmp_path)
    assert keys["one"] == keys["two"] != keys["three"] and len(keys) == 3


if __name__ == "__main__":
    root = Path(sys.argv[1])
    content = describe(root / "runs" / "smoke", root / "figures" / "smoke")
    GOLDEN.write_text(json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
