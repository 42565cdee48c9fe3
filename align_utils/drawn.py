"""Lists as they are drawn from a model's own distribution, which a preference method trains; a decoded list shows its mode alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import pandas as pd
from tqdm import tqdm

from align_utils import lexical, prompts, stats
from align_utils.adapters import find_adapter
from align_utils.artifacts import find_step, hash_file, hash_settings, list_records, make_step, read_frame, save_frame
from align_utils.config import Config
from align_utils.generation import load_states, pick_examples
from align_utils.models import hash_base, use_adapter
from align_utils.participants import VERSION as SAMPLED
from align_utils.participants import sample_words
from align_utils.stages import TARGETS, find_state, list_contrasts, list_trained

# Bumped when this module's lists change for the same settings.
VERSION = 1
# Responses a list holds, and the K of its precision.
K = 5


def list_drawn(cfg: Config) -> tuple[str, ...]:
    """Stages whose lists are drawn: the untuned model with examples and what is trained on the culture's own norms."""
    return ("few_shot", *(name for name in list_trained(cfg) if name in TARGETS))


def draw_lists(cfg: Config, name: str, data: dict[str, dict]) -> list[Path]:
    """`lexical.drawn` lists of five responses for every test cue of every culture and stage of `list_drawn`, at temperature 1.

    Parameters
    ----------
    name : str
        Model of the profile.
    data : dict
        From `pairs.load_stage`.

    Returns
    -------
    list of Path
        `runs/<profile>/drawn/<model>_<culture>.parquet`: `model, culture, stage, participant` (number of the list), `cue,
        responses, text`; one stored step a culture and stage. None if `lexical.drawn` is 0.
    """
    if not cfg.profile.lexical.drawn:
        return []
    cells = [(culture, stage) for culture in cfg.cultures for stage in list_drawn(cfg)]
    settings = {cell: _describe(cfg, name, *cell, data[cell[0]]) for cell in cells}
    folders = {cell: cfg.runs / "steps" / "drawn" / f"{name}_{cell[0]}_{cell[1]}" for cell in cells}
    open_steps = [cell for cell in cells if not find_step(folders[cell], settings[cell])]
    if open_steps:
        model, tokenizer, adapters = load_states(cfg, name)
    for culture, stage in tqdm(open_steps, desc="drawn lists", unit="stage"):
        cell, language, source = (culture, stage), cfg.language_of(culture), data[culture]
        with (
            make_step(folders[cell], settings[cell], remedy="lower participants.batch in the profile") as work,
            use_adapter(model, adapters.get(find_state(cfg, culture, stage))),
        ):
            examples = pick_examples(cfg, source["norms"], source["cues"]["train"]) if stage == "few_shot" else ()
            cues = source["cues"]["test"]
            lists = sample_words(
                model, tokenizer, language, cues, [prompts.build_few_shot(language, examples, cue) for cue in cues],
                n=cfg.profile.lexical.drawn, words=K, temperature=1.0, max_new_tokens=cfg.profile.lexical.max_new_tokens,
                batch=cfg.profile.participants.batch, label=f"{culture} {stage}",
                seed=crc32(f"{cfg.profile.seed} {name} {culture} {stage} lists".encode()),
            )  # fmt: skip
            save_frame(lists.assign(model=name, culture=culture, stage=stage), work / "lists.parquet")
    paths = []
    for culture in cfg.cultures:
        parts = [pd.read_parquet(folders[culture, stage] / "lists.parquet") for stage in list_drawn(cfg)]
        paths.append(save_frame(pd.concat(parts, ignore_index=True), cfg.runs / "drawn" / f"{name}_{culture}.parquet"))
    return paths


def score_drawn(cfg: Config, paths: Sequence[Path], stage: dict[str, dict], families: dict) -> pd.DataFrame:
    """Precision@5 of drawn lists, the mean over a cue's lists; what a short list lacks counts as wrong.

    Parameters
    ----------
    paths : sequence of Path
        From `draw_lists`.
    stage, families : dict
        From `pairs.load_stage` and `pairs.map_families`.

    Returns
    -------
    DataFrame
        `model, culture, reading, stage, cue, family, precision`.
    """
    by, parts = ["model", "culture", "reading", "stage", "cue"], []
    for path in paths:
        lists = read_frame(path, made_by="04_lexical_alignment")
        (culture,) = lists["culture"].unique()
        scored = lexical.score_lists(
            lists[["model", "stage", "participant", "cue", "responses"]], stage[culture]["norms"], cfg.language_of(culture),
            ks=[K], min_count=cfg.profile.lexical.min_count, matching=cfg.profile.lexical.matching,
        )  # fmt: skip
        parts.append(scored.assign(culture=culture).groupby(by, sort=False, as_index=False)["precision"].mean())
    if not parts:
        return pd.DataFrame(columns=[*by, "family", "precision"])
    frame = pd.concat(parts, ignore_index=True).sort_values("reading", kind="stable", ignore_index=True)
    return frame.assign(family=[families[key] for key in zip(frame["culture"], frame["cue"], strict=True)])


def summarise_drawn(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Means over cues with intervals over families: `model, culture, reading, stage, value, low, high, n`."""
    return stats.summarise(scored, ["model", "culture", "reading", "stage"], "precision", unit="family", **cfg.bootstrap)


def compare_drawn(cfg: Config, scored: pd.DataFrame) -> pd.DataFrame:
    """Paired differences between stages, cue by cue; `p_holm` is adjusted over cultures and comparisons of one model and reading."""
    pairs = [pair for pair in list_contrasts(cfg) if set(pair) <= set(list_drawn(cfg))]
    by = ["model", "culture", "reading"]
    table = stats.compare(scored, by, "precision", over="stage", pairs=pairs, key="cue", unit="family", **cfg.bootstrap)
    table["p_holm"] = table.groupby(["model", "reading"])["p"].transform(lambda p: stats.adjust_holm(p))
    return table


def list_metrics(cfg: Config, means: pd.DataFrame, gaps: pd.DataFrame) -> list[dict]:
    """Metric records of drawn lists: `drawn_precision_at_5_<reading>` and its differences (`method`: the comparison)."""
    records, language = [], {name: culture.language for name, culture in cfg.cultures.items()}
    for table, suffix in ((means, ""), (gaps.rename(columns={"comparison": "method"}), "_difference")):
        for reading, part in table.groupby("reading", sort=False):
            tagged = part.assign(language=part["culture"].map(language), decoding="sampled")
            records += list_records(tagged, f"drawn_precision_at_{K}_{reading}{suffix}", unit="share")
    return records


def _describe(cfg: Config, name: str, culture: str, stage: str, source: dict) -> dict:
    state, settings = find_state(cfg, culture, stage), cfg.profile.lexical
    weights = find_adapter(cfg, name, *state) / "adapter_model.safetensors" if state else None
    shown = {"norms": hash_file(source["path"]), "train": hash_settings({"cues": source["cues"]["train"]})}
    return {
        "version": [VERSION, SAMPLED], "base": hash_base(cfg.models[name], seed=cfg.profile.seed), "stage": stage, "culture": culture,
        "adapter": hash_file(weights) if weights and weights.is_file() else None, "cues": hash_settings({"cues": source["cues"]["test"]}),
        "examples": {**shown, "count": settings.few_shot, "length": cfg.profile.sft.list_length} if stage == "few_shot" else None,
        "seed": cfg.profile.seed, "drawn": settings.drawn, "words": K, "max_new_tokens": settings.max_new_tokens,
        "language": cfg.language_of(culture).model_dump(include={"list_prompt", "list_lead", "separator", "remove_spaces"}),
    }  # fmt: skip
