"""What tuning costs: how well the model still predicts neutral prose that has nothing to do with associations."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.stages import list_seeds, list_trained
from align_utils.models.adapters import Plan, complete_steps, describe_step, read_steps
from align_utils.models.logprobs import score_tails
from align_utils.stats import summarise
from align_utils.store.steps import hash_file, save_frame
from align_utils.store.textfiles import read_table

# Bumped when this module's results change for the same settings.
FLUENCY_VERSION = 4
# Texts that are read at once: each goes on from a single token.
BATCH = 8


def load_texts(cfg: Config) -> tuple[pd.DataFrame, Path]:
    """Neutral sentences of the run's languages: `language, text` of `data/neutral.csv`, and the file."""
    path = cfg.root / "data" / "neutral.csv"
    frame = read_table(path, ["language", "text"])
    return frame[frame["language"].isin(cfg.languages)].reset_index(drop=True), path


def score_texts(model, tokenizer, texts: Sequence[str]) -> list[float]:
    """Negative log-likelihood of each text in nats, summed over its tokens (the first one, which has no context, left out)."""
    rows = [tuple(tokenizer(text)["input_ids"]) for text in texts]
    scored = score_tails(model, tokenizer.pad_token_id, [(row[:1], [row[1:]]) for row in rows], batch_tokens=BATCH)
    return [-float(logs.sum()) for (logs,) in scored]


def read_neutral(cfg: Config, name: str) -> pd.DataFrame:
    """Score the neutral texts with the untuned model and every adapter of the run, each in a stored step.

    Returns `language, text, nats, characters, model, culture` ('none' for the untuned model), `stage, seed`; one row a text and seed.
    """
    (texts, path), bare = load_texts(cfg), ("none", "zero_shot")

    def make(_, model, tokenizer, work):
        scored = texts.assign(nats=score_texts(model, tokenizer, texts["text"]), characters=texts["text"].str.len())
        save_frame(scored, work / "nats.parquet")

    states = [(bare, cfg.profile.seed)]
    states += [(state, seed) for state in product(cfg.cultures, list_trained(cfg)) for seed in list_seeds(cfg, state[1])]
    steps = {
        (*state, seed): describe_step(
            cfg, name, f"fluency/{name}_{'_'.join(state)}", None if state == bare else state, version=FLUENCY_VERSION, adapter_seed=seed,
            texts=hash_file(path), languages=list(cfg.languages),
        )
        for state, seed in states
    }  # fmt: skip
    complete_steps(cfg, name, Plan(steps, make, "neutral texts", "model", "close other programs"))
    return read_steps(name, steps, "nats.parquet")


def summarise_fluency(scored: pd.DataFrame, **bootstrap) -> pd.DataFrame:
    """Nats per character of every state and language, and the paired difference from the untuned model.

    Per character and not per token, so that models with other tokenizers can be set beside each other. Returns `model, culture, stage,
    language, value` (mean nats per character), `low, high, n, cost` (mean difference from the untuned model), `cost_low, cost_high`;
    bootstrap over texts, and over seeds where there are several.
    """
    by = ["model", "culture", "stage", "language"]
    scored = scored.assign(rate=scored["nats"] / scored["characters"])
    base = scored[scored["culture"] == "none"].set_index(["model", "language", "text"])["rate"]
    scored["cost"] = scored["rate"] - base.loc[pd.MultiIndex.from_frame(scored[["model", "language", "text"]])].to_numpy()
    table, costs = (summarise(scored, by, column, unit="text", run="seed", **bootstrap) for column in ("rate", "cost"))
    return table.assign(cost=costs["value"], cost_low=costs["low"], cost_high=costs["high"])
