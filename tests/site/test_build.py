"""What the site is built from: figures described in their own words, folded cells, the explorer's hits, one clear error."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from matplotlib import pyplot as plt

sys.path.insert(0, str(ROOT / "site"))
import build
import explorer


def test_a_figure_is_described_by_its_own_words(tmp_path):
    figure, (left, right) = plt.subplots(1, 2)
    figure.suptitle("Does it move?")
    left.set(title="United States", xlabel="shift")
    right.set(title="China", xlabel="shift")
    left.text(0.5, 0.5, "chance 0.02")
    left.bar(["after SFT", "after PPO"], [1, 2], label="people")
    right.plot([1, 2], label="people")
    right.legend()
    figure.text(0.1, 0.1, "made up")
    figure.savefig(tmp_path / "one.svg")
    plt.close(figure)
    own = build.read_figure(tmp_path / "one.svg", "made up")
    assert own == {
        "title": "Does it move?",
        "caption": "Across: shift. Panels: United States; China.",
        "alt": "Does it move? Across: shift. Panels: United States; China. Rows: after SFT; after PPO. Legend: people. "
        "In the panels: chance 0.02.",
    }


def test_code_is_folded_unless_it_computes_in_view():
    folded = [
        'rows = survey.list_rows(cfg)\npage.show_table(rows, "tab06_rows")',
        "people = norms.load_run(cfg)",
        'page = store.open_page("x", P)\nprint(page)',
    ]
    shown = ["sum(word in said for word in first_five) / 5", "mean = total / 5\nprint(mean)", "frame.head()"]
    assert all(map(build.only_hands_over, folded)) and not any(map(build.only_hands_over, shown))


def test_hits_of_the_explorer_are_those_that_04_counts(smoke):
    data = explorer.gather(smoke)
    metrics = json.loads((smoke.runs / "metrics" / "04.json").read_text(encoding="utf-8"))
    known = {
        (m["culture"], m["stage"]): m["value"]
        for m in metrics if m["metric"] == "precision_at_5_attested" and m["subset"] == "all" and m["seed"] == smoke.profile.seed
    }  # fmt: skip
    asked = [concept for concept in data["concepts"] if concept["split"] == "test"]
    assert len(asked) == smoke.profile.norms.test_pairs and len(data["stages"]) > 5
    compared = 0
    for key, *_ in data["stages"]:
        for culture in smoke.cultures:
            stage = key.partition("|")[2]
            if (culture, stage) in known:
                hits = [sum(said > 0 for _, said, _ in concept["models"][culture][key]) for concept in asked]
                assert sum(hits) / 5 / len(asked) == pytest.approx(known[culture, stage]), key
                compared += 1
    assert compared >= 6
    assert len(json.dumps(data, ensure_ascii=False).encode()) < 500_000


def test_a_run_that_is_not_there_is_named_with_what_is(tmp_path):
    (tmp_path / "runs/smoke/notebooks").mkdir(parents=True)
    (tmp_path / "runs/smoke/notebooks/01_norms.ipynb").write_text("{}")
    environment = {**os.environ, "ALIGN_OUTPUT": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, ROOT / "site/build.py", "--profile", "cpu"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for word in ("runs/cpu/notebooks", "make reproduce PROFILE=cpu", "begun here: smoke"):
        assert word in done.stderr
