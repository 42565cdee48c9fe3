"""Lists for the few concepts that the notebooks of training show, before and after."""

from collections.abc import Sequence
from itertools import product

import pandas as pd

from align_utils.config.profiles import Config
from align_utils.config.stages import find_state
from align_utils.lexical.lists import LIST_FORM, LISTS, LISTS_VERSION, generate_lists, pick_examples
from align_utils.models.adapters import complete_steps, describe_step
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import hash_file, save_frame


def answer_cues(cfg: Config, people: dict[str, CultureNorms], concepts: pd.DataFrame, stages: Sequence[str]) -> pd.DataFrame:
    """`LISTS` of the profile's first model for a handful of cues, decoded so that no response comes twice; a stored step a stage.

    `people` are from `norms.load_run`, `concepts` from `norms.pick_concepts`, `stages` are who answers: MissingInput where one
    has not been trained.
    """
    name, grid, parts = next(iter(cfg.models)), cfg.profile.lexical.grid, []
    way = next((one for one in grid if one.distinct), grid[0])
    steps = {
        (culture, stage): describe_step(
            cfg, name, f"shown/{name}_{culture}_{stage}", find_state(cfg, culture, stage), version=LISTS_VERSION, stage=stage,
            norms=hash_file(people[culture].path), cues=list(concepts[culture]), seed=cfg.profile.seed, way=way.model_dump(),
            examples=pick_examples(cfg, people[culture], stage), max_new_tokens=cfg.profile.lexical.max_new_tokens,
            language=cfg.language_of(culture).model_dump(include=LIST_FORM),
        )
        for culture, stage in product(cfg.cultures, stages)
    }  # fmt: skip

    def make(cell, model, tokenizer, work):
        examples, language = pick_examples(cfg, people[cell[0]], cell[1]), cfg.language_of(cell[0])
        lists = generate_lists(
            cfg, model, tokenizer, language, list(concepts[cell[0]]), [way], examples=examples, label=" ".join(cell)
        )
        save_frame(lists, work / "lists.parquet")

    complete_steps(cfg, name, steps, make, desc="lists to show", unit="stage", remedy="lower lexical.batch in the profile")
    for (culture, stage), step in steps.items():
        lists = pd.read_parquet(step.folder / "lists.parquet")
        parts.append(lists.assign(model=name, culture=culture, stage=stage, seed=cfg.profile.seed))
    return LISTS.validate(pd.concat(parts, ignore_index=True)[list(LISTS.columns)])
