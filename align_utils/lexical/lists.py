"""Associations of every culture and stage: lists generated, decoding chosen on validation cues."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.settings import Decoding, Language
from align_utils.config.stages import find_state, list_stages, list_trained
from align_utils.lexical.precision import score_lists
from align_utils.models.adapters import find_adapter, load_states
from align_utils.models.decode import find_beginnings, find_boundary, generate_texts
from align_utils.models.load import hash_base, use_adapter
from align_utils.models.prompts import build_few_shot, draw_lists, parse_list
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import find_step, hash_file, hash_settings, make_step, progress, read_frame, save_frame

# Bumped when lists, or the choice of their decoding, change for the same settings.
LISTS_VERSION = 3


def generate_lists(
    cfg: Config,
    model,
    tokenizer,
    language: Language,
    cues: Sequence[str],
    decodings: Sequence[Decoding],
    *,
    examples=(),
    label: str = "",
) -> pd.DataFrame:
    """Associations of a model to cues under each decoding.

    Returns
    -------
    DataFrame
        `decoding, cue, text` (as generated) and `responses` (parsed list), one row a decoding and cue.
    """
    settings = cfg.profile.lexical
    asked = [build_few_shot(language, examples, cue) for cue in cues] * len(decodings)
    penalties = [decoding.repetition_penalty for decoding in decodings for _ in cues]
    beginnings = [find_beginnings(tokenizer, cue) if decoding.distinct else [] for decoding in decodings for cue in cues]
    texts = generate_texts(
        model, tokenizer, asked, penalties, max_new_tokens=settings.max_new_tokens, batch=settings.batch,
        boundary=find_boundary(tokenizer, language), beginnings=beginnings, label=label,
    )  # fmt: skip
    frame = pd.DataFrame(
        {"decoding": [d.name for d in decodings for _ in cues], "cue": list(cues) * len(decodings), "text": texts}
    )
    return frame.assign(responses=[parse_list(language, text, cue=cue) for cue, text in zip(frame["cue"], texts, strict=True)])


def choose_decoding(
    cfg: Config,
    model,
    tokenizer,
    language: Language,
    norms: pd.DataFrame,
    valid: Sequence[str],
    *,
    examples=(),
    label: str = "",
) -> tuple[Decoding, pd.DataFrame]:
    """Try every setting of the grid on the validation cues and take the best mean P@5 (attested; the first one at a tie).

    Returns
    -------
    (Decoding, DataFrame)
        The choice; `decoding, precision` of all settings.
    """
    label = f"{label}, choice of decoding"
    tried = generate_lists(cfg, model, tokenizer, language, valid, cfg.profile.lexical.grid, examples=examples, label=label)
    return rank_decodings(cfg, tried, norms, language)


def rank_decodings(cfg: Config, tried: pd.DataFrame, norms: pd.DataFrame, language: Language) -> tuple[Decoding, pd.DataFrame]:
    """The choice of `choose_decoding` from lists that were made with every setting of the grid (`generate_lists`)."""
    grid, scores = cfg.profile.lexical.grid, []
    for decoding in grid:
        lists = tried.loc[tried["decoding"] == decoding.name, ["cue", "responses"]]
        scored = score_lists(lists, norms, language, ks=[5], min_count=cfg.profile.lexical.min_count)
        scores.append(scored.loc[scored["reading"] == "attested", "precision"].mean())
    return grid[int(np.argmax(scores))], pd.DataFrame({"decoding": [d.name for d in grid], "precision": scores})


def pick_examples(cfg: Config, norms: pd.DataFrame, train: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Worked examples of the few-shot prompt: training cues drawn by the seed, with their strongest responses."""
    rng = np.random.default_rng(cfg.profile.seed)
    cues = [str(cue) for cue in rng.choice(sorted(train), size=cfg.profile.lexical.few_shot, replace=False)]
    lists = draw_lists(norms, cues, length=cfg.profile.sft.list_length, order="strength", seed=0)
    return list(zip(cues, lists, strict=True))


def associate(cfg: Config, name: str, data: dict[str, CultureNorms]) -> list[Path]:
    """Lists of every culture and stage for the test cues, decoding chosen on the validation cues with equal effort.

    Parameters
    ----------
    name : str
        Model of the profile.
    data : dict
        Culture to `norms` (DataFrame), `cues` (dict from `norms.split_cues`) and `path` (the norms' file, for the key).

    Returns
    -------
    list of Path
        `runs/<profile>/associations/<model>_<culture>.parquet`: `model, culture, stage, decoding, cue, text, responses`; beside
        it `<model>_<culture>_grid.csv`: `stage, decoding, precision, chosen`. Both with `seed`: trained stages have the profile's
        seeds, the untuned model and the foreign adapter the first.
    """
    for seed in cfg.seeds:
        _associate(cfg, name, data, seed)
    return [path for culture in cfg.cultures for path in _collect(cfg, name, culture)]


def _associate(cfg: Config, name: str, data: dict[str, CultureNorms], seed: int) -> None:
    settings = {
        (culture, stage): _describe(cfg, name, culture, stage, seed, data[culture])
        for culture in cfg.cultures
        for stage in _list_stages(cfg, seed)
    }
    folders = {key: _find_lists(cfg, name, *key, seed) for key in settings}
    open_steps = [key for key in settings if not find_step(folders[key], settings[key])]
    if open_steps:
        model, tokenizer, adapters = load_states(cfg, name, seed)
    for culture, stage in progress(open_steps, desc="stages", unit="stage"):
        with (
            make_step(folders[culture, stage], settings[culture, stage], remedy="lower lexical.batch in the profile") as work,
            use_adapter(model, adapters.get(find_state(cfg, culture, stage))),
        ):
            language, source = cfg.language_of(culture), data[culture]
            examples = pick_examples(cfg, source.norms, source.cues["train"]) if stage == "few_shot" else ()
            label = f"{culture} {stage}"
            best, grid = choose_decoding(
                cfg, model, tokenizer, language, source.norms, source.cues["valid"], examples=examples, label=label
            )
            lists = generate_lists(cfg, model, tokenizer, language, source.cues["test"], [best], examples=examples, label=label)
            save_frame(lists, work / "lists.parquet")
            save_frame(grid.assign(chosen=grid["decoding"] == best.name), work / "grid.csv")


def load_associations(cfg: Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lists and decoding grids of the run, as `associate` left them.

    Returns
    -------
    (DataFrame, DataFrame)
        `model, culture, stage, seed, decoding, cue, text, responses`; `model, culture, stage, seed, decoding, precision, chosen`.
    """
    base = cfg.runs / "associations"
    cells = [(model, culture) for model in cfg.models for culture in cfg.cultures]
    made_by = "04_lexical_alignment"
    lists = [read_frame(base / f"{model}_{culture}.parquet", made_by=made_by) for model, culture in cells]
    grids = [
        read_frame(base / f"{model}_{culture}_grid.csv", made_by=made_by).assign(model=model, culture=culture)
        for model, culture in cells
    ]
    grid = pd.concat(grids, ignore_index=True)[["model", "culture", "stage", "seed", "decoding", "precision", "chosen"]]
    return pd.concat(lists, ignore_index=True), grid


def _list_stages(cfg: Config, seed: int) -> tuple[str, ...]:
    return list_stages(cfg) if seed == cfg.profile.seed else list_trained(cfg)


def _find_lists(cfg: Config, name: str, culture: str, stage: str, seed: int) -> Path:
    more = "" if seed == cfg.profile.seed else f"_seed-{seed}"
    return cfg.runs / "steps" / "associations" / f"{name}_{culture}_{stage}{more}"


def _collect(cfg: Config, name: str, culture: str) -> list[Path]:
    cells = [(stage, seed) for seed in cfg.seeds for stage in _list_stages(cfg, seed)]
    folders = {cell: _find_lists(cfg, name, culture, *cell) for cell in cells}
    lists = [
        pd.read_parquet(folder / "lists.parquet").assign(stage=stage, seed=seed) for (stage, seed), folder in folders.items()
    ]
    grids = [pd.read_csv(folder / "grid.csv").assign(stage=stage, seed=seed) for (stage, seed), folder in folders.items()]
    frame = pd.concat(lists, ignore_index=True).assign(model=name, culture=culture)
    frame = frame[["model", "culture", "stage", "seed", "decoding", "cue", "text", "responses"]]
    base = cfg.runs / "associations"
    grid = pd.concat(grids, ignore_index=True)[["stage", "seed", "decoding", "precision", "chosen"]]
    return [save_frame(frame, base / f"{name}_{culture}.parquet"), save_frame(grid, base / f"{name}_{culture}_grid.csv")]


def _describe(cfg: Config, name: str, culture: str, stage: str, seed: int, source: CultureNorms) -> dict:
    state = find_state(cfg, culture, stage)
    adapter = find_adapter(cfg, name, *state, seed) if state else None
    weights = adapter / "adapter_model.safetensors" if adapter else None
    return {
        "version": LISTS_VERSION, "base": hash_base(cfg.models[name], seed=cfg.profile.seed), "stage": stage, "culture": culture,
        "adapter": hash_file(weights) if weights and weights.is_file() else None, "norms": hash_file(source.path),
        "cues": hash_settings(source.cues), "seed": cfg.profile.seed, "list_length": cfg.profile.sft.list_length,
        "lexical": cfg.profile.lexical.model_dump(include={"few_shot", "max_new_tokens", "min_count", "grid", "batch"}),
        "language": cfg.language_of(culture).model_dump(include={"list_prompt", "list_lead", "separator", "remove_spaces"}),
    }  # fmt: skip
