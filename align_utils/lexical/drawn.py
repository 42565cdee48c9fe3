"""Lists drawn at temperature 1, a model's own distribution: their Precision@5 and their variety."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import pandera.pandas as pa
import torch

from align_utils.config.profiles import Config
from align_utils.config.settings import Language
from align_utils.config.stages import TARGETS, find_state, list_seeds
from align_utils.lexical.lists import LIST_FORM, pick_examples, read_words
from align_utils.lexical.precision import RATED, add_families, score_lists, summarise_measures
from align_utils.models.adapters import Plan, complete_steps, describe_step, read_steps
from align_utils.models.decode import continue_rows, draw_tokens, find_stop_tokens
from align_utils.models.prompts import build_list_prompt
from align_utils.norms.split import CultureNorms
from align_utils.stats import repeat_runs
from align_utils.store.steps import hash_file, hash_settings, progress, read_frame, save_frame

# Bumped when what is drawn changes for the same settings; the second one of the drawn lists alone.
SAMPLED_VERSION, DRAWN_VERSION = 1, 1
WHO_DRAWN = {name: pa.Column(str) for name in ("model", "culture", "stage", "cue", "text")} | {
    "participant": pa.Column(int, pa.Check.ge(1)), "seed": pa.Column(int),
}  # fmt: skip
# Lists as drawn; `participant` is the number of the draw, `seed` that of the training (the untuned model has the profile's).
DRAWN = pa.DataFrameSchema({**WHO_DRAWN, "responses": pa.Column(object)})


def sample_lists(
    model, tokenizer, language: Language, cues: Sequence[str], asked: Sequence[str], *, n: int, words: int, temperature: float,
    max_new_tokens: int, batch: int, seed: int, label: str = "",
) -> pd.DataFrame:  # fmt: skip
    """`n` lists of at most so many words for every cue (asked for by its prompt), drawn from the model's whole distribution.

    A prompt is read once for all its lists, and a list ends with its last word's separator; a word that is not finished after
    `max_new_tokens` is dropped. Each cue has random numbers of its own: its lists depend on the seed, not on the other cues, and a larger
    n only adds lists. Returns `participant` (1..n), `cue, responses, text` (as generated), sorted by cue as given.
    """
    stops = set(find_stop_tokens(tokenizer))
    tokens = [tokenizer(text)["input_ids"] for text in asked]
    order, size = sorted(range(len(cues)), key=lambda i: len(tokens[i])), max(1, batch // n)
    found: dict[int, list[tuple[list[str], str]]] = {}

    def has_ended(text: str, new: list[int]) -> bool:
        return new[-1] in stops or "\n" in text.lstrip()

    for start in progress(range(0, len(order), size), desc=label or "lists", unit="batch", leave=False):
        chosen = order[start : start + size]
        uniform = torch.from_numpy(np.concatenate([
            np.random.default_rng([seed, crc32(cues[i].encode())]).random((n, max_new_tokens)) for i in chosen
        ])).float()  # fmt: skip

        def pick(scores, _, rows, step, uniform=uniform):
            return draw_tokens(scores, uniform[rows, step], temperature=temperature)

        def ends(row, new, chosen=chosen):
            text, cue = tokenizer.decode(new, skip_special_tokens=True), cues[chosen[row // n]]
            return has_ended(text, new) or len(read_words(language, text, cue=cue, ended=False)) >= words

        rows = continue_rows(
            model, tokenizer.pad_token_id, [tokens[i] for i in chosen], pick=pick, ends=ends, copies=n,
            max_new_tokens=max_new_tokens,
        )  # fmt: skip
        drawn = tokenizer.batch_decode(rows, skip_special_tokens=True)
        for place, i in enumerate(chosen):
            mine = slice(place * n, place * n + n)
            found[i] = [
                (read_words(language, text, cue=cues[i], ended=has_ended(text, new))[:words], text)
                for text, new in zip(drawn[mine], rows[mine], strict=True)
            ]
    records = [[number + 1, cue, *found[i][number]] for i, cue in enumerate(cues) for number in range(n)]
    return pd.DataFrame(records, columns=["participant", "cue", "responses", "text"])


@dataclass(frozen=True)
class Draw:
    """One kind of draw: its folder in the run and under `steps/`, who draws and how (of `sample_lists`), and what stands in its key."""

    target: str
    folder: str
    file: str
    schema: pa.DataFrameSchema
    stages: tuple[str, ...]
    seeds: Sequence[int]
    how: dict
    version: int | list[int]
    key: dict
    form: frozenset[str] = LIST_FORM
    salt: str = ""
    finish: Callable[[pd.DataFrame, Language], pd.DataFrame] = lambda lists, _: lists


def describe_draw(cfg: Config, *, extra: bool = False) -> Draw:
    """Lists of five responses for every test cue (0: none): of the untuned model with examples, SFT and PPO, of all seeds; with `extra` of
    the methods without a critic, which lie beside them."""
    own, methods = cfg.profile.lexical, tuple(name for name in TARGETS if name in cfg.profile.critic_free.methods)
    return Draw(
        "drawn_extra" if extra else "drawn", "drawn", "lists.parquet", DRAWN, methods if extra else ("few_shot", "sft", "ppo"),
        cfg.seeds, {"n": own.drawn, "words": RATED, "temperature": 1.0, "max_new_tokens": own.max_new_tokens},
        version=[DRAWN_VERSION, SAMPLED_VERSION],
        key={"drawn": own.drawn, "words": RATED, "max_new_tokens": own.max_new_tokens}, salt=" lists",
    )  # fmt: skip


def draw_test_lists(cfg: Config, name: str, people: dict[str, CultureNorms], *, extra: bool = False) -> list[Path]:
    """The draws of `describe_draw`, with `extra` both: `runs/<profile>/drawn/<model>_<culture>.parquet` and `drawn_extra/..`: `DRAWN`."""
    first = [cfg.runs / "drawn" / f"{name}_{culture}.parquet" for culture in people if extra and cfg.profile.lexical.drawn]
    return first + draw_cells(cfg, name, people, describe_draw(cfg, extra=extra))


def plan_draws(cfg: Config, name: str, people: dict[str, CultureNorms], draw: Draw) -> Plan:
    """The draws of every culture, stage and seed for the test cues of `people`."""
    steps = {}
    for seed, (culture, own), stage in product(draw.seeds, people.items(), draw.stages if draw.how["n"] else ()):
        if seed not in list_seeds(cfg, stage):
            continue
        examples = {
            "norms": hash_file(own.path), "train": hash_settings({"cues": own.cues["train"]}),
            "count": cfg.profile.lexical.few_shot, "length": cfg.profile.sft.list_length,
        }  # fmt: skip
        steps[culture, stage, seed] = describe_step(
            cfg, name, f"{draw.folder}/{name}_{culture}_{stage}", find_state(cfg, culture, stage), version=draw.version,
            adapter_seed=seed, stage=stage, culture=culture, cues=hash_settings({"cues": own.cues["test"]}), seed=cfg.profile.seed,
            examples=examples if stage == "few_shot" else None,
            language=cfg.language_of(culture).model_dump(include=draw.form), **draw.key,
        )  # fmt: skip

    def make(cell, model, tokenizer, work):
        culture, stage, _ = cell
        language, cues = cfg.language_of(culture), people[culture].cues["test"]
        examples = pick_examples(cfg, people[culture], stage)
        lists = sample_lists(
            model, tokenizer, language, cues, [build_list_prompt(language, cue, examples) for cue in cues], **draw.how,
            batch=cfg.profile.participants.batch, label=f"{culture} {stage}, {draw.how['n']} a cue",
            seed=crc32(f"{cfg.profile.seed} {name} {culture} {stage}{draw.salt}".encode()),
        )  # fmt: skip
        save_frame(draw.finish(lists, language), work / draw.file)

    return Plan(steps, make, draw.folder, "stage", "lower participants.batch in the profile")


def draw_cells(cfg: Config, name: str, people: dict[str, CultureNorms], draw: Draw) -> list[Path]:
    """Make what `plan_draws` holds, as far as it is not stored; a frame a culture in the run."""
    plan = plan_draws(cfg, name, people, draw)
    complete_steps(cfg, name, plan)
    if not plan.steps:
        return []
    paths = []
    for culture in people:
        own = {cell: step for cell, step in plan.steps.items() if cell[0] == culture}
        frame = draw.schema.validate(read_steps(name, own, draw.file))
        paths.append(save_frame(frame, cfg.runs / draw.target / f"{name}_{culture}.parquet"))
    return paths


def score_drawn(cfg: Config, paths: Sequence[Path], people: dict[str, CultureNorms], families: dict) -> pd.DataFrame:
    """Precision@5 of drawn lists (of `draw_test_lists`), the mean over a cue's lists, and how many different words these hold.

    What a short list lacks counts as wrong. Returns `model, culture, measure` (`precision_at_5_attested, precision_at_5_top,
    distinct_words`), `stage, seed, cue, value, family`; the untuned model stands beside every seed.
    """
    by, parts, settings = ["model", "culture", "stage", "seed", "cue"], [], cfg.profile.lexical
    columns = ["model", "culture", "measure", "stage", "seed", "cue", "value", "family"]
    if not paths:
        return pd.DataFrame(columns=columns)
    for path in paths:
        lists = DRAWN.validate(read_frame(path, made_by="04_lexical_alignment"))[[*by, "responses"]]
        lists = repeat_runs(lists, ["model", "stage"])
        culture = lists["culture"].iloc[0]
        norms, language = people[culture].norms, cfg.language_of(culture)
        scored = score_lists(lists, norms, language, ks=[RATED], min_count=settings.min_count, matching=settings.matching)
        scored = scored.assign(measure=f"precision_at_{RATED}_" + scored["reading"], value=scored["precision"])
        parts.append(scored.groupby([*by, "measure"], sort=False, as_index=False)["value"].mean())
        words = lists.explode("responses")
        words["value"] = words["responses"].map(language.normalise, na_action="ignore")
        counts = words.groupby(by, sort=False, as_index=False)["value"].nunique()
        parts.append(counts.assign(measure="distinct_words"))
    frame = pd.concat(parts, ignore_index=True).sort_values("measure", kind="stable", ascending=False, ignore_index=True)
    return add_families(frame, families)[columns]


def draw_run(
    cfg: Config, people: dict[str, CultureNorms], families: dict, *, extra: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`draw_test_lists` for every model of the run, scored by `score_drawn` and summarised by `precision.summarise_measures`."""
    paths = [path for name in cfg.models for path in draw_test_lists(cfg, name, people, extra=extra)]
    return summarise_measures(cfg, score_drawn(cfg, paths, people, families))
