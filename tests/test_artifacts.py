"""Files: nothing half-written is taken for finished, and the manifest tells the truth."""

import hashlib
import json

import pandas as pd
import pytest
from conftest import copy_project
from matplotlib import pyplot as plt

from align_utils.config import profiles as config
from align_utils.store import page as store_page
from align_utils.store import steps


@pytest.fixture
def run(tmp_path):
    return config.load("smoke", root=copy_project(tmp_path))


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), steps.write_atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_interrupted_step_is_not_finished_and_begins_afresh(tmp_path):
    folder, settings = tmp_path / "step", {"seed": 1}
    with pytest.raises(KeyboardInterrupt), steps.make_step(folder, settings) as work:
        (work / "part").write_text("1")
        raise KeyboardInterrupt
    assert not steps.find_step(folder, settings) and not folder.exists()
    with steps.make_step(folder, settings) as work:
        assert not list(work.iterdir()), "half a file cannot be told from a whole one"
    assert steps.find_step(folder, settings) and not steps.find_step(folder, {"seed": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["step"]


def test_manifest_holds_hashes_that_can_be_checked(run):
    source = steps.save_frame(pd.DataFrame({"a": [1]}), run.runs / "in.parquet")
    store_page.save_table(run, pd.DataFrame({"x": [0.25, None]}), "tab09_x", section="1", inputs=[source])
    entries = {entry["path"]: entry for entry in store_page.load_manifest(run)}
    assert set(entries) == {f"figures/smoke/tab09_x.{suffix}" for suffix in ("csv", "md", "tex")}
    for path, entry in entries.items():
        assert entry["sha256"] == hashlib.sha256((run.root / path).read_bytes()).hexdigest()
        assert entry["inputs"] == [{"path": "runs/smoke/in.parquet", "sha256": steps.hash_file(source)}]
    assert (run.figures / "tab09_x.csv").read_text() == 'x\n0.25\n""\n'


def test_metrics_have_all_fields_and_refuse_others(run):
    path = store_page.save_metrics(run, [{"metric": "m", "value": 0.5, "culture": "us"}], "04_lexical_alignment")
    (record,) = json.loads(path.read_text())
    assert tuple(record) == store_page.METRIC_FIELDS
    assert record["data"] == "sample" and record["seed"] == run.profile.seed and record["low"] is None
    with pytest.raises(ValueError, match="colour"):
        store_page.save_metrics(run, [{"metric": "m", "value": 1, "colour": "red"}], "04")


def test_missing_input_names_the_notebook(run):
    with pytest.raises(steps.MissingInput, match="01_norms"):
        steps.read_frame(run.runs / "norms" / "us.parquet", made_by="01_norms")


def test_the_first_models_figure_keeps_the_plain_name(run):
    run.models["llama-3.1-8b"] = run.models["tiny"]
    for model in run.models:
        store_page.save_figure(run, plt.figure(), "fig09_x", model=model, section="1")
    made = [f"{name}.{suffix}" for name in ("fig09_x", "fig09_x_llama-3.1-8b") for suffix in ("pdf", "png", "svg")]
    assert sorted(path.name for path in run.figures.iterdir()) == sorted(made)
    assert {entry["path"].rsplit("/")[-1] for entry in store_page.load_manifest(run)} == set(made)
