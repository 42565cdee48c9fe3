"""Simulated participants on the tiny model: every draw against a plain loop, early ends, resuming, and the way to the table."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import copy_project, prepare
from peft import LoraConfig, get_peft_model

from align_utils import config
from align_utils.config import settings as config_settings
from align_utils.config import stages
from align_utils.lexical import drawn, participants, precision
from align_utils.models import adapters, decode
from align_utils.models import load as models
from align_utils.norms import split
from align_utils.plots import lexical as lexical_plots

WORDS = "abcxyz"
SETTINGS = config_settings.Participants(n=6, cues=9, words=3, temperature=1.0, max_new_tokens=18, batch=24)
CUES = ["dog", "a much longer cue", "sun"]


def make_talkative(seed):
    """The tiny model, made to prefer a few letters, separators and line ends: random rows then end at different steps."""
    cfg = config.load("smoke")
    model, tokenizer = models.load_base(cfg.models["tiny"], seed=seed)
    liked = torch.zeros(len(tokenizer))
    liked[tokenizer.convert_tokens_to_ids([*WORDS, ","])] = 9.0
    liked[tokenizer.convert_tokens_to_ids(["\n"])] = 7.5

    def favour(*call):
        call[-1].logits.mul_(3).add_(liked)

    model.register_forward_hook(favour)
    return model, tokenizer


@pytest.fixture(scope="module")
def talkative():
    return make_talkative(3)


def ask(talkative, english, cues, settings=SETTINGS, seed=5):
    asked = [f'To "{cue}", say:' for cue in cues]
    lists = drawn.sample_lists(
        *talkative, english, cues, asked, n=settings.n, words=settings.words, temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens, batch=settings.batch, seed=seed,
    )  # fmt: skip
    return participants.form_trials(lists, english)


def test_every_draw_is_that_of_a_plain_loop_without_cache_or_batch(talkative, english):
    model, tokenizer = talkative
    frame = ask(talkative, english, CUES)
    assert len(frame) == 18 and frame["cue"].tolist() == [cue for cue in CUES for _ in range(6)]
    ended = 0
    for row in frame.itertuples():
        uniform = np.random.default_rng([5, drawn.crc32(row.cue.encode())]).random((6, 18))[row.participant - 1]
        ids, text, found = tokenizer(f'To "{row.cue}", say:')["input_ids"], "", []
        for u in uniform:
            with torch.inference_mode():
                share = torch.softmax(model(torch.tensor([ids])).logits[0, -1].double(), dim=-1).numpy()
            token = int(np.searchsorted(share.cumsum(), u, side="right"))
            if tokenizer.decode([token]) == "\n":
                found, text = text.split(","), text + "\n"
                break
            ids, text = [*ids, token], text + tokenizer.decode([token])
            # Whole words only: what stands behind the last comma may go on.
            found = text.split(",")[:-1]
            distinct = list(dict.fromkeys(word.strip() for word in found if english.normalise(word)))
            if len(distinct) == 3:
                ended += 1
                break
        assert row.text == text
        words = list(dict.fromkeys(word.strip() for word in found if english.normalise(word)))
        assert (*words, "", "", "")[:3] == (row.R1, row.R2, row.R3)
    assert 3 <= ended < 18 and frame["R3"].eq("").any(), "both kinds of rows were there"


def test_answers_depend_on_the_seed_and_the_cue_alone(talkative, english):
    frame = ask(talkative, english, CUES)
    pd.testing.assert_frame_equal(ask(talkative, english, CUES), frame)
    alone = ask(talkative, english, CUES[2:])
    pd.testing.assert_frame_equal(alone, frame[frame["cue"] == "sun"].reset_index(drop=True))
    more = ask(talkative, english, CUES, SETTINGS.model_copy(update={"n": 8}))
    pd.testing.assert_frame_equal(more[more["participant"] <= 6].reset_index(drop=True), frame)
    assert ask(talkative, english, CUES, seed=6)["text"].tolist() != frame["text"].tolist()


def test_rows_that_have_ended_leave_the_batch_and_the_others_write_on_as_generate_does():
    model, tokenizer = make_talkative(4)
    stops = decode.find_stop_tokens(tokenizer)
    # The stop sign is liked just enough that greedy rows end at different steps.
    asked = [f'"{word}" makes me think of:' for word in ("dog", "sun", "rice", "a river", "tea", "moon", "cloud", "leaf")]
    ids, sizes = [tokenizer(text)["input_ids"] for text in asked], []
    seen = model.register_forward_pre_hook(lambda _, __, given: sizes.append(len(given["input_ids"])), with_kwargs=True)
    penalties = torch.linspace(1.0, 1.6, 8)
    rows = decode.continue_rows(
        model, tokenizer.pad_token_id, ids, ends=lambda _, new: new[-1] in stops, max_new_tokens=25,
        pick=lambda scores, all_ids, rows, _: decode.penalise(scores, all_ids, penalties[rows]).argmax(dim=-1),
    )  # fmt: skip
    seen.remove()
    plain = [
        model.generate(
            **tokenizer(text, return_tensors="pt"), do_sample=False, repetition_penalty=penalty, max_new_tokens=25,
            eos_token_id=stops, pad_token_id=tokenizer.pad_token_id,
        )[0, len(tokenizer(text)["input_ids"]) :].tolist()
        for text, penalty in zip(asked, penalties.tolist(), strict=True)
    ]  # fmt: skip
    assert rows == plain
    lengths = sorted(len(row) for row in rows)
    assert len(set(lengths)) >= 3, "the rows end at different steps, or this test shows nothing"
    # After the common beginning (one row) every step works for the open rows only.
    assert sizes[1:] == [sum(length > step for length in lengths) for step in range(lengths[-1])]


def test_draws_follow_the_whole_softmax():
    scores = torch.tensor([[1.0, 0.0, -1.0, 2.0, -30.0]])
    grid = (torch.arange(10_000) + 0.5) / 10_000
    for temperature in (1.0, 0.5):
        drawn = decode.draw_tokens(scores.expand(10_000, -1), grid, temperature=temperature)
        share = torch.softmax(scores[0].double() / temperature, dim=0)
        assert np.bincount(drawn, minlength=5) == pytest.approx(share.numpy() * 10_000, abs=1)
    assert decode.draw_tokens(scores, torch.tensor([1.0]), temperature=1.0).item() <= 4, "never beyond the vocabulary"


def test_markers_of_a_missing_answer_are_treated_as_peoples(talkative, english, monkeypatch):
    monkeypatch.setattr(drawn, "read_words", lambda *_, **__: ["NA", "cat", "Unknown word"])
    frame = ask(talkative, english, ["dog"])
    assert frame[["R1", "R2", "R3"]].drop_duplicates().values.tolist() == [["", "cat", ""]]


def make_adapter(cfg, culture, stage, seed):
    folder = adapters.find_adapter(cfg, "tiny", culture, stage)
    torch.manual_seed(seed)
    base, _ = models.load_base(cfg.models["tiny"], seed=cfg.profile.seed)
    adapter = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    adapter.save_pretrained(folder)
    (folder / "step.json").write_text(json.dumps({"key": str(seed)}))


def make_project(folder):
    """A copy of the project with prepared norms and an adapter for every trained stage, each with weights of its own."""
    cfg = config.load("smoke", root=copy_project(folder))
    people = prepare(cfg)
    for seed, (culture, stage) in enumerate((c, s) for c in cfg.cultures for s in stages.list_trained(cfg)):
        make_adapter(cfg, culture, stage, seed)
    return cfg, people


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("participants"))


def change(cfg, **settings):
    profile = cfg.profile.model_copy(update={"participants": cfg.profile.participants.model_copy(update=settings)})
    return config.Config(profile, cfg.root, cfg.data_dir)


def test_an_interrupted_run_goes_on_by_cell_to_the_same_answers(project, monkeypatch):
    cfg, stage = project
    panels = participants.load_panels(cfg, stage)
    sample, calls = drawn.sample_lists, []

    def stop_at_the_third(*args, **kwargs):
        calls.append(kwargs["label"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sample(*args, **kwargs)

    monkeypatch.setattr(drawn, "sample_lists", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        participants.simulate(cfg, stage, panels)
    frame = participants.simulate(cfg, stage, panels)
    # None named: the untuned model in both ways and the controls answer as SFT and PPO do.
    names = set(stages.list_stages(cfg))
    assert names > {"zero_shot", "few_shot", "sft", "ppo", "rloo", "control_shuffled", "control_foreign"}
    cells = len(names) * len(cfg.cultures)
    assert len(calls) == cells + 1, "two cells were there already, the third is asked again"
    pd.testing.assert_frame_equal(participants.simulate(cfg, stage, panels), frame)
    assert len(calls) == cells + 1 and set(frame["culture"]) == {"us", "cn"}
    n = cfg.profile.participants.n
    assert frame.groupby(["culture", "stage", "cue"]).size().eq(n).all() and len(frame) == cells * 4 * n
    assert set(frame["stage"]) == names
    by_stage = frame[frame["culture"] == "us"].groupby("stage")["text"].agg(tuple)
    assert by_stage.nunique() == len(names), "every stage answers for itself"
    # A deeper change of settings is another step.
    participants.simulate(change(cfg, temperature=0.5), stage, panels)
    assert len(calls) == 2 * cells + 1


def test_switched_off_there_are_tables_without_rows_and_a_figure_that_says_so(project):
    cfg, stage = project
    off = change(cfg, n=0)
    panels = participants.load_panels(off, stage)
    answers = participants.simulate(off, stage, panels)
    scored = participants.score_panels(off, answers, stage, panels, {})
    summary, contrasts = precision.summarise_measures(off, scored)
    assert answers.empty and scored.empty and summary.empty and contrasts.empty
    assert lexical_plots.plot_population(summary).texts[0].get_text().startswith("no simulated participants")


def test_cues_are_test_cues_that_people_answered_and_more_keep_the_earlier_ones(project):
    cfg, stage = project
    few, more = (participants.load_panels(change(cfg, cues=count), stage) for count in (3, 5))
    for culture in cfg.cultures:
        assert few[culture].cues == more[culture].cues[:3] and len(more[culture].cues) == 5
        assert set(more[culture].cues) <= set(stage[culture].cues["test"])
        assert set(more[culture].trials["cue"]) == set(more[culture].cues) == set(more[culture].strengths["cue"])


def test_answers_are_scored_beside_people_and_the_baseline(project):
    cfg, stage = project
    panels, families = participants.load_panels(cfg, stage), split.map_families(cfg)
    # Participants who say what people say most: five words over three people of the panel.
    rows = []
    for culture, panel in panels.items():
        for cue in panel.cues:
            best = panel.strengths.query("cue == @cue and rank <= 5")["response"].tolist()
            rows += [(culture, cue, 1, *best[:3]), (culture, cue, 2, *best[2:5])]
    frame = pd.DataFrame(rows, columns=["culture", "cue", "participant", "R1", "R2", "R3"])
    answers = pd.concat(
        [frame.assign(model="tiny", stage="ppo"), frame.assign(model="tiny", stage="sft", R1="", R2="", R3="x")]
    )
    scored = participants.score_panels(cfg, answers, stage, panels, families)
    summary, contrasts = precision.summarise_measures(cfg, scored)
    found = summary.set_index(["culture", "measure", "stage"])["value"].sort_index()
    for culture in cfg.cultures:
        strongest = found[culture, "precision_top"]
        assert strongest["ppo"] == pytest.approx(1) and strongest["sft"] == 0
        assert strongest["frequency"] < strongest["human"] < 1
        assert found[culture, "js_distance"]["human"] < found[culture, "js_distance"]["frequency"] <= 1
        assert found[culture, "shared_mass"]["sft"] == pytest.approx(0)
    assert set(summary["measure"]) == set(participants.POPULATION_MEASURES)
    gain = contrasts.query("comparison == 'ppo - sft' and culture == 'us' and measure == 'precision_top'").iloc[0]
    assert gain["value"] == pytest.approx(1) and gain["n"] == len(panels["us"].cues) and gain["p_holm"] >= gain["p"]
    figure = lexical_plots.plot_population(summary)
    assert len(figure.axes) == 2 * len(lexical_plots.POPULATION_PANELS)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][:2] == ["after PPO", "after SFT"]
