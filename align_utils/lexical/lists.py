"""Lists of every culture and stage: generated, their decoding chosen on validation cues, stored and read again."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa

from align_utils.config.profiles import Config
from align_utils.config.settings import Decoding, Language
from align_utils.config.stages import find_state, list_stages, list_trained
from align_utils.lexical.precision import RATED, score_lists
from align_utils.models.adapters import Step, complete_steps, describe_step
from align_utils.models.greedy import generate_texts
from align_utils.models.prompts import SEPARATORS, build_few_shot, draw_lists, parse_list
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
    cfg: Config, model, tokenizer, language: Language, cues: Sequence[str], decodings: Sequence[Decoding], *, examples=(),
    words: int | None = None, label: str = "",
) -> pd.DataFrame:  # fmt: skip
    """A list for every decoding and cue: `decoding, cue, text, responses`; of `words` responses at most, with which it ends."""
    settings = cfg.profile.lexical
    asked = [build_few_shot(language, examples, cue) for cue in cues] * len(decodings)
    penalties = [decoding.repetition_penalty for decoding in decodings for _ in cues]

    def full(place: int, text: str) -> bool:
        return len(read_words(language, text, cue=cues[place % len(cues)], ended=False)) >= words

    texts = generate_texts(
        model, tokenizer, asked, penalties, max_new_tokens=settings.max_new_tokens, batch=settings.batch, language=language,
        distinct=[cue if decoding.distinct else None for decoding in decodings for cue in cues], full=full if words else None,
        label=label,
    )  # fmt: skip
    frame = pd.DataFrame(
        {"decoding": [d.name for d in decodings for _ in cues], "cue": list(cues) * len(decodings), "text": texts}
    )
    lists = [parse_list(language, text, cue=cue)[:words] for cue, text in zip(frame["cue"], texts, strict=True)]
    return frame.assign(responses=lists)


def rank_decodings(cfg: Config, tried: pd.DataFrame, norms: pd.DataFrame, language: Language) -> tuple[Decoding, pd.DataFrame]:
    """The setting of those tried whose lists (`generate_lists`) have the best mean P@5, attested; `decoding, precision` of all.

    The first one wins a tie.
    """
    grid, scores = [point for point in cfg.profile.lexical.grid if point.name in set(tried["decoding"])], []
    for decoding in grid:
        lists = tried.loc[tried["decoding"] == decoding.name, ["cue", "responses"]]
        scored = score_lists(lists, norms, language, ks=[5], min_count=cfg.profile.lexical.min_count)
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


def associate(
    cfg: Config, name: str, people: dict[str, CultureNorms], *, whole: bool = False, wanted: Callable[[Step], bool] | None = None
) -> list[Path]:  # fmt: skip
    """Lists of every culture and stage for the test cues, decoding chosen on the validation cues with equal effort.

    `name` is a model of the profile, `people` are from `norms.load_run`. With `whole` the lists go on beyond the RATED
    responses that count, of the untuned model without examples too; a stage that has lists already keeps its decoding. They lie
    beside the others, in `associations_whole/`. `wanted` picks steps: those alone are made, and nothing is returned.

    Returns for every culture in `runs/<profile>/associations/`: `<model>_<culture>.parquet` (`LISTS` of the test cues),
    `.._valid.parquet` (of the validation cues, with the decoding chosen) and `.._grid.csv` (`stage, seed, decoding, precision,
    chosen`). Trained stages have the profile's seeds, the untuned model and the foreign adapter the first.
    """
    folder, words = (WHOLE, None) if whole else (FIRST, RATED)
    grids, stages = {}, [stage for stage in list_stages(cfg) if whole or stage != "zero_shot"]
    if whole:
        known = load_associations(cfg)[1].query("chosen and model == @name").set_index(["culture", "stage", "seed"])["decoding"]
        grids = {key: [point for point in cfg.profile.lexical.grid if point.name == chosen] for key, chosen in known.items()}
    steps = {
        seed: {
            (culture, stage): _describe(
                cfg, name, culture, stage, seed, people[culture], folder,
                grid=[point.model_dump() for point in grids.get((culture, stage, seed), cfg.profile.lexical.grid)], words=words,
            )
            for culture in cfg.cultures
            for stage in (stages if seed == cfg.profile.seed else list_trained(cfg))
        }
        for seed in cfg.seeds
    }  # fmt: skip

    def make(cell, model, tokenizer, work, *, seed):
        own, language, label = people[cell[0]], cfg.language_of(cell[0]), " ".join(cell)
        asked, shared = (cfg, model, tokenizer, language), {"examples": pick_examples(cfg, own, cell[1]), "words": words}
        points = grids.get((*cell, seed), cfg.profile.lexical.grid)
        tried = generate_lists(*asked, own.cues["valid"], points, label=f"{label}, choice of decoding", **shared)
        best, grid = rank_decodings(cfg, tried, own.norms, language)
        lists = generate_lists(*asked, own.cues["test"], [best], label=label, **shared)
        save_frame(lists, work / "lists.parquet")
        save_frame(tried[tried["decoding"] == best.name], work / "valid.parquet")
        save_frame(grid.assign(chosen=grid["decoding"] == best.name), work / "grid.csv")

    for seed, cells in steps.items():
        remedy = "lower lexical.batch in the profile"
        complete_steps(
            cfg, name, cells, partial(make, seed=seed), seed=seed, desc="stages", unit="stage", remedy=remedy, wanted=wanted
        )
    if wanted:
        return []
    made = [(*cell, seed, step.folder) for seed, cells in steps.items() for cell, step in cells.items()]
    paths, base = [], cfg.runs / folder

    def gather(culture: str, read: Callable, file: str) -> pd.DataFrame:
        own = (row for row in made if row[0] == culture)
        return pd.concat([read(step / file).assign(stage=stage, seed=seed) for _, stage, seed, step in own], ignore_index=True)

    for culture in cfg.cultures:
        for file, ending in (("lists", ""), ("valid", "_valid")):
            frame = gather(culture, pd.read_parquet, f"{file}.parquet").assign(model=name, culture=culture)
            paths += [save_frame(LISTS.validate(frame[list(LISTS.columns)]), base / f"{name}_{culture}{ending}.parquet")]
        grid = gather(culture, pd.read_csv, "grid.csv")
        paths += [save_frame(grid[GRID_COLUMNS], base / f"{name}_{culture}_grid.csv")]
    return paths


def associate_run(cfg: Config, people: dict[str, CultureNorms], *, whole: bool = False) -> pd.DataFrame:
    """`associate` for every model of the run; `LISTS` of the test cues."""
    for name in cfg.models:
        associate(cfg, name, people, whole=whole)
    return load_associations(cfg, WHOLE if whole else FIRST)[0]


def load_associations(cfg: Config, folder: str = FIRST) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lists and decoding grids of the run, as `associate` left them in FIRST or WHOLE; MissingInput where a model's have not been made yet.

    `LISTS` of the test cues; `model, culture, stage, seed, decoding, precision` (mean P@5 on the validation cues), `chosen`.
    """
    lists, grids = read_lists(cfg, folder), []
    for model in cfg.models:
        for culture in cfg.cultures:
            grid = read_frame(cfg.runs / folder / f"{model}_{culture}_grid.csv", made_by="04_lexical_alignment")
            grids.append(grid.assign(model=model, culture=culture)[["model", "culture", *GRID_COLUMNS]])
    return lists, pd.concat(grids, ignore_index=True)


def read_lists(cfg: Config, folder: str = FIRST, ending: str = "") -> pd.DataFrame:
    """`LISTS` of every model and culture for the test cues, or for the validation cues (`ending='_valid'`)."""
    cells = [(model, culture) for model in cfg.models for culture in cfg.cultures]
    paths = [cfg.runs / folder / f"{model}_{culture}{ending}.parquet" for model, culture in cells]
    return LISTS.validate(pd.concat([read_frame(path, made_by="04_lexical_alignment") for path in paths], ignore_index=True))


def _describe(
    cfg: Config, name: str, culture: str, stage: str, seed: int, own: CultureNorms, folder: str, **asked
) -> Step:  # fmt: skip
    more = "" if seed == cfg.profile.seed else f"_seed-{seed}"
    return describe_step(
        cfg, name, f"{folder}/{name}_{culture}_{stage}{more}", find_state(cfg, culture, stage), version=LISTS_VERSION,
        adapter_seed=seed, stage=stage, culture=culture, norms=hash_file(own.path), cues=hash_settings(own.cues),
        seed=cfg.profile.seed, list_length=cfg.profile.sft.list_length,
        lexical=cfg.profile.lexical.model_dump(include={"few_shot", "max_new_tokens", "min_count", "batch"}) | asked,
        language=cfg.language_of(culture).model_dump(include=LIST_FORM),
    )  # fmt: skip
