"""Read-outs of the survey: written forms, refusals, whole texts and greedy answers, against plain uncached loops."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import copy_project

from align_utils import config
from align_utils.models import adapters, logprobs, prompts
from align_utils.models import load as models
from align_utils.store import steps
from align_utils.survey import answers
from align_utils.survey import ask as survey_ask
from align_utils.survey import items as survey_items


def letters(text):
    """A tokeniser of one token a character."""
    return {"input_ids": [ord(c) for c in text]}


def joined(text):
    """' 1' and ':1' are one token each."""
    return letters(text.replace(" 1", "!").replace(":1", "?"))


def test_a_label_joined_with_what_stands_before_it_is_found():
    context, tails = logprobs.split_texts(joined, "Q:", [" 1", " 2"])
    assert context == tuple(map(ord, "Q:")) and tails == [(ord("!"),), (ord(" "), ord("2"))]
    context, tails = logprobs.split_texts(joined, "Q:", ["1", "2"])
    assert context == (ord("Q"),) and tails == [(ord("?"),), (ord(":"), ord("2"))]


def test_a_text_that_goes_on_is_not_the_shorter_one():
    read = [((1,), np.log([0.5])), ((1, 2), np.log([0.5, 0.5])), ((1, 2, 3), np.log([0.5, 0.5, 0.2])), ((4,), np.log([0.3]))]
    assert logprobs.exclude_longer(read) == pytest.approx([0.25, 0.2, 0.05, 0.3])


@pytest.fixture(scope="module")
def tiny(cfg):
    return models.load_base(cfg.models["tiny"], seed=3)


def ask(cfg, language, k):
    labels = ["Very", *(f"Point {i}" if k < 10 else str(i) for i in range(2, k)), "Very little"]
    spoken = cfg.languages[language]
    return [
        survey_items.Question(
            "Q", language, "none", tuple(order), tuple(range(1, k + 1)),
            *(prompts.build_survey_prompt(spoken, "Well?", labels, order, lead=lead) for lead in (spoken.answer_lead, spoken.text_lead)),
            tuple(labels[i] for i in order), tuple(spoken.answer_forms),
        )
        for order in prompts.list_orders(k, numeric=k == 10)
    ]  # fmt: skip


def test_texts_are_read_where_a_language_or_a_run_has_none(cfg, tiny):
    frame = survey_ask.score_options(cfg, *tiny, [*ask(cfg, "en", 3), *ask(cfg, "zh", 10)])
    assert set(frame["language"]) == {"en"} and set(frame["readout"]) == set(survey_ask.TEXT_READINGS)
    assert survey_ask.ask_model(cfg, *tiny, ask(cfg, "zh", 10), "text").empty


def read_plainly(model, tokenizer, prompt, text):
    """Log-probability of a text after a prompt: one whole uncached pass."""
    whole, start = tokenizer(prompt + text)["input_ids"], len(tokenizer(prompt)["input_ids"])
    with torch.no_grad():
        logs = torch.log_softmax(model(torch.tensor([whole])).logits[0].float(), -1)
    return sum(logs[i - 1, whole[i]].item() for i in range(start, len(whole)))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("k", [2, 4, 10])
def test_labels_add_up_their_written_forms(cfg, tiny, language, k):
    asked = ask(cfg, language, k)
    fast = survey_ask.score_labels(*tiny, asked, batch_tokens=400)
    for question, scores in zip(asked, fast, strict=True):
        slow = np.zeros(k)
        for form in ("", " "):
            part = np.exp([read_plainly(*tiny, question.prompt, f"{form}{place}") for place in range(1, k + 1)])
            if k == 10:
                part[0] -= part[9]
            slow += part
        assert np.abs(np.log(scores) - np.log(slow)).max() < 1e-4


def test_a_model_that_overflows_has_no_opinion(cfg):
    model, tokenizer = models.load_base(cfg.models["tiny"], seed=3)
    asked = ask(cfg, "en", 4)
    model.get_output_embeddings().weight.data[7] = float("nan")
    with pytest.raises(steps.ModelError, match="scores are not finite numbers"):
        survey_ask.score_labels(model, tokenizer, asked, batch_tokens=400)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("batch_tokens", [1, 300, 100_000])
def test_whole_texts_in_any_batch_are_those_of_a_plain_loop(cfg, tiny, language, batch_tokens):
    asked = ask(cfg, language, 4)
    texts = [[f"{q.forms[0]}{option}" for option in q.options] for q in asked]
    rows = logprobs.read_texts(*tiny, list(zip([q.open_prompt for q in asked], texts, strict=True)), batch_tokens=batch_tokens)
    for q, given, row in zip(asked, texts, rows, strict=True):
        slow = [read_plainly(*tiny, q.open_prompt, text) for text in given]
        assert [logs.sum() for _, logs in row] == pytest.approx(slow, abs=1e-4)
    q, bare = asked[0], np.array([0.5, 0.0, 0.0, 0.0])
    slow = np.array([read_plainly(*tiny, q.open_prompt, text) for text in texts[0]])
    tokens = [len(tiny[1](q.open_prompt + text)["input_ids"]) - len(tiny[1](q.open_prompt)["input_ids"]) for text in texts[0]]
    expected = [slow, slow / tokens, slow / [len(option) for option in q.options], slow - bare]
    shares = survey_ask.share_texts(rows[0], q.options, bare)
    for name, values in zip(survey_ask.TEXT_READINGS, expected, strict=True):
        assert shares[name] == pytest.approx(np.exp(values) / np.exp(values).sum(), rel=1e-3)


def test_a_context_is_read_once_however_many_tails(tiny):
    model, tokenizer = tiny
    context, seen = tuple(tokenizer("What is it? Answer:")["input_ids"]), []
    heads = []
    hook = model.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    second = model.lm_head.register_forward_hook(lambda _, args, output: heads.append(output.flatten(0, -2).shape[0]))
    logprobs.score_tails(model, 0, [(context, [(7, 8), (7, 9), (10, 11, 12)])], batch_tokens=1000)
    hook.remove()
    second.remove()
    # The context with the beginning (10, 11), then (7,); something is scored after (), (10,), (10, 11) and after (7,).
    assert seen == [len(context) + 2, 1] and heads == [3, 1]


def test_a_short_context_beside_a_long_tail_is_read_alike(tiny):
    model, tokenizer = tiny
    asked = [((2, 300), [(301, 302), (303,)]), ((2, 300), [(304, 305, 306, 307), (304, 308)]), ((2, 300, 309), [(301,)])]
    together = logprobs.score_tails(model, 0, asked, batch_tokens=1000)
    for (context, tails), rows in zip(asked, together, strict=True):
        for tail, logs in zip(tails, rows, strict=True):
            with torch.no_grad():
                whole = torch.log_softmax(model(torch.tensor([[*context, *tail]])).logits[0].float(), -1)
            slow = [whole[len(context) - 1 + i, token].item() for i, token in enumerate(tail)]
            assert logs == pytest.approx(slow, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (" 2", 2),
        ("(3) Never.", 3),
        ("\n\nAlways, I think", 1),
        ("not often\n1", 2),
        ("4", None),
        ("10", None),
        ("Perhaps", None),
    ],
)
def test_generated_answers_are_parsed(cfg, text, place):
    assert survey_ask.parse_answer(text, ["Always", "Not often", "Never"], cfg.languages["en"].normalise) == place


def test_chinese_texts_are_parsed_by_the_longest(cfg):
    options = ["同意", "非常同意", "不同意"]
    parse = [
        survey_ask.parse_answer(text, options, cfg.languages["zh"].normalise)
        for text in ("非常同意。", "不同意", "同意吧", "第2")
    ]
    assert parse == [2, 3, 1, None]


def test_a_read_out_never_goes_without_the_label(cfg):
    given = cfg.profile.survey.model_dump()
    with pytest.raises(ValueError, match="cannot be left out"):
        type(cfg.profile.survey)(**(given | {"readouts": ["text"]}))


def share_people(cfg, tiny, items):
    """SHARES of people who answer as the untuned model does in Chinese, by whole texts without a list; numerals evenly."""
    asked = [q for q in survey_items.list_questions(cfg, items) if q.language == "zh"]
    frame = survey_ask.score_options(cfg, *tiny, survey_ask.drop_lists(asked)).query("readout == 'sum'")
    read = frame[["question", "code", "probability"]].rename(columns={"probability": "share"})
    rest = [(q.question, code, 1 / len(q.codes)) for q in asked if not q.worded and q.order[0] == 0 for code in q.codes]
    return pd.concat([read, pd.DataFrame(rest, columns=["question", "code", "share"]).drop_duplicates()], ignore_index=True)


def test_the_survey_by_all_read_outs(cfg, tiny, tmp_path, monkeypatch):
    wanted = {"readouts": ["label", "text", "unlisted", "generated"], "sample_items": 2, "orders": "all"}
    profile = cfg.profile.model_copy(update={"survey": cfg.profile.survey.model_copy(update=wanted)})
    mine = config.Config(profile, copy_project(tmp_path), cfg.data_dir)
    monkeypatch.setattr(adapters, "load_states", lambda *_: (*tiny, {}))
    monkeypatch.setattr(survey_ask, "list_asked", lambda *_: ())
    items = survey_items.load_items(cfg.root / "data" / "survey").query("question in ['Q2', 'Q48', 'Q66']")
    halves = survey_items.halve_items(items, seed=mine.profile.seed)
    for culture, half in product(mine.cultures, "ab"):
        folder = adapters.find_adapter(mine, "tiny", culture, f"survey_taught_{half}")
        steps.save_frame(halves[halves == half].rename_axis("question").reset_index(), folder / survey_ask.TAUGHT)
    states, plan = {}, survey_ask._plan

    def note(cfg, name, asked):
        for (state, *_), own in asked.items():
            states.setdefault(state, set()).update(q.question for q in own)
        return plan(cfg, name, asked)

    monkeypatch.setattr(survey_ask, "_plan", note)
    # People answer as the untuned model does in Chinese by whole texts without a list, and in no way that it does in English.
    human = pd.concat([share_people(mine, tiny, items).assign(culture=name) for name in mine.cultures])
    paths = survey_ask.ask_survey(mine, "tiny", items, human)
    label, every = answers.load_answers(mine, readout="label"), answers.load_answers(mine, readout=None)
    sums = every.groupby([*answers.ANSWERER, "readout", "question", "order"])["probability"].sum()
    assert sums.to_numpy() == pytest.approx(1)
    texts = [f"{form}_{name}" for form in ("text", "unlisted") for name in survey_ask.TEXT_READINGS]
    assert set(every["readout"]) == {"label", *texts} and set(label["readout"]) == {"label"}
    # Q48 has ten points, of which eight have no words: no text to read.
    assert set(label["question"]) == {"Q2", "Q48", "Q66"} and set(every.loc[every["readout"] != "label", "question"]) == {
        "Q2",
        "Q66",
    }
    asked = next(q for q in survey_items.list_questions(mine, items) if q.language == "zh" and q.question == "Q2")
    slow = sum(np.exp(read_plainly(*tiny, asked.open_prompt, text)) for text in mine.languages["zh"].refusals)
    stored = label.query("language == 'zh' and question == 'Q2'")["refusal_mass"]
    assert stored.nunique() == 1 and stored.iloc[0] == pytest.approx(slow, rel=1e-3)
    written = answers.load_generated(mine)
    assert len(paths) == 2 and len(written) == 2 * 2 and written["place"].between(0, 4).all()
    table = answers.compare_readouts(every, written)
    assert list(table["readout"].unique()) == [*texts, "generated"]
    text = every.query(
        "readout == 'text_pmi' and language == 'zh' and question == 'Q2' and order == 0 and stage == 'zero_shot'"
    )["probability"]
    gain = [
        read_plainly(*tiny, asked.open_prompt, t) - read_plainly(*tiny, mine.languages["zh"].text_lead, t)
        for t in asked.options
    ]
    assert text.to_numpy() == pytest.approx(np.exp(gain) / np.exp(gain).sum(), rel=1e-3)
    # Without a list the options are asked once, in their own order.
    alone = every.query("readout == 'unlisted_sum' and language == 'zh' and question == 'Q2' and stage == 'zero_shot'")
    slow = np.exp([read_plainly(*tiny, asked.bare_prompt, t) for t in asked.options])
    assert alone["order"].tolist() == [0] * 4 and alone["probability"].to_numpy() == pytest.approx(slow / slow.sum(), rel=1e-3)
    # The reading that agrees with people is chosen for its language, and numerals stay with the label.
    table = answers.load_readings(mine, "tiny").set_index(["language", "readout"])
    assert table.loc[("zh", "unlisted_sum"), "value"] == pytest.approx(1) and table.loc[("zh", "unlisted_sum"), "chosen"]
    assert table.groupby("language")["chosen"].sum().to_dict() == {"en": 1, "zh": 1} and set(table["n"]) == {2}
    chosen = answers.load_answers(mine)
    read = chosen.query("language == 'zh'").groupby("question")["readout"].agg(set).to_dict()
    assert read == {"Q2": {"unlisted_sum"}, "Q48": {"label"}, "Q66": {"unlisted_sum"}}
    (english,) = table.loc["en"].query("chosen").index
    assert set(chosen.query("language == 'en' and question != 'Q48'")["readout"]) == {english}
    # The untuned model as a person from each country; each taught adapter the half that it was not taught: by that reading alone.
    controls = chosen.query("stage == 'persona'")
    assert set(controls["adapter"]) == {"us", "cn"} and set(controls["persona"]) == {"none"}
    assert set(controls["question"]) == {"Q2", "Q48", "Q66"}
    assert set(label.query("stage == 'persona' and language == 'zh'")["question"]) == {"Q48"}
    assert set(states) == {
        ("none", "zero_shot"),
        ("none", "persona"),
        *((c, f"survey_taught_{h}") for c in ("us", "cn") for h in "ab"),
    }
    for (_, stage), questions in states.items():
        if "taught" in stage:
            assert questions == {q for q in items["question"] if halves[q] != stage[-1]}
    assert set(chosen.query("stage == 'survey_taught'")["question"]) == {"Q2", "Q48", "Q66"}
    quality = answers.describe_readouts(every).query("stage == 'zero_shot'")
    assert (quality["refusal mass"].notna() == (quality["readout"] == "label")).all()
