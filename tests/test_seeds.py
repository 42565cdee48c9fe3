"""Several seeds in the survey: every seed's adapters are asked, and the summaries hold both items and seeds."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import copy_project
from peft import PeftModel, get_peft_model

from align_utils import stats
from align_utils.config import profiles as config
from align_utils.models import load as models
from align_utils.models.adapters import configure_lora, find_adapter
from align_utils.survey import aligned, answers, ask, debias, questions, respondents, seeds, shifts, styles  # fmt: skip
from align_utils.survey import distances as survey_distances
from align_utils.survey import items as survey_items
from align_utils.survey import map as culture_map
from align_utils.survey.human import Human, load_human

ITEMS = [f"Q{number}" for number in range(1, 41)]
HUMAN = pd.DataFrame(
    [(q, c, code, s, 1000.0) for q in ITEMS for c, p in (("us", 0.9), ("cn", 0.2)) for code, s in ((1, p), (2, 1 - p))],
    columns=["question", "culture", "code", "share", "n"],
)
TENSION = pd.DataFrame({"question": ITEMS, "tension": 0.7, "chosen": True})
FIRST, SECOND = 11, 7


def change(cfg, **fields):
    stats = cfg.profile.stats.model_copy(update={"resamples": 2000})
    return config.Config(cfg.profile.model_copy(update={"stats": stats, **fields}), cfg.root, cfg.data_dir)


def answer(adapter, stage, shares, *, seed):
    """Both orders of a question of two options; with two options the distance is the difference of the first one's shares."""
    names = {"model": "m", "adapter": adapter, "stage": stage, "language": "zh", "persona": "none", "seed": seed}
    return pd.DataFrame([
        {**names, "question": q, "order": order, "place": place, "code": code, "probability": s}
        for q, p in zip(ITEMS, shares, strict=True)
        for order in (0, 1)
        for code, s, place in ((1, p, 1 + order), (2, 1 - p, 2 - order))
    ])  # fmt: skip


# Worked by hand: untuned 0.6 (0.4 from cn, 0.3 from us). SFT moves all items to 0.4 with one seed and ten of forty with the
# other; the control moves none with one seed, and all to 0.5 with the other.
GIVEN = pd.concat([
    answer("none", "zero_shot", [0.6] * 40, seed=FIRST),
    answer("cn", "sft", [0.4] * 40, seed=FIRST), answer("cn", "sft", [0.4] * 10 + [0.6] * 30, seed=SECOND),
    answer("cn", "control_shuffled", [0.6] * 40, seed=FIRST), answer("cn", "control_shuffled", [0.5] * 40, seed=SECOND),
])  # fmt: skip


def analyse(cfg, given):
    """As notebook 06: (moved, judged)."""
    averaged, halves = answers.average_orders(given), respondents.draw_halves(cfg, Human(HUMAN))
    distances, references = (
        survey_distances.measure_distances(averaged, HUMAN),
        survey_distances.measure_baselines(HUMAN, halves),
    )
    moved = shifts.add_contrast(shifts.find_controls(cfg, shifts.measure_shifts(distances, references)))
    everyone = survey_distances.add_baselines(averaged, survey_distances.build_baselines(HUMAN, halves))
    measured = survey_distances.add_baselines(distances, references)
    return moved, aligned.judge_items(measured, everyone, HUMAN, TENSION, toward="cn", away="us")


def test_the_spread_over_two_seeds_worked_by_hand(cfg):
    cfg = change(cfg, seed=FIRST, seeds=[SECOND], controls=[])
    table = seeds.summarise_seeds(*analyse(cfg, GIVEN)).set_index(["measure", "stage"])
    columns = [f"seed {FIRST}", f"seed {SECOND}", "mean", "sd", "seeds"]
    expected = {
        ("shift toward target", "sft"): (0.2, 0.05), ("shift toward target", "control_shuffled"): (0.0, 0.1),
        ("contrast", "sft"): (0.4, 0.1), ("shift above shuffled", "sft"): (0.2, -0.05),
        ("aligned by nearer", "sft"): (1.0, 0.25), ("aligned by nearer", "control_shuffled"): (0.0, 1.0),
    }  # fmt: skip
    for key, pair in expected.items():
        row = [*pair, np.mean(pair), abs(pair[0] - pair[1]) / 2**0.5, 2]
        assert table.loc[key, columns].astype(float).tolist() == pytest.approx(row), key
    assert set(table.index.get_level_values("stage")) == {"sft", "control_shuffled"} and set(table["note"]) == {""}
    fewer = GIVEN[(GIVEN["stage"] != "control_shuffled") | (GIVEN["seed"] == FIRST)]
    row = seeds.summarise_seeds(*analyse(cfg, fewer)).set_index("measure").loc["shift above shuffled"]
    assert row["note"] == "seeds: 2 of sft, 1 of control_shuffled; compared within a seed"
    assert row["seeds"] == 1 and row["mean"] == pytest.approx(0.2) and np.isnan(row["sd"])


def test_intervals_hold_both_seeds(cfg):
    cfg = change(cfg, seed=FIRST, seeds=[SECOND], controls=[])
    moved, judged = analyse(cfg, GIVEN)
    shift = shifts.summarise_shifts(cfg, moved).set_index(["stage", "toward"]).loc[("sft", "target")]
    above = shifts.compare_controls(cfg, moved).set_index("toward").loc["target"]
    counts = aligned.count_aligned(cfg, judged).set_index(["reading", "culture", "stage"])
    halves = respondents.draw_halves(cfg, Human(HUMAN))
    far = answers.summarise_distances(cfg, GIVEN, HUMAN, halves).query("orders == 'all' and to == 'cn'").set_index("stage")
    count = counts.loc[("nearer", "cn", "sft")]
    # A quarter of the draws takes one seed twice: each interval reaches from one seed's mean to the other's.
    for row, ends in ((shift, (0.05, 0.2)), (above, (-0.05, 0.2)), (count, (0.25, 1.0)), (far.loc["sft"], (0.2, 0.35))):
        assert row["value"] == pytest.approx(np.mean(ends)) and row["n"] == 40
        assert row["low"] <= ends[0] + 0.01 and row["high"] >= ends[1] - 0.01, "items alone would be narrower"
    assert count[["count", "gained", "lost", "shared"]].tolist() == [25, 25, 0, 0] and count["p"] < 0.01
    assert far.loc["zero_shot", ["value", "low", "high"]].tolist() == pytest.approx([0.4] * 3)
    assert counts.loc[("nearer", "none", "zero_shot"), "count"] == 0 and np.isnan(counts.loc[("nearer", "cn", "human"), "p"])
    metrics = pd.DataFrame(aligned.list_aligned_metrics(cfg, counts.reset_index()))
    assert set(metrics.loc[metrics["unit"] == "p", "method"]) == {"random signs"}


def test_one_seed_gives_the_tables_of_no_seed_at_all(cfg):
    cfg = change(cfg, seed=FIRST, controls=[])
    rng = np.random.default_rng(0)
    states = [("none", "zero_shot"), ("cn", "sft"), ("us", "sft"), ("cn", "control_shuffled")]
    given = pd.concat([answer(*state, rng.uniform(0.3, 0.7, 40), seed=FIRST) for state in states])
    halves = respondents.draw_halves(cfg, Human(HUMAN))
    made = []
    for frame in (given, given.drop(columns="seed")):
        moved, judged = analyse(cfg, frame)
        made.append([
            shifts.summarise_shifts(cfg, moved), shifts.compare_controls(cfg, moved), aligned.count_aligned(cfg, judged),
            answers.summarise_distances(cfg, frame, HUMAN, halves),
        ])  # fmt: skip
    for one, none in zip(*made, strict=True):
        pd.testing.assert_frame_equal(one, none, check_exact=True)
    table = seeds.summarise_seeds(*analyse(cfg, given))
    assert set(table["note"]) == {stats.ALONE} and table["sd"].isna().all() and (table["seeds"] == 1).all()
    assert table["mean"].equals(table[f"seed {FIRST}"].rename("mean"))


def test_styles_and_map_take_the_mean_over_seeds(cfg):
    items = survey_items.choose_items(cfg)
    human = load_human(cfg, items).shares
    rng = np.random.default_rng(0)
    names = [("none", "zero_shot", FIRST), ("cn", "sft", FIRST), ("cn", "sft", SECOND)]
    averaged = pd.DataFrame([
        {"model": "m", "adapter": a, "stage": s, "language": "zh", "persona": "none", "seed": seed, "question": item.question,
         "code": code, "share": share}
        for a, s, seed in names for item in items.itertuples()
        for code, share in zip(item.codes, rng.dirichlet(np.ones(len(item.codes))), strict=True)
    ])  # fmt: skip
    whole = survey_items.load_items(cfg.root / "data" / "survey", choice="all", nominal=True)
    axes = culture_map.load_axes(cfg.root / "data" / "survey" / "map.yaml", whole)
    ranked = survey_distances.rank_tension(human, "us", "cn", size=5)
    alone = [averaged[averaged["seed"] == FIRST], averaged[(averaged["stage"] == "zero_shot") | (averaged["seed"] == SECOND)]]
    made = {
        "style": lambda frame: styles.summarise_styles(cfg, styles.score_styles(frame, items)),
        "axis": lambda frame: culture_map.summarise_map(cfg, culture_map.score_components(axes, items, frame)),
        "place": lambda frame: aligned.list_answers(frame, human, items, ranked, culture="cn", language="zh"),
    }
    for name, make in made.items():
        numbers = ["share"] if name == "place" else ["value", *(["move", "items"] if name == "axis" else []), "n"]
        both, *each = (make(frame)[numbers].to_numpy(dtype=float) for frame in (averaged, *alone))
        np.testing.assert_allclose(both, np.mean(each, axis=0), atol=1e-12, err_msg=name)
        assert not np.allclose(*each, equal_nan=True), "the seeds differ"


@pytest.fixture
def run(cfg, tmp_path):
    """Adapters of two seeds with weights drawn at random, as training leaves them."""
    root = copy_project(tmp_path)
    own = cfg.profile.critic_free.model_copy(update={"methods": []})
    asked = cfg.profile.survey.model_copy(update={"readouts": ["label", "generated"], "sample_items": 2})
    profile = cfg.profile.model_copy(update={"critic_free": own, "controls": [], "survey": asked})
    one = config.Config(profile, root, cfg.data_dir)
    two = config.Config(profile.model_copy(update={"seeds": [SECOND]}), root, cfg.data_dir)
    number = 0
    for seed in two.seeds:
        for culture in one.cultures:
            for stage in ("sft", "ppo"):
                torch.manual_seed(number := number + 1)
                model, _ = models.load_base(one.models["tiny"], seed=one.profile.seed)
                tuned = get_peft_model(model, configure_lora(one))
                for name, weight in tuned.named_parameters():
                    if "lora_B" in name:
                        torch.nn.init.normal_(weight, std=0.5)
                folder = find_adapter(one, "tiny", culture, stage, seed)
                tuned.save_pretrained(folder)
                (folder / "step.json").write_text("{}")
    return one, two


def test_every_seed_is_asked_and_what_is_stored_stays(run, monkeypatch):
    one, two = run
    items = survey_items.load_items(one.root / "data" / "survey").query("question in ['Q2', 'Q48', 'Q66']")
    ask.ask_survey(one, "tiny", items)
    before, written = answers.load_answers(one), answers.load_generated(one)
    steps = {path: path.read_bytes() for path in (one.runs / "steps" / "survey").rglob("*") if path.is_file()}
    states = ["none_zero_shot", *(f"{culture}_{stage}" for culture in one.cultures for stage in ("sft", "ppo"))]
    assert {path.parent.name for path in steps} == {f"tiny_{s}_{readout}" for s in states for readout in ("label", "generated")}
    for path in steps:
        if path.name == "step.json":
            assert not {"seed", "seeds"} & set(json.loads(path.read_text())["settings"]), "the key of before"
    asked, plain = [], ask.read_answers
    monkeypatch.setattr(ask, "read_answers", lambda cfg, model, *a: asked.append(model.active_adapter) or plain(cfg, model, *a))
    ask.ask_survey(two, "tiny", items)
    assert sorted(asked) == sorted(state for state in states[1:] for _ in range(2)), "the second seed's alone"
    assert {path: path.read_bytes() for path in steps} == steps
    every = answers.load_answers(two)
    pd.testing.assert_frame_equal(answers.pick_seed(two, every), before)
    pd.testing.assert_frame_equal(answers.load_generated(two), written)
    found = every.groupby("stage")["seed"].agg(set).to_dict()
    assert found == {"zero_shot": {one.profile.seed}, "sft": set(two.seeds), "ppo": set(two.seeds)}
    # The second seed's rows are the answers of the second seed's weights.
    model, tokenizer = models.load_base(one.models["tiny"], seed=one.profile.seed)
    tuned = PeftModel.from_pretrained(model, find_adapter(two, "tiny", "cn", "ppo", SECOND)).eval()
    scores = ask.score_labels(tuned, tokenizer, questions.list_questions(two, items), batch_tokens=400)
    mine = every.query("adapter == 'cn' and stage == 'ppo' and seed == @SECOND")
    assert mine["probability"].to_numpy() == pytest.approx(np.concatenate([s / s.sum() for s in scores]), abs=1e-5)
    other = every.query("adapter == 'cn' and stage == 'ppo' and seed != @SECOND")
    assert not np.allclose(mine["probability"], other["probability"], atol=1e-3)
    prior = debias.estimate_prior(mine).set_index(["language", "options", "place"])["prior"]
    sizes = mine.groupby("question")["place"].transform("max")
    assert mine["place_prior"].tolist() == pytest.approx(
        [prior[key] for key in zip(mine["language"], sizes, mine["place"], strict=True)]
    )
    averaged = answers.average_orders(every)
    assert averaged.groupby([*questions.ANSWERER, "seed", "question"])["share"].sum().to_numpy() == pytest.approx(1)


def test_items_without_an_order_leave_what_is_stored_of_the_others(run):
    one, _ = run
    items = survey_items.load_items(one.root / "data" / "survey", choice="all", nominal=True)
    items = items.query("question in ['Q2', 'Q48', 'Q66', 'Q154']")
    ask.ask_survey(one, "tiny", items.query("kind == 'ordered'"))
    before = answers.load_answers(one)
    steps = {path: path.read_bytes() for path in (one.runs / "steps" / "survey").rglob("*") if path.is_file()}
    ask.ask_survey(one, "tiny", items)
    assert {path: path.read_bytes() for path in steps} == steps
    # The place priors of the ordered items do not hang on the others.
    pd.testing.assert_frame_equal(answers.load_answers(one), before)
    every = answers.load_answers(one, nominal=True)
    asked = every[every["question"] == "Q154"].groupby([*questions.ANSWERER, "order"])["probability"].sum()
    assert len(asked) == 5 * 2 * 5 and asked.to_numpy() == pytest.approx(1), "answerers, languages, orders"
