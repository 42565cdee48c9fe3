"""Label probabilities: any tokeniser, labels that are prefixes of others, and parity with a plain loop."""

import numpy as np
import pytest
import torch

from align_utils import models, survey


class Words:
    """A tokeniser made of a function, for the planning tests."""

    def __init__(self, split):
        self.split = split

    def __call__(self, text):
        return {"input_ids": self.split(text)}


CHARACTERS = Words(lambda text: [ord(c) for c in text])
# ' 1' is one token; '10' goes on with '0'.
JOINED = Words(
    lambda text: [ord(c) for c in text[:-3]] + ([500, 48] if text.endswith(" 10") else [ord(text[-3]), 500 + int(text[-1])])
)


def test_one_context_serves_labels_of_one_token():
    plan = survey.plan_contexts(CHARACTERS, "Q:", ["1", "2", "3"])
    assert plan == {tuple(map(ord, "Q: ")): {ord("1"): [0], ord("2"): [1], ord("3"): [2]}}


def test_ten_goes_through_one():
    plan = survey.plan_contexts(CHARACTERS, "Q:", ["1", "2", "10"])
    context = tuple(map(ord, "Q: "))
    assert plan[context][ord("1")] == [0, 2] and plan[(*context, ord("1"))] == {ord("0"): [2]}
    logs = {context: {ord("1"): np.log(0.5), ord("2"): np.log(0.3)}, (*context, ord("1")): {ord("0"): np.log(0.2)}}
    assert survey._resolve(plan, logs, 3) == pytest.approx([0.4, 0.3, 0.1])


def test_a_label_joined_with_its_space_is_found():
    plan = survey.plan_contexts(JOINED, "Q:", ["1", "2"])
    assert plan == {tuple(map(ord, "Q:")): {501: [0], 502: [1]}}


@pytest.fixture(scope="module")
def tiny(cfg):
    return models.load_base(cfg.models["tiny"], seed=3)


def questions(cfg, language, k):
    texts = [f"Option {i}" if 0 < i < k - 1 or k < 10 else f"End {i}" for i in range(k)]
    texts = [str(i + 1) if 0 < i < k - 1 and k == 10 else text for i, text in enumerate(texts)]
    from align_utils import prompts

    return [
        survey.Question(
            "Q",
            language,
            "none",
            tuple(o),
            tuple(range(1, k + 1)),
            prompts.build_survey_prompt(cfg.languages[language], "Well?", texts, o),
        )
        for o in prompts.list_orders(k, numeric=k == 10)
    ]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("k", [2, 4, 10])
def test_parity_with_a_plain_uncached_loop(cfg, tiny, language, k):
    model, tokenizer = tiny
    asked = questions(cfg, language, k)
    fast = survey.score_labels(model, tokenizer, asked, batch_tokens=400)
    for question, scores in zip(asked, fast, strict=True):
        slow = []
        for place in range(1, k + 1):
            whole = tokenizer(f"{question.prompt} {place}")["input_ids"]
            start = len(tokenizer(f"{question.prompt} ")["input_ids"])
            with torch.no_grad():
                logs = torch.log_softmax(model(torch.tensor([whole])).logits[0].float(), -1)
            slow.append(sum(logs[i - 1, whole[i]].item() for i in range(start, len(whole))))
        slow = np.exp(slow)
        if k == 10:
            slow[0] -= slow[9]
        assert np.abs(np.log(scores) - np.log(slow)).max() < 1e-4


def test_every_presentation_is_asked_once(cfg):
    from align_utils import wvs

    items = wvs.load_items(cfg.root / "data" / "survey").query("question in ['Q2', 'Q48']")
    asked = survey.list_questions(cfg, items)
    assert len(asked) == 2 * (5 + 2) and len({q.prompt for q in asked}) == len(asked)
