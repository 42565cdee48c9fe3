"""The survey's ceiling control: what it is taught, its loss against a plain computation, and that it learns and is kept apart."""

from collections import Counter
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import change
from scipy.special import rel_entr

from align_utils import config
from align_utils.models import load as models
from align_utils.survey import ask as survey_ask
from align_utils.survey import items as survey_items
from align_utils.survey.items import halve_items, list_questions
from align_utils.training import taught, train


@pytest.fixture(scope="module")
def tiny(cfg):
    return models.load_base(cfg.models["tiny"], seed=3)


def pick(cfg, *questions):
    items = survey_items.load_items(cfg.root / "data" / "survey", choice="all")
    return items[items["question"].isin(questions)].reset_index(drop=True)


def test_halves_balance_topics_and_depend_on_the_seed(cfg):
    items = survey_items.load_items(cfg.root / "data" / "survey", choice="all")
    halves = halve_items(items, seed=1)
    counts = pd.crosstab(items["topic"], halves.to_numpy())
    assert (counts["a"] - counts["b"]).abs().max() <= 1 and list(halves.index) == items["question"].tolist()
    assert not halves.equals(halve_items(items, seed=2)) and halves.equals(halve_items(items, seed=1))


def test_the_loss_is_the_divergence_of_the_asked_shares(cfg, tiny):
    model, tokenizer = tiny
    # Four options, and ten, of which '1' and '10' begin alike; of both languages.
    asked = [q for q in list_questions(cfg, pick(cfg, "Q2", "Q48")) if q.order[0] == 0]
    rng = np.random.default_rng(0)
    shares = [rng.dirichlet(np.ones(len(q.order))) for q in asked]
    shares[0] = np.array([0.0, 0.5, 0.5, 0.0])  # an option that nobody took
    rows = [taught.encode(tokenizer, q, own) for q, own in zip(asked, shares, strict=True)]
    trainer = SimpleNamespace(accelerator=SimpleNamespace(unwrap_model=lambda model: model))
    expected = []
    for q, own in zip(asked, shares, strict=True):
        (score,) = survey_ask.score_labels(model, tokenizer, [_with_one_form(q)], batch_tokens=1000)
        expected.append(rel_entr(own, score / score.sum()).sum())
    # Whole texts in every reading, beside labels, as the survey scores them.
    worded = [(q, own) for q, own in zip(asked, shares, strict=True) if q.worded]
    assert {q.language for q, _ in worded} == {"en", "zh"}
    for kind, (q, own) in product(survey_ask.TEXT_READINGS, worded):
        (bare,) = survey_ask.drop_lists([q])
        lead = survey_ask.find_lead(cfg.languages[q.language])
        rows.append(taught.encode(tokenizer, bare, own, f"unlisted_{kind}", lead))
        table = survey_ask.score_options(cfg, model, tokenizer, [_with_one_form(bare)]).query("readout == @kind")
        expected.append(rel_entr(own, table["probability"].to_numpy()).sum())
    with torch.no_grad():
        loss = taught.ShareTrainer.compute_loss(trainer, model, taught.collate(rows, tokenizer.pad_token_id)).item()
        alone = [
            taught.ShareTrainer.compute_loss(trainer, model, taught.collate([row], tokenizer.pad_token_id)).item()
            for row in rows
        ]
    assert loss == pytest.approx(np.mean(expected), rel=1e-4) and alone == pytest.approx(expected, rel=1e-3)
    assert len({round(value, 6) for value in expected[-8::2]}) == 4, "in English no two readings say the same"


def test_a_lesson_is_read_as_it_will_be_asked(cfg):
    items = pick(cfg, "Q2", "Q3", "Q48", "Q49")
    shares = items.explode("codes")[["question", "codes"]].rename(columns={"codes": "code"}).astype({"code": int})
    shares["share"] = shares["code"] / shares.groupby("question")["code"].transform("sum")
    shares = pd.concat([shares.assign(culture=name) for name in cfg.cultures])
    readings = pd.DataFrame(
        {"language": ["en", "en", "zh"], "readout": ["label", "unlisted_pmi", "label"], "chosen": [False, True, True]}
    )
    lessons = taught.list_lessons(cfg, items, shares, readings)
    assert {
        question: stage[-1] for (_, stage), one in lessons.items() for question in {q.question for q in one.asked}
    }.keys() == set(items["question"])
    for lesson in lessons.values():
        for q, own, reading, lead in zip(lesson.asked, lesson.shares, lesson.readings, lesson.leads, strict=True):
            words = q.language == "en" and q.worded
            assert reading == ("unlisted_pmi" if words else "label") and lead == survey_ask.find_lead(cfg.languages[q.language])
            assert own == pytest.approx([q.codes[i] / sum(q.codes) for i in q.order])
            if words:  # once, without a list
                assert q.order == tuple(range(len(q.order))) and q.open_prompt == q.bare_prompt
        asked = [(q.question, q.language, q.order) for q in lesson.asked]
        assert len(set(asked)) == len(asked) and {q.language for q in lesson.asked} == {"en", "zh"}


def _with_one_form(q):
    return survey_items.Question(**{**vars(q), "forms": q.forms[:1]})


def test_items_are_drawn_alike_and_their_orders_vary(cfg):
    asked = list_questions(cfg, pick(cfg, "Q1", "Q2", "Q48"))
    chosen = taught.draw_questions(asked, 120, seed=5)
    assert Counter(asked[place].question for place in chosen) == {"Q1": 40, "Q2": 40, "Q48": 40}
    assert len(set(chosen)) == len(asked) and chosen == taught.draw_questions(asked, 120, seed=5)
    assert {asked[place].question for place in chosen[:3]} == {"Q1", "Q2", "Q48"}, "a pass takes every item once"


def test_an_adapter_learns_its_half_is_kept_and_taught_anew_when_shares_change(cfg, tmp_path, monkeypatch):
    own = config.overlay_config(
        change(cfg, survey={"taught": {"steps": 30, "batch": 4, "learning_rate": 0.02}}, lora={"r": 8, "alpha": 16}), {}, source="test", runs=tmp_path
    )  # fmt: skip
    items = pick(cfg, "Q1", "Q2", "Q3", "Q4")
    # Everybody takes one of the two ends, which stand in the same places in both orders.
    rows = [(q, c, code, 0.5 * (code in {1, 4})) for q in items["question"] for c in own.cultures for code in (1, 2, 3, 4)]
    shares = pd.DataFrame(rows, columns=["question", "culture", "code", "share"])

    read = pd.DataFrame({"language": ["en", "zh"], "readout": ["label", "unlisted_sum"], "chosen": True})
    monkeypatch.setattr(train, "load_readings", lambda *_: read)

    def teach(frame):
        return train.teach_survey(own, items, type("People", (), {"shares": frame}))

    folders = teach(shares)
    assert set(folders) == {("tiny", culture, f"survey_taught_{half}") for culture in own.cultures for half in "ab"}
    log = pd.read_csv(folders["tiny", "cn", "survey_taught_a"] / "log.csv")
    assert log["step"].tolist() == list(range(1, 31)) and log["loss"].iloc[-1] < 0.6 * log["loss"].iloc[0]
    parts = [set(pd.read_csv(folders["tiny", "us", f"survey_taught_{half}"] / survey_ask.TAUGHT)["question"]) for half in "ab"]
    assert not parts[0] & parts[1] and parts[0] | parts[1] == set(items["question"])
    before = {key: (folder / "step.json").stat().st_mtime_ns for key, folder in folders.items()}
    # China's shares of one item change: the adapter that is taught it, and no other, is trained again.
    moved = sorted(parts[0])[0]
    teach(shares.assign(share=shares["share"].mask((shares["question"] == moved) & (shares["culture"] == "cn"), 0.25)))
    after = {key: (folder / "step.json").stat().st_mtime_ns for key, folder in folders.items()}
    assert {key for key in folders if before[key] != after[key]} == {("tiny", "cn", "survey_taught_a")}
