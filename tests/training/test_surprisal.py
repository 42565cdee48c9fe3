"""How unexpected people's lists are, token by token: against the model itself, against the notebook's own lines, and what is said of it."""

import json
import math

import pandas as pd
import pytest
import torch
from conftest import ROOT, copy_project, prepare

from align_utils import config, norms
from align_utils.lexical import lists
from align_utils.models import adapters, load, prompts
from align_utils.training import sentences, sft, surprisal, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    cfg = config.load("smoke", root=copy_project(tmp_path_factory.mktemp("surprisal")))
    people = prepare(cfg)
    train.train_stages(cfg, people, ["sft"])
    concepts = norms.pick_concepts(cfg)
    return cfg, people, concepts, surprisal.trace_surprisal(cfg, people, ["zero_shot", "sft"], concepts)


def test_log_probabilities_are_the_models_own(run):
    cfg, people, concepts, tokens = run
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=cfg.profile.seed)
    cue, culture = concepts["us"][1], "us"
    (words,) = prompts.draw_lists(people[culture].norms, [cue], length=cfg.profile.sft.list_length, order="strength", seed=0)
    prompt = prompts.build_list_prompt(cfg.languages["en"], cue)
    ids = tokenizer(prompt + " " + ", ".join(words), return_tensors="pt")["input_ids"]
    ids = torch.cat([ids, torch.tensor([[tokenizer.eos_token_id]])], dim=1)
    start = len(tokenizer(prompt)["input_ids"])
    with torch.no_grad():
        logs = torch.log_softmax(model(ids).logits[0].double(), dim=-1)
    expected = [float(logs[place - 1, ids[0, place]]) for place in range(start, ids.shape[1])]
    own = tokens.query("culture == 'us' and stage == 'zero_shot' and cue == @cue")
    assert own["log_probability"].tolist() == pytest.approx(expected, abs=1e-4) and set(own["split"]) == {"test"}
    # Each response with the separator behind it, and the list's end.
    pieces = own.groupby("response", sort=False)["token"].agg("".join)
    assert (
        pieces.index.tolist() == [*words, surprisal.END] and pieces.iloc[0] == f" {words[0]}, " and pieces.iloc[-2] == words[-1]
    )


def test_the_loss_of_the_records_is_that_of_the_package_and_of_the_trainer(run):
    cfg, people, _, tokens = run
    folder = adapters.find_adapter(cfg, "tiny", "cn", "sft")
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=cfg.profile.seed)
    model = adapters.attach_adapter(model, folder, "x").eval()
    held_out = sft.build_held_out(people["cn"], cfg.languages["zh"], cfg.profile.sft, seed=0)
    loss = sft.measure_loss(model, tokenizer, held_out, batch=8)
    records = surprisal.record_losses(cfg, tokens)
    values = {(r["metric"], r["culture"], r["stage"]): r for r in records}
    assert values["sft_loss_valid", "cn", "sft"]["value"] == pytest.approx(loss, abs=1e-5)
    log = pd.read_csv(folder / "log.csv").dropna(subset="eval_loss")["eval_loss"]
    change = values["sft_loss_change", "cn", "sft"]
    assert change["value"] == pytest.approx(log.iloc[-1] - log.iloc[0], abs=1e-4) and change["n"] == len(held_out)
    assert change["low"] <= change["value"] <= change["high"] < 0, "the tiny model does learn"


def test_the_notebooks_own_lines_give_the_packages_loss(run, capsys):
    cfg, people, concepts, tokens = run
    cells = json.loads((ROOT / "notebooks" / "02_sft.ipynb").read_text(encoding="utf-8"))["cells"]
    (source,) = ("".join(c["source"]) for c in cells if c["cell_type"] == "code" and "surprisal.mean()" in "".join(c["source"]))
    cue = concepts["us"][0]
    exec(source, {"cfg": cfg, "one": tokens.query("culture == 'us' and cue == @cue")})
    before, after = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=cfg.profile.seed)
    lists = prompts.draw_lists(people["us"].norms, [cue], length=cfg.profile.sft.list_length, order="strength", seed=0)
    example = sft.write_examples(cfg.languages["en"], [cue], lists)
    assert before == pytest.approx(sft.measure_loss(model, tokenizer, example, batch=1), abs=0.006)
    model = adapters.attach_adapter(model, adapters.find_adapter(cfg, "tiny", "us", "sft"), "x").eval()
    assert after == pytest.approx(sft.measure_loss(model, tokenizer, example, batch=1), abs=0.006)


def test_lists_to_show_are_those_of_the_grid_and_made_once(run, monkeypatch):
    cfg, people, concepts, _ = run
    answers = surprisal.answer_cues(cfg, people, concepts, ["few_shot", "sft"])
    assert answers.groupby(["culture", "stage"])["cue"].agg(list).map(len).eq(len(concepts)).all()
    assert set(answers["decoding"]) == {"distinct"}
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=cfg.profile.seed)
    model = adapters.attach_adapter(model, adapters.find_adapter(cfg, "tiny", "us", "sft"), "x").eval()
    way = next(one for one in cfg.profile.lexical.grid if one.distinct)
    plain = lists.generate_lists(cfg.profile.lexical, model, tokenizer, cfg.languages["en"], list(concepts["us"]), [way])
    assert answers.query("culture == 'us' and stage == 'sft'")["text"].tolist() == plain["text"].tolist()
    monkeypatch.setattr(adapters, "load_states", lambda *_: pytest.fail("stored already"))
    again = surprisal.answer_cues(cfg, people, concepts, ["few_shot", "sft"])
    pd.testing.assert_frame_equal(again, answers)


def test_weights_are_counted_without_loading(run):
    cfg, *_ = run
    model, _ = load.load_base(cfg.models["tiny"], seed=0)
    assert load.count_weights(cfg.models["tiny"]) == sum(weights.numel() for weights in model.parameters())


def loss_records(culture, before, after, low, high):
    own = {"model": "tiny", "culture": culture, "unit": "nats per token", "n": 48}
    return [
        {**own, "metric": "sft_loss_valid", "stage": "zero_shot", "value": before},
        {**own, "metric": "sft_loss_valid", "stage": "sft", "value": after},
        {**own, "metric": "sft_loss_change", "stage": "sft", "value": after - before, "low": low, "high": high},
    ]


@pytest.mark.parametrize(("change", "says"), [
    ((-1.0, -1.2, -0.8), "less surprising than before: from 4.79 to 3.79 nats per token, -1.00 [-1.20, -0.80] (United States) and from"),
    ((1.0, 0.8, 1.2), "more surprising than before: from 4.79 to 5.79"),
    ((0.01, -0.02, 0.03), "as surprising as before, within 0.05 nats: from 4.79 to 4.80"),
    ((-0.1, -0.3, 0.1), "Whether SFT makes people's lists less surprising cannot be told from 48 concepts: from 4.79"),
])  # fmt: skip
def test_the_sentence_of_the_loss_follows_its_records(cfg, change, says):
    value, low, high = change
    records = loss_records("us", math.log(120), math.log(120) + value, low, high) + loss_records("cn", 4.0, 3.0, -1.1, -0.9)
    said = sentences.state_loss(records, cfg)
    assert (
        says in said.text
        and "from 4.00 to 3.00 nats per token, -1.00 [-1.10, -0.90] (China)." in said.text
        and said.text.count("less surprising than before") == 1
    )
    assert said.records == records
    assert "not measured" in sentences.state_loss([], cfg).text


def test_controls_and_seeds_are_told_where_there_are_any(cfg):
    assert "no control" in sentences.state_taught([], cfg).text and "one seed" in sentences.state_seeds([], cfg).text
    gap = {"metric": "sft_loss_gap", "model": "tiny", "stage": "control_shuffled", "n": 48}
    records = [
        {**gap, "culture": "us", "value": 0.3, "low": 0.2, "high": 0.4}, {**gap, "culture": "cn", "value": 0.0, "low": -0.01, "high": 0.01},
        {**gap, "stage": "control_other_culture", "culture": "us", "value": -0.2, "low": -0.3, "high": -0.1},
        {**gap, "stage": "control_other_culture", "culture": "cn", "value": 0.1, "low": -0.1, "high": 0.3},
    ]  # fmt: skip
    said = sentences.state_taught(records, cfg)
    shuffled, same, other, open_ = said.text.split(". ")
    assert shuffled == "Training on shuffled cues leaves the loss above SFT's: +0.30 [+0.20, +0.40] (United States)"
    assert same == "Training on shuffled cues leaves the loss within 0.05 of SFT's: +0.00 [-0.01, +0.01] (China)"
    assert other == "Training on the other culture's norms leaves the loss below SFT's: -0.20 [-0.30, -0.10] (United States)"
    assert open_.startswith("Training on the other culture's norms is not shown to leave the loss above SFT's, or below: +0.10")
    both = [record | {"value": 0.5, "low": 0.4, "high": 0.6} for record in records[:2]]
    said = sentences.state_taught(both, cfg).text
    assert said.endswith("above SFT's: +0.50 [+0.40, +0.60] (United States) and +0.50 [+0.40, +0.60] (China).")
    seeds = [{"metric": "sft_loss_seeds", "model": "tiny", "culture": "us", "stage": stage, "seed": seed, "value": value}
             for stage, seed, value in (("sft", 3, 3.0), ("sft", 7, 3.2), ("control_shuffled", 3, 9.0))]  # fmt: skip
    assert "from 3.00 to 3.20 nats per token for the United States (2 seeds)." in sentences.state_seeds(seeds, cfg).text
