"""Neutral prose: the scores are the model's own loss, and a tuned adapter is compared text by text."""

import pandas as pd
import pytest
import torch

from align_utils.lexical import fluency
from align_utils.models import load as models


def test_scores_are_the_loss_of_the_model(cfg):
    model, tokenizer = models.load_base(cfg.models["tiny"], seed=3)
    texts = ["A short text.", "湖里的水大部分来自春天。"]
    for text, score in zip(texts, fluency.score_texts(model, tokenizer, texts), strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        assert score == pytest.approx(float(model(ids, labels=ids).loss) * (ids.shape[1] - 1), rel=1e-5)


def test_cost_is_paired_by_text(cfg):
    rows = [("none", "zero_shot", 10.0, 30.0), ("us", "sft", 12.0, 34.0)]
    scored = pd.DataFrame([
        {"model": "tiny", "culture": culture, "stage": stage, "language": "en", "text": text, "nats": nats, "characters": size, "seed": cfg.profile.seed}
        for culture, stage, *both in rows
        for text, nats, size in zip("ab", both, (10, 20), strict=True)
    ])  # fmt: skip
    table = fluency.summarise_fluency(scored, **cfg.bootstrap)
    assert table["value"].tolist() == pytest.approx([1.25, 1.45])  # (1.0 + 1.5) / 2 and (1.2 + 1.7) / 2
    assert table["cost"].tolist() == pytest.approx([0, 0.2]) and table["cost_low"].iloc[1] == pytest.approx(0.2)


def test_neutral_texts_come_in_parallel(cfg):
    texts, _ = fluency.load_texts(cfg)
    assert texts.groupby("language").size().eq(20).all() and not texts["text"].duplicated().any()
