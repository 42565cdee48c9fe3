"""Associations of every culture and stage to the test cues: stored steps, decoding chosen on validation cues, all stages alike."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from align_utils.adapters import find_adapter
from align_utils.artifacts import find_step, hash_file, hash_settings, make_step, read_frame, save_frame
from align_utils.config import Config
from align_utils.generation import VERSION, choose_decoding, generate_lists, load_states, pick_examples
from align_utils.models import hash_base, use_adapter
from align_utils.stages import find_state, list_stages, list_trained


def associate(cfg: Config, name: str, data: dict[str, dict]) -> list[Path]:
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


def _associate(cfg: Config, name: str, data: dict[str, dict], seed: int) -> None:
    settings = {
        (culture, stage): _describe(cfg, name, culture, stage, seed, data[culture])
        for culture in cfg.cultures
        for stage in _list_stages(cfg, seed)
    }
    folders = {key: _find_lists(cfg, name, *key, seed) for key in settings}
    open_steps = [key for key in settings if not find_step(folders[key], settings[key])]
    if open_steps:
        model, tokenizer, adapters = load_states(cfg, name, seed)
    for culture, stage in tqdm(open_steps, desc="stages", unit="stage"):
        with (
            make_step(folders[culture, stage], settings[culture, stage], remedy="lower lexical.batch in the profile") as work,
            use_adapter(model, adapters.get(find_state(cfg, culture, stage))),
        ):
            language, source = cfg.language_of(culture), data[culture]
            examples = pick_examples(cfg, source["norms"], source["cues"]["train"]) if stage == "few_shot" else ()
            label = f"{culture} {stage}"
            best, grid = choose_decoding(
                cfg, model, tokenizer, language, source["norms"], source["cues"]["valid"], examples=examples, label=label
            )
            lists = generate_lists(
                cfg, model, tokenizer, language, source["cues"]["test"], [best], examples=examples, label=label
            )
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


def _describe(cfg: Config, name: str, culture: str, stage: str, seed: int, source: dict) -> dict:
    state = find_state(cfg, culture, stage)
    adapter = find_adapter(cfg, name, *state, seed) if state else None
    weights = adapter / "adapter_model.safetensors" if adapter else None
    return {
        "version": VERSION, "base": hash_base(cfg.models[name], seed=cfg.profile.seed), "stage": stage, "culture": culture,
        "adapter": hash_file(weights) if weights and weights.is_file() else None, "norms": hash_file(source["path"]),
        "cues": hash_settings(source["cues"]), "seed": cfg.profile.seed, "list_length": cfg.profile.sft.list_length,
        "lexical": cfg.profile.lexical.model_dump(include={"few_shot", "max_new_tokens", "min_count", "grid", "batch"}),
        "language": cfg.language_of(culture).model_dump(include={"list_prompt", "list_lead", "separator", "remove_spaces"}),
    }  # fmt: skip
