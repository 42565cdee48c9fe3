"""Files: nothing half-written is taken for finished, and the manifest tells the truth."""

import hashlib
import json

import pandas as pd
import pytest
from conftest import copy_project
from matplotlib import pyplot as plt

from align_utils import config, store
from align_utils.store import steps
from align_utils.store.page import METRIC_FIELDS


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


def test_manifest_holds_hashes_and_what_was_read_since_the_page_was_opened(run):
    earlier = steps.save_frame(pd.DataFrame({"a": [0]}), run.runs / "earlier.parquet")
    source = steps.save_frame(pd.DataFrame({"a": [1]}), run.runs / "in.parquet")
    steps.read_frame(earlier, made_by="01_norms")
    page = store.Page("09_x", run)
    steps.read_frame(source, made_by="01_norms")
    page.show_table(pd.DataFrame({"x": [0.25, None]}), "tab09_x", "A caption.")
    entries = {entry["path"]: entry for entry in store.load_manifest(run)}
    assert set(entries) == {f"figures/smoke/tab09_x.{suffix}" for suffix in ("csv", "md", "tex")}
    for path, entry in entries.items():
        assert entry["sha256"] == hashlib.sha256((run.root / path).read_bytes()).hexdigest()
        assert entry["inputs"] == [{"path": "runs/smoke/in.parquet", "sha256": steps.hash_file(source)}]
        assert entry["notebook"] == "09_x" and entry["caption"] == "A caption."
    assert (run.figures / "tab09_x.csv").read_text() == 'x\n0.25\n""\n'


def test_closing_enters_what_was_made_and_said(run):
    page = store.Page("09_x", run)
    steps.save_frame(pd.DataFrame({"a": [1]}), run.runs / "out.parquet")
    with steps.make_step(run.runs / "steps" / "one", {"seed": 1}) as work:
        steps.save_frame(pd.DataFrame({"a": [1]}), work / "part.parquet")
    told = store.Sentence("size", "One thing is 0.5.", [{"metric": "m", "value": 0.5}])
    page.say(told, store.Sentence("none", "Another.", []))
    assert page.close([{"metric": "m", "value": 0.5}]).data == "- One thing is 0.5.\n- Another."
    made = {entry["path"] for entry in store.load_manifest(run)}
    assert made == {"runs/smoke/out.parquet", "runs/smoke/metrics/09.json", "runs/smoke/sentences/09.json"}
    known = json.loads((run.runs / "sentences" / "09.json").read_text())
    assert [sentence["key"] for sentence in known] == ["size", "none"] and known[0]["text"] == told.text
    (record,) = known[0]["records"]
    assert record["value"] == 0.5 and record["seed"] == run.profile.seed


def test_metrics_have_all_fields_and_refuse_others(run):
    page = store.Page("04_lexical_alignment", run)
    page.close([{"metric": "m", "value": 0.5, "culture": "us"}])
    (record,) = json.loads((run.runs / "metrics" / "04.json").read_text())
    assert tuple(record) == METRIC_FIELDS
    assert record["data"] == "sample" and record["seed"] == run.profile.seed and record["low"] is None
    with pytest.raises(ValueError, match="colour"):
        page.close([{"metric": "m", "value": 1, "colour": "red"}])
    later = store.Page("06_wvs_analysis", run).gather_metrics([{"metric": "n", "value": 2}])
    assert later[["notebook", "metric", "value"]].values.tolist() == [["04", "m", 0.5], ["06", "n", 2]]


def test_missing_input_names_the_notebook(run):
    with pytest.raises(steps.MissingInput, match="01_norms"):
        steps.read_frame(run.runs / "norms" / "us.parquet", made_by="01_norms")


def test_a_figure_is_written_and_entered_in_three_forms(run):
    store.Page("09_x", run).show_figure(plt.figure(), "fig09_x")
    made = {f"fig09_x.{suffix}" for suffix in ("pdf", "png", "svg")}
    assert {path.name for path in run.figures.iterdir()} == made
    assert {entry["path"].rsplit("/")[-1] for entry in store.load_manifest(run)} == made


def test_progress_goes_to_the_runners_terminal(monkeypatch, tmp_path, capsys):
    with (tmp_path / "terminal").open("w") as terminal:
        monkeypatch.setenv("ALIGN_PROGRESS", str(terminal.fileno()))
        assert list(store.progress(range(3), desc="counting", unit="thing")) == [0, 1, 2]
    assert "counting: 100%" in (tmp_path / "terminal").read_text() and capsys.readouterr().err == ""


LONG = pd.DataFrame({
    "culture": ["us", "us", "cn", "cn"], "stage": ["few_shot", "sft"] * 2, "subset": "all", "value": [0.25, 0.4, 0.1, 0.2],
    "low": [0.2, 0.3, 0.05, None], "high": [0.3, 0.5, 0.15, None], "p_holm": [0.0001, 0.04, 0.5, None],
})  # fmt: skip


def test_a_shown_table_is_short_plain_and_has_its_intervals_in_the_cells(run):
    page = store.Page("04_x", run)
    shown = page.show_table(LONG, "tab04_x", "What it shows.", rows=["stage"], columns=["culture"]).data
    assert shown.splitlines()[0].split("|")[1:4] == [
        " stage                         ",
        " United States     ",
        " China             ",
    ]
    assert "| before tuning, shown examples | 0.25 [0.20, 0.30] | 0.10 [0.05, 0.15] |" in shown
    assert "| after SFT                     | 0.40 [0.30, 0.50] | 0.20              |" in shown and shown.endswith(
        "*What it shows.*"
    )
    assert len(pd.read_csv(run.figures / "tab04_x.csv")) == 4 and "after SFT" in (run.figures / "tab04_x.tex").read_text()
    # As it lies: what is the same in every row is left out, and no p is 0.
    plain = page.show_table(LONG, "tab04_y").data
    assert "subset" not in plain and "p (Holm)" in plain and "< 0.001" in plain and "low" not in plain
    with pytest.raises(ValueError, match="two values for one cell"):
        page.show_table(LONG, "tab04_z", rows=["stage"], columns=["subset"])


@pytest.mark.parametrize(("notebook", "rows"), [("04_x", 12), ("A4_x", 40)])
def test_a_long_table_says_where_the_rest_is_and_an_empty_one_why(run, notebook, rows):
    page = store.Page(notebook, run)
    frame = pd.DataFrame({"item": range(50), "value": 0.5, "low": 0.25, "high": 0.75})
    shown = page.show_table(frame, "tab04_long").data
    assert shown.count("0.50 [0.25, 0.75]") == rows and f"*{50 - rows} more rows in `figures/smoke/tab04_long.csv`*" in shown
    assert (
        page.show_table(frame.head(0), "tab04_none", empty="One seed: nothing to compare.").data.strip()
        == "One seed: nothing to compare."
    )


def test_words_that_are_hits_are_bold_in_every_form(run):
    page = store.Page("04_x", run)
    words = pd.DataFrame({"stage": ["sft"], "culture": ["us"], "value": ["**cereal**, 50_cm"]})
    assert "**cereal**, 50_cm" in page.show_table(words, "tab04_w", rows=["stage"], columns=["culture"]).data
    assert r"\textbf{cereal}, 50\_cm" in (run.figures / "tab04_w.tex").read_text()


def test_one_record_is_picked_or_none():
    records = [{"metric": "m", "culture": "us"}, {"metric": "m", "culture": "cn"}]
    assert store.pick_record(records, "m", culture="cn") == records[1] and store.pick_record(records, "x") is None
    with pytest.raises(ValueError, match="2 records of m"):
        store.pick_record(records, "m")


def test_the_main_line_does_without_what_only_its_appendix_shows(run, monkeypatch):
    monkeypatch.setenv("ALIGN_ROOT", str(run.root))
    full, main = (store.open_page(name, "smoke").cfg for name in ("A4_x", "04_x"))
    assert full.profile.critic_free.methods and full.profile.participants.n and main.runs == full.runs
    assert not main.profile.critic_free.methods and not main.profile.participants.n
    saved = config.read_profile("smoke", root=run.root).model_dump()
    assert main.profile.model_dump() | {key: saved[key] for key in ("critic_free", "participants")} == saved
