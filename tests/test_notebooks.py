"""The companion as a whole: all notebooks by the runner, a second run identical, a complete manifest, and how it fails."""

import hashlib
import json
import re

import nbformat
import pandas as pd
import pytest
import yaml
from conftest import ROOT, copy_project, copy_with_aims, run_notebooks

from align_utils import config
from align_utils.config.stages import list_asked
from align_utils.run import publish, runner
from align_utils.store import page as store_page
from align_utils.store import steps
from align_utils.survey.answers import average_orders
from align_utils.survey.values import load_values


def hash_tables(cfg):
    paths = sorted([*cfg.figures.iterdir(), *(cfg.runs / "metrics").iterdir()])
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_every_notebook_ran_and_made_every_file_its_source_names(smoke):
    for name in [*runner.list_notebooks(ROOT), *runner.list_notebooks(ROOT, appendix=True)]:
        executed = nbformat.read(smoke.runs / "notebooks" / f"{name}.ipynb", 4)
        code = [cell for cell in executed.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code)
        assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
        streams = [o for cell in code for o in cell.outputs if o.output_type == "stream"]
        shown = "".join(o.data.get("text/markdown", "") for cell in code for o in cell.outputs if "data" in o)
        assert name.startswith("A") or ("more rows" not in shown and "more columns" not in shown), "the main line cuts no table"
        # Progress goes to the terminal.
        assert len(streams) <= len(code) and not [o for o in streams if "it/s" in o.text or "%|" in o.text]
        (source,) = (ROOT / "notebooks").rglob(f"{name}.ipynb")
        for made in re.findall(r'"((?:fig|tab)[0A]\d_\w+)"', source.read_text().replace('\\"', '"')):
            suffixes = ("png", "svg", "pdf") if made.startswith("fig") else ("csv", "md", "tex")
            assert all((smoke.figures / f"{made}.{suffix}").stat().st_size > 0 for suffix in suffixes), made
        assert (smoke.runs / "metrics" / f"{name[:2]}.json").is_file()


def test_manifest_is_complete_and_true(smoke):
    entries = {entry["path"]: entry for entry in store_page.load_manifest(smoke)}
    made = {str(p.relative_to(smoke.root)) for p in [*smoke.figures.iterdir(), *(smoke.runs / "metrics").iterdir()]}
    assert made <= set(entries)
    for path, entry in entries.items():
        assert entry["sha256"] == steps.hash_file(smoke.root / path), path
        assert (ROOT / "notebooks").rglob(f"{entry['notebook']}.ipynb") and entry["inputs"]
        assert entry["seed"] == smoke.profile.seed and entry["versions"]["trl"] != "absent"
    assert str(smoke.root) not in json.dumps(list(entries.values()))
    # Nobody lists inputs by hand: they are what was read.
    inputs = {path: {source["path"] for source in entry["inputs"]} for path, entry in entries.items()}
    own = inputs["figures/smoke/tab01_norms.csv"]
    assert any(path.startswith("data/sample/swow/") for path in own)
    assert not [path for path in own if not path.startswith(("data/sample/swow/", "data/pairs.csv", "runs/smoke/norms/"))]
    assert {"runs/smoke/norms/us.parquet", "runs/smoke/associations/tiny_us.parquet"} <= inputs[
        "figures/smoke/tab04_precision_at_5.csv"
    ]
    people = "runs/smoke/survey/people/shares.parquet"
    assert {people, "runs/smoke/survey/tiny.parquet"} <= inputs["figures/smoke/tab06_shift.csv"]
    assert "data/sample/wvs/distributions.sample.csv" in inputs[people]
    assert {"runs/smoke/norms/us.parquet", f"runs/smoke/adapters/tiny/us/ppo/seed-{smoke.profile.seed}"} <= set(entries)


def read_output(cfg, name, word):
    """What the one cell of an executed notebook printed whose source has a word."""
    cells = nbformat.read(cfg.runs / "notebooks" / f"{name}.ipynb", 4).cells
    (cell,) = (cell for cell in cells if cell.cell_type == "code" and word in cell.source)
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def test_what_cells_compute_in_the_open_is_what_the_package_says(smoke):
    # 02, 03 and 04 have theirs beside the tests of their places.
    strength = read_output(smoke, "01_norms", "assign(strength")
    norms = pd.read_parquet(smoke.runs / "norms/us.parquet")
    cue = strength.split("\n")[1].split()[1]
    top = norms[norms["cue"] == cue].nsmallest(1, "rank")["strength"].item()
    assert float(strength.split("\n")[1].split()[-1]) == pytest.approx(top, abs=0.001)
    table = read_output(smoke, "05_wvs_survey", "orders.assign(answer").splitlines()[2:]
    answers = pd.read_parquet(smoke.runs / "survey/tiny.parquet")
    own = average_orders(
        answers[(answers["readout"] == "label") & (answers["stage"] == "zero_shot") & (answers["persona"] == "none")]
    )
    own = own[(own["question"] == smoke.profile.show.item) & (own["language"] == "en")]["share"]
    assert [float(line.split()[-1]) for line in table] == pytest.approx(own.tolist(), abs=0.001)
    ranked = pd.read_csv(smoke.figures / "tab06_high_tension.csv").set_index("question")["distance"]
    item = smoke.profile.show.item
    apart, moved = read_output(smoke, "06_wvs_analysis", "to_move").splitlines()
    assert float(apart.split()[1]) == pytest.approx(ranked[item], abs=0.001)
    shifts = load_values(smoke).shifts.query("question == @item and culture == 'cn' and stage == 'ppo' and language == 'zh'")
    (shift,) = shifts.loc[shifts["toward"] == "target", "shift"]
    assert float(moved.split()[-1]) == pytest.approx(shift, abs=0.001)


def test_an_appendix_asks_by_number_what_the_main_line_asks_by_words(smoke):
    main, more = (pd.read_parquet(smoke.runs / "survey" / f"tiny{end}.parquet") for end in ("", "_numbers"))
    cells = ["adapter", "stage", "language", "question"]
    own = main[main["stage"].isin(list_asked(smoke))]
    by_words, by_number = (
        set(map(tuple, own[own["readout"].eq("label") == label][cells].to_numpy())) for label in (False, True)
    )
    also = set(map(tuple, more[cells].to_numpy()))
    assert by_words and also == by_words and not also & by_number
    assert set(more["readout"]) == {"label"} and more.groupby([*cells, "order"])[
        "probability"
    ].sum().to_numpy() == pytest.approx(1)


def test_sentences_of_every_notebook_rest_on_its_metrics(smoke):
    told = {entry["key"] for path in (smoke.runs / "sentences").iterdir() for entry in json.loads(path.read_text())}
    assert {"concentration", "overlap", "leakage", "shift", "verdict", "counts", "answering", "number"} <= told
    assert len(told) > 14
    for number in ("01", "02", "03", "04", "05", "06"):
        own = json.loads((smoke.runs / "sentences" / f"{number}.json").read_text())
        known = json.loads((smoke.runs / "metrics" / f"{number}.json").read_text())
        assert own, number
        for sentence in own:
            # What is stated is among what the notebook measured; a sentence without records says that something was not.
            assert all(record in known for record in sentence["records"]), (number, sentence["key"])
            assert sentence["records"] or not re.search(r"\d\.\d", sentence["text"]), sentence["text"]


def test_metrics_hold_what_programs_read(smoke):
    frame = store_page.load_metrics(smoke)
    names = {
        "precision_at_5_attested", "precision_at_5_top", "human_ceiling_at_5", "concreteness_median", "valence_mean", "arousal_mean",
        "shift_toward_target", "aligned_with_china", "option_mass", "sft_loss_valid", "ppo_reward_valid", "ppo_kl",
    }  # fmt: skip
    assert names <= set(frame["metric"]) and (frame["data"] == "sample").all()
    stages = frame[frame["metric"] == "precision_at_5_attested"]
    assert {"zero_shot", "few_shot", "sft", "ppo", "frequency", "chance"} <= set(stages["stage"]) and set(
        stages["culture"]
    ) == {"us", "cn"}
    assert {"all", "no_reverse"} == set(stages["subset"]) and stages["value"].between(0, 1).all()


def test_every_figure_says_that_smoke_means_nothing(smoke):
    assert "mean nothing" in smoke.mark
    # The watermark is drawn as outlines; the text stands in the figures' pdf, whose fonts keep their letters.
    for path in smoke.figures.glob("*.svg"):
        assert path.read_text().count("rotate(-25") >= 1, path.name


def test_a_second_run_from_scratch_is_the_same_byte_for_byte(smoke, tmp_path):
    root = copy_with_aims(tmp_path)
    done = run_notebooks(root, "--appendix", "--profile", "smoke")
    assert done.returncode == 0, done.stderr[-3000:]
    assert hash_tables(config.load("smoke", root=root)) == hash_tables(smoke)


def test_items_without_an_order_are_asked_for_the_map_alone(smoke):
    aims = {"Q154", "Q155"}
    given = pd.read_parquet(smoke.runs / "survey/tiny.parquet")
    # The positive controls are asked the items with an order alone.
    asked = (
        given[~given["stage"].isin(["survey_taught", "persona"])].groupby(["adapter", "stage", "language"])["question"].agg(set)
    )
    assert len(asked) > 2 and asked.map(lambda questions: aims < questions and len(questions) == 62).all()
    tables = {path.stem: pd.read_csv(path) for path in smoke.figures.glob("tab[0A][56]_*.csv")}
    named = [table["question"] for table in tables.values() if "question" in table]
    assert len(named) > 2 and not [questions for questions in named if aims & set(questions)]
    # Other readings leave out bare numerals, which alone the positive controls are asked by label where another reading is chosen.
    tables["tabA5_answer_quality"] = tables["tabA5_answer_quality"].query(
        "readout == 'label' and stage not in ['persona', 'survey_taught']"
    )
    for name in ("tabA5_answer_quality", "tabA6_distances", "tabA6_shift"):
        assert set(tables[name]["n"]) == {60}, name
    # People, half of them, even answers and every answerer of the model have postmaterialism on the map.
    places = tables["tabA6_map"].query("axis == 'survival_selfexpression' and stage not in ['persona', 'survey_taught']")
    assert {"human", "human_half", "uniform", "zero_shot", "ppo"} <= set(places["stage"])
    assert set(places["n"]) == {5} and set(places["items"]) == {6}


def test_results_are_written_from_any_profile_without_a_word_or_an_item(smoke):
    publish.gather_sentences(smoke.root, "smoke")
    text = publish.rewrite((ROOT / "RESULTS.md").read_text(), smoke.root, "smoke")
    blocks = {(match[2], match[3]): match[0] for match in publish.BLOCK.finditer(text)}
    assert len(blocks) > 6 and publish.UNPUBLISHED not in text
    shares = pd.read_csv(smoke.figures / "tab04_precision_at_5.csv")
    for stage in ("few_shot", "sft", "ppo"):
        row = shares.query(f"stage == '{stage}' and culture == 'us' and reading == 'attested' and subset == 'all'").iloc[0]
        assert f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]" in blocks["table", "tab04_precision_at_5"], stage
    # A word of the norms would stand alone in a cell or in a list within one. The claims are ours, told before any norms are read,
    # and name the languages, which are cues too, as a table's heads do.
    shown = " ".join(blocks.values())
    for claim in pd.read_csv(smoke.figures / "tab06_paper.csv")["claim"]:
        assert claim in shown
        shown = shown.replace(claim, "")
    cues = set(pd.concat([pd.read_parquet(path, columns=["cue"]) for path in smoke.runs.glob("associations/*.parquet")])["cue"])
    heads = {language.label for language in smoke.languages.values()}
    assert len(cues) > 30 and not (cues - heads) & {cell.strip(" `*") for cell in re.split(r"[|,;\n]", shown)}
    assert not re.search(r"\bQ\d+\b", shown)


def test_summary_lists_figures_and_headline_numbers(smoke):
    done = run_notebooks(smoke.root, "--profile", "smoke", "--summary")
    assert done.returncode == 0 and "fig04_precision_at_5.png" in done.stdout and "precision_at_5_attested" in done.stdout


def test_a_missing_input_stops_with_the_cell_the_notebook_to_run_and_the_copy(tmp_path):
    root = copy_project(tmp_path)
    done = run_notebooks(root, "02_sft", "--profile", "smoke")
    assert done.returncode == 1
    for word in (
        "02_sft",
        "norms.load_run(cfg)",
        "MissingInput",
        "run notebook 01_norms first",
        "runs/smoke/notebooks/02_sft.ipynb",
    ):
        assert word in done.stderr, word
    # A port of this machine, free when it was chosen, may be taken when the kernel comes to bind it.
    assert "TCP" not in done.stderr
    assert (root / "runs/smoke/notebooks/02_sft.ipynb").is_file()


def test_a_third_culture_is_files_and_yaml_only(tmp_path):
    """Spanish joins US English: one culture, one language, its files; 01 and 04 run on it, with 02 and 03 between."""
    root = copy_project(tmp_path / "project")
    settings, data = root / "notebooks" / "settings", tmp_path / "mine"
    english = yaml.safe_load((settings / "languages/en.yaml").read_text())
    spanish = {**english, "label": "Spanish", "lemmatiser": "es", "list_prompt": "{cue}:", "ratings": {}}
    (settings / "languages/es.yaml").write_text(yaml.safe_dump(spanish))
    culture = {"label": "Rio de la Plata", "language": "es", "survey_country": "ARG", "survey_n": 1000}
    culture["norms"] = {"strengths": {"R123": ["strength.SWOWRP.R123*"]}}
    (settings / "cultures/rp.yaml").write_text(yaml.safe_dump(culture))
    overlay = {"extends": "smoke", "data": "real", "cultures": ["us", "rp"], "norms": {"valid_pairs": 4, "test_pairs": 8}}
    overlay["controls"] = ["control_shuffled", "control_foreign"]  # a handful of pairs translates no norms
    (settings / "profiles/third.yaml").write_text(yaml.safe_dump(overlay))
    (data / "swow").mkdir(parents=True)
    sample = ROOT / "data/sample/swow/strength.SWOW-EN-US.R123.sample.csv"
    (data / "swow/strength.SWOW-EN-US.R123.csv").write_text(sample.read_text())
    frame = pd.read_csv(sample, sep="\t", keep_default_na=False)
    frame["cue"], frame["response"] = frame["cue"] + "o", frame["response"] + "ez"
    frame.to_csv(data / "swow/strength.SWOWRP.R123.csv", sep="\t", index=False)
    cues = sorted(set(frame["cue"]))[:60]
    rows = pd.DataFrame({"cue_en": [cue[:-1] for cue in cues], "cue_es": cues, "domain": "x"})
    rows.to_csv(data / "swow/cue_pairs.csv", index=False)
    done = run_notebooks(root, "01", "02", "03", "04", "--profile", "third", ALIGN_DATA=str(data))
    assert done.returncode == 0, done.stderr[-4000:]
    table = pd.read_csv(root / "figures/third/tab04_precision_at_5.csv")
    assert {"us", "rp"} == set(table["culture"])
    assert (root / "runs/third/associations/tiny_rp.parquet").is_file()
    assert not pd.read_csv(root / "figures/third/tab04_human_level.csv").query("culture == 'rp'").size, (
        "not measured without a file"
    )
