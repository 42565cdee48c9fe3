"""Lists of every culture and stage: generated, their decoding chosen on validation cues, stored and read again."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from align_utils.config.profiles import Config
from align_utils.config.settings import Decoding, Language, Lexical
from align_utils.config.stages import find_state, list_seeds, list_stages
from align_utils.lexical.precision import RATED, score_lists
from align_utils.models.adapters import Plan, Step, complete_steps, describe_step, read_steps
from align_utils.models.decode import generate_texts
from align_utils.models.prompts import SEPARATORS, build_list_prompt, draw_lists, parse_list
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import hash_file, hash_settings, read_frame, save_frame

# The folder of the lists whose first five responses count, and of those that are written to their end (appendix).
FIRST, WHOLE = "associations", "associations_whole"
# Bumped when lists, or the choice of their decoding, change for the same settings.
LISTS_VERSION = 4
# A list for a cue: `text` as generated, `responses` parsed from it in their order.
LISTS = pa.DataFrameSchema({
    "model": pa.Column(str), "culture": pa.Column(str), "stage": pa.Column(str), "seed": pa.Column(int), "decoding": pa.Column(str),
    "cue": pa.Column(str), "text": pa.Column(str), "responses": pa.Column(object),
})  # fmt: skip
GRID_COLUMNS = ["stage", "seed", "decoding", "precision", "chosen"]
# What of a language's settings a list depends on.
LIST_FORM = frozenset({"list_prompt", "list_lead", "separator", "remove_spaces"})


def read_words(language: Language, text: str, *, cue: str, ended: bool) -> list[str]:
    """Words of an answer that are complete: what follows the last separator counts only if the line has ended.

    >>> from align_utils import config
    >>> en = config.load("smoke").languages["en"]
    >>> read_words(en, " cat, bone, ba", cue="dog", ended=False), read_words(en, " cat, bone, ba", cue="dog", ended=True)
    (['cat', 'bone'], ['cat', 'bone', 'ba'])
    """
    if not ended:
        found = list(SEPARATORS.finditer(text))
        text = text[: found[-1].start()] if found else ""
    return parse_list(language, text, cue=cue)


def generate_lists(
    lexical: Lexical, model, tokenizer, language: Language, cues: Sequence[str], decodings: Sequence[Decoding], *, examples=(),
    words: int | None = None, label: str = "",
) -> pd.DataFrame:  # fmt: skip
    """A list for every decoding and cue: `decoding, cue, text, responses`; of `words` responses at most, with which it ends."""
    asked = list(product(decodings, cues))

    def full(place: int, text: str) -> bool:
        return len(read_words(language, text, cue=asked[place][1], ended=False)) >= words

    texts = generate_texts(
        model, tokenizer, [build_list_prompt(language, cue, examples) for _, cue in asked], [way.repetition_penalty for way, _ in asked],
        max_new_tokens=lexical.max_new_tokens, batch=lexical.batch, language=language,
        distinct=[cue if way.distinct else None for way, cue in asked], full=full if words else None, label=label,
    )  # fmt: skip
    rows = [
        (way.name, cue, text, parse_list(language, text, cue=cue)[:words])
        for (way, cue), text in zip(asked, texts, strict=True)
    ]
    return pd.DataFrame(rows, columns=["decoding", "cue", "text", "responses"])


def rank_decodings(
    lexical: Lexical, tried: pd.DataFrame, norms: pd.DataFrame, language: Language
) -> tuple[Decoding, pd.DataFrame]:
    """The setting of those tried whose lists (`generate_lists`) have the best mean P@5, attested; `decoding, precision` of all.

    The first one wins a tie.
    """
    grid, scores = [point for point in lexical.grid if point.name in set(tried["decoding"])], []
    for decoding in grid:
        lists = tried.loc[tried["decoding"] == decoding.name, ["cue", "responses"]]
        scored = score_lists(lists, norms, language, ks=[5], min_count=lexical.min_count)
        scores.append(scored.loc[scored["reading"] == "attested", "precision"].mean())
    return grid[int(np.argmax(scores))], pd.DataFrame({"decoding": [d.name for d in grid], "precision": scores})


def pick_examples(cfg: Config, own: CultureNorms, stage: str = "few_shot") -> list[tuple[str, list[str]]]:
    """Worked examples of the few-shot prompt: training cues drawn by the seed, with their strongest responses; none for other stages."""
    if stage != "few_shot":
        return []
    rng = np.random.default_rng(cfg.profile.seed)
    cues = [str(cue) for cue in rng.choice(sorted(own.cues["train"]), size=cfg.profile.lexical.few_shot, replace=False)]
    lists = draw_lists(own.norms, cues, length=cfg.profile.sft.list_length, order="strength", seed=0)
    return list(zip(cues, lists, strict=True))


def plan_lists(cfg: Config, name: str, people: dict[str, CultureNorms], *, whole: bool = False) -> Plan:
    """Lists of every culture, stage and seed for the test cues, decoding chosen on the validation cues with equal effort.

    `name` is a model of the profile, `people` are from `norms.load_run`. With `whole` the lists go on beyond the RATED
    responses that count, of the untuned model without examples too; a stage that has lists already keeps its decoding. SFT and the
    preference stages have all of the profile's seeds, everything else the first.
    """
    folder, words = (WHOLE, None) if whole else (FIRST, RATED)
    grids, settings = {}, cfg.profile.lexical
    if whole:
        known = load_decodings(cfg).query("chosen and model == @name").set_index(["culture", "stage", "seed"])["decoding"]
        grids = {key: [point for point in settings.grid if point.name == chosen] for key, chosen in known.items()}
    steps: dict[tuple[str, str, int], Step] = {}
    for seed, culture in product(cfg.seeds, cfg.cultures):
        own = people[culture]
        for stage in list_stages(cfg):
            if seed not in list_seeds(cfg, stage) or (stage == "zero_shot" and not whole):
                continue
            asked = {
                **settings.model_dump(include={"few_shot", "max_new_tokens", "min_count", "batch"}), "words": words,
                "grid": [point.model_dump() for point in grids.get((culture, stage, seed), settings.grid)],
            }  # fmt: skip
            steps[culture, stage, seed] = describe_step(
                cfg, name, f"{folder}/{name}_{culture}_{stage}", find_state(cfg, culture, stage), version=LISTS_VERSION,
                adapter_seed=seed, stage=stage, culture=culture, norms=hash_file(own.path), cues=hash_settings(own.cues),
                seed=cfg.profile.seed, list_length=cfg.profile.sft.list_length, lexical=asked,
                language=cfg.language_of(culture).model_dump(include=LIST_FORM),
            )  # fmt: skip

    def make(cell, model, tokenizer, work):
        culture, stage, _ = cell
        own, language, label = people[culture], cfg.language_of(culture), f"{culture} {stage}"
        asked, shared = (settings, model, tokenizer, language), {"examples": pick_examples(cfg, own, stage), "words": words}
        points = grids.get(cell, settings.grid)
        tried = generate_lists(*asked, own.cues["valid"], points, label=f"{label}, choice of decoding", **shared)
        best, grid = rank_decodings(settings, tried, own.norms, language)
        lists = generate_lists(*asked, own.cues["test"], [best], label=label, **shared)
        save_frame(lists, work / "lists.parquet")
        save_frame(tried[tried["decoding"] == best.name], work / "valid.parquet")
        save_frame(grid.assign(chosen=grid["decoding"] == best.name), work / "grid.csv")

    return Plan(steps, make, "stages", "stage", "lower lexical.batch in the profile")


def associate(cfg: Config, name: str, people: dict[str, CultureNorms], *, whole: bool = False) -> list[Path]:
    """Make what `plan_lists` holds, as far as it is not stored.

    Returns for every culture in `runs/<profile>/associations/` (with `whole` `associations_whole/`): `<model>_<culture>.parquet` (`LISTS` of
    the test cues), `.._valid.parquet` (of the validation cues, with the decoding chosen) and `.._grid.csv` (`stage, seed, decoding,
    precision, chosen`).
    """
    folder, plan = WHOLE if whole else FIRST, plan_lists(cfg, name, people, whole=whole)
    complete_steps(cfg, name, plan)
    paths, endings = [], {"": "lists.parquet", "_valid": "valid.parquet", "_grid": "grid.csv"}
    for culture, (ending, file) in product(cfg.cultures, endings.items()):
        frame = read_steps(name, {cell: step for cell, step in plan.steps.items() if cell[0] == culture}, file)
        target = cfg.runs / folder / f"{name}_{culture}{ending}{Path(file).suffix}"
        paths.append(save_frame(frame[GRID_COLUMNS if ending == "_grid" else list(LISTS.columns)], target))
    return paths


def associate_run(cfg: Config, people: dict[str, CultureNorms], *, whole: bool = False) -> pd.DataFrame:
    """`associate` for every model of the run; `LISTS` of the test cues."""
    for name in cfg.models:
        associate(cfg, name, people, whole=whole)
    return read_lists(cfg, WHOLE if whole else FIRST)


def load_decodings(cfg: Config, folder: str = FIRST) -> pd.DataFrame:
    """The decodings that `associate` tried, as it left them in FIRST or WHOLE; MissingInput where a model's have not been made yet.

    `model, culture, stage, seed, decoding, precision` (mean P@5 on the validation cues), `chosen`.
    """
    grids = []
    for model, culture in product(cfg.models, cfg.cultures):
        grid = read_frame(cfg.runs / folder / f"{model}_{culture}_grid.csv", made_by="04_lexical_alignment")
        grids.append(grid.assign(model=model, culture=culture)[["model", "culture", *GRID_COLUMNS]])
    return pd.concat(grids, ignore_index=True)


def read_lists(cfg: Config, folder: str = FIRST, ending: str = "") -> pd.DataFrame:
    """`LISTS` of every model and culture for the test cues, or for the validation cues (`ending='_valid'`)."""
    paths = [cfg.runs / folder / f"{model}_{culture}{ending}.parquet" for model, culture in product(cfg.models, cfg.cultures)]
    return LISTS.validate(pd.concat([read_frame(path, made_by="04_lexical_alignment") for path in paths], ignore_index=True))
