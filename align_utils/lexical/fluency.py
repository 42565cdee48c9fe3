"""What tuning costs: how well the model still predicts neutral prose that has nothing to do with associations."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from align_utils.config.profiles import Config
from align_utils.config.stages import list_seeds, list_trained
from align_utils.models.adapters import find_adapter, load_states, use_adapter
from align_utils.models.load import hash_base
from align_utils.stats import summarise
from align_utils.store.steps import find_step, hash_file, make_step, note_read, progress, save_frame
from align_utils.store.textfiles import read_table

# Bumped when this module's results change for the same settings.
FLUENCY_VERSION = 3


def load_texts(cfg: Config) -> tuple[pd.DataFrame, Path]:
    """Neutral sentences of the run's languages: `language, text` of `data/neutral.csv`, and the file."""
    path = cfg.root / "data" / "neutral.csv"
    frame = read_table(path, ["language", "text"])
    return frame[frame["language"].isin(cfg.languages)].reset_index(drop=True), path


@torch.inference_mode()
def score_texts(model, tokenizer, texts: Sequence[str], *, batch: int = 8) -> list[float]:
    """Negative log-likelihood of each text in nats, summed over its tokens (the first one, which has no context, left out)."""
    lengths, scores = [len(tokenizer(text)["input_ids"]) for text in texts], [0.0] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: lengths[i])
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        # Padded on the right, where a causal model cannot see it; a padded target does not count.
        given = tokenizer([texts[i] for i in chosen], padding=True, padding_side="right", return_tensors="pt").to(model.device)
        ids, held = given["input_ids"], given["attention_mask"]
        logits = model(input_ids=ids, attention_mask=held).logits[:, :-1].float()
        losses = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        totals = (losses.view(len(chosen), -1) * held[:, 1:]).sum(1)
        for i, total in zip(chosen, totals.tolist(), strict=True):
            scores[i] = total
    return scores


def read_neutral(cfg: Config, name: str) -> pd.DataFrame:
    """Score the neutral texts with the untuned model and every adapter of the run, all seeds in one stored step.

    Returns `model, culture` ('none' for the untuned model), `stage, seed, language, text, nats, characters`; one row a text and seed.
    """
    texts, path = load_texts(cfg)
    trained = [(culture, stage) for culture in cfg.cultures for stage in list_trained(cfg)]
    states = [("none", "zero_shot", cfg.profile.seed), *((*own, seed) for own in trained for seed in list_seeds(cfg, own[1]))]
    weights = [find_adapter(cfg, name, *state) / "adapter_model.safetensors" for state in states]
    settings = {
        "version": FLUENCY_VERSION, "base": hash_base(cfg.models[name], seed=cfg.profile.seed), "texts": hash_file(path),
        "adapters": [hash_file(file) if file.is_file() else None for file in weights], "states": states,
        "languages": list(cfg.languages),
    }  # fmt: skip
    folder = cfg.runs / "steps" / "fluency" / name
    # One step of many answerers, which `complete_steps` has no key for; the models of one seed are loaded at a time.
    if not find_step(folder, settings):
        with make_step(folder, settings) as work:
            parts = []
            for seed in cfg.seeds:
                mine = [state for state in states if state[2] == seed]
                model, tokenizer, adapters = load_states(cfg, name, seed, [state[:2] for state in mine if state[0] != "none"])
                for culture, stage, own in progress(mine, desc="neutral texts", unit="model"):
                    with use_adapter(model, adapters.get((culture, stage))):
                        nats = score_texts(model, tokenizer, texts["text"])
                    parts.append(texts.assign(nats=nats, culture=culture, stage=stage, seed=own))
            frame = pd.concat(parts, ignore_index=True).assign(model=name, characters=lambda rows: rows["text"].str.len())
            columns = ["model", "culture", "stage", "seed", "language", "text", "nats", "characters"]
            save_frame(frame[columns], work / "nats.parquet")
    return pd.read_parquet(note_read(folder / "nats.parquet"))


def summarise_fluency(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Nats per character of every state and language, and the paired difference from the untuned model.

    Per character and not per token, so that models with other tokenizers can be set beside each other. Returns `model, culture, stage,
    language, value` (mean nats per character), `low, high, n, cost` (mean difference from the untuned model), `cost_low, cost_high`;
    bootstrap over texts, and over seeds where there are several.
    """
    by = ["model", "culture", "stage", "language"]
    scored = scored.assign(rate=scored["nats"] / scored["characters"])
    base = scored[scored["culture"] == "none"].set_index(["model", "language", "text"])["rate"]
    scored["cost"] = scored["rate"] - base.loc[pd.MultiIndex.from_frame(scored[["model", "language", "text"]])].to_numpy()
    table, costs = (
        summarise(scored, by, column, unit="text", run="seed" if len(cfg.seeds) > 1 else None, **cfg.bootstrap)
        for column in ("rate", "cost")
    )
    return table.assign(cost=costs["value"], cost_low=costs["low"], cost_high=costs["high"])
