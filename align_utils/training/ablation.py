"""Variants of the training, trained and judged on validation cues: `python -m align_utils.training.ablation NAME --profile P`."""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from align_utils.config.profiles import Config, load, overlay_config, read_settings, save_resolved
from align_utils.config.settings import Ablation, ConfigError
from align_utils.config.stages import PREFERENCE, TARGETS, count_lists, list_trained
from align_utils.lexical.lists import LIST_FORM, LISTS_VERSION, generate_lists, rank_decodings
from align_utils.lexical.precision import RATED, score_lists
from align_utils.models.adapters import Plan, Step, choose, complete_steps, describe_step, find_adapter
from align_utils.norms.split import CultureNorms, load_run, map_families
from align_utils.stats import summarise
from align_utils.store.page import name_path
from align_utils.store.steps import (
    NOTE,
    MissingInput,
    StepError,
    find_step,
    hash_file,
    hash_settings,
    make_step,
    note_read,
    progress,
    save_frame,
    write_atomic,
)  # fmt: skip
from align_utils.store.tables import INTERVAL, write_interval
from align_utils.training.job import PPO_VERSION, SFT_VERSION, Job
from align_utils.training.sft import build_held_out, count_passes, measure_loss, plan_steps
from align_utils.training.tables import record_rewards
from align_utils.training.train import train_stage

# Bumped when the judging below changes its result for the same adapter.
ABLATION_VERSION = 1
# Sections that decide what is judged and how: alike for all variants.
COMMON = {"name", "data", "models", "cultures", "seed", "seeds", "norms", "lexical", "stats"}
CELL = ["model", "culture", "variant"]
# The reward of drawn validation lists and its gain over the SFT model that a variant starts from.
DRAWN = ["drawn", *(f"drawn_gain{end}" for end in ("", "_low", "_high"))]
# Of a reading: what of it, as it is called, and its form.
PARTS = (("", "P@5", ".2f"), ("_gap", "difference", "+.2f"))
# What an appendix shows of the table: A2 of variants of SFT, A3 of those of a preference method.
SHOWN = {
    "sft": [*CELL, "changes", "passes", "loss", "P@5, attested", "difference, attested", "P@5, top", "difference, top"],
    "ppo": [*CELL, "changes", "drawn reward", "gain over SFT", "P@5, attested", "difference, attested"],
}


class Case(NamedTuple):
    """One variant of one model and culture: its stage and overlay, and the configuration that this gives."""

    variant: str
    model: str
    culture: str
    stage: str
    overlay: dict
    cfg: Config

    @property
    def judged(self) -> Path:
        """Where its lists and its loss lie."""
        return self.cfg.runs / "judged" / self.model / self.culture


def run_ablation(
    cfg: Config, name: str, *, models: Sequence[str] = (), cultures: Sequence[str] = (), variants: Sequence[str] = ()
) -> pd.DataFrame:
    """Train and judge every variant of `notebooks/settings/ablations/<name>.yaml`, as far as that is not stored.

    By default all of the profile and the file. The table (`write_table`) holds what is stored of the others too; it is written
    again after each variant. Raises ConfigError where the file is not sound, an overlay changes what all variants share, or a name is
    unknown; MissingInput where notebook 01 has not run.
    """
    plan, people = read_settings(Ablation, name, root=cfg.root), load_run(cfg)
    models, cultures = choose(cfg, "model", models), choose(cfg, "culture", cultures)
    if unknown := sorted(set(variants) - set(plan.variants)):
        raise ConfigError(f"--variant {', '.join(unknown)}: ablation '{name}' has {', '.join(plan.variants)}")
    every = list_cases(cfg, plan)
    judged, asked = list_judged(cfg, every, people), set(product(variants or plan.variants, models, cultures))
    missing = [case for case in every if case not in judged and (case.variant, case.model, case.culture) in asked]
    minutes = sum(estimate_minutes(cfg, case, len(people[case.culture].cues["train"])) for case in missing)
    print(
        f"ablation {name}: {len(missing)} of {len(every)} to train, about {minutes:.0f} min by the profile's budget, and to judge",
        flush=True,
    )
    for case in progress(missing, desc=f"ablation {name}", unit="variant"):
        train_variant(cfg, case, people)
        judge_variant(cfg, case, people)
        write_table(cfg, plan, every, people)
    return write_table(cfg, plan, every, people)


def list_cases(cfg: Config, plan: Ablation) -> list[Case]:
    """Every variant of every model and culture, the reference first; raises ConfigError as `run_ablation` says."""
    cases: list[Case] = []
    for name in sorted(plan.variants, key=lambda name: name != plan.reference):
        variant, source = plan.variants[name], f"notebooks/settings/ablations/{plan.name}.yaml, variant '{name}'"
        if shared := sorted(COMMON & (plan.common.keys() | variant.overlay.keys())):
            raise ConfigError(
                f"{source}: '{shared[0]}' cannot be changed: all variants are judged on the same cues in the same way"
            )
        runs, stage = cfg.runs / "ablation" / plan.name / name, variant.stage or plan.stage
        changed = overlay_config(cfg, plan.common, variant.overlay, source=source, runs=runs)
        if stage not in (there := list_trained(changed)):
            raise ConfigError(f"{source}: stage '{stage}' is not trained with these settings; there are {', '.join(there)}")
        cases += [Case(name, *cell, stage, variant.overlay, changed) for cell in product(cfg.models, cfg.cultures)]
    return cases


def list_judged(cfg: Config, cases: Sequence[Case], people: dict[str, CultureNorms]) -> list[Case]:
    """Those of `cases` that are trained and judged with the present settings."""
    return [case for case in cases if find_step(case.judged, _describe_judged(cfg, case, people).settings)]


def estimate_minutes(cfg: Config, case: Case, cues: int) -> float:
    """Minutes a variant's training may take: the profile's budget of notebook 02 scaled by passes over `cues`, or of 03 by the lists drawn."""
    own, base = case.cfg.profile, cfg.profile
    if case.stage in PREFERENCE:
        number, share = "03", count_lists(own, case.stage) / count_lists(base, "ppo")
    else:
        number, share = "02", count_passes(own.sft, cues) / count_passes(base.sft, cues)
    # Profiles without a budget (a GPU's) still weigh their variants against each other.
    return cfg.profile.minutes.get(number, 1.0) / (len(cfg.models) * len(cfg.cultures) * len(cfg.seeds)) * share


def train_variant(cfg: Config, case: Case, people: dict[str, CultureNorms]) -> None:
    """Train one variant in its own folder, unless it is stored there.

    What follows SFT starts from the profile's SFT adapter, if the variant's SFT settings are the profile's; else from its own. A variant
    that changes nothing takes the profile's own adapter, if that is stored.
    """
    save_resolved(case.cfg)
    splits = case.cfg.runs / "norms" / "splits.csv"
    with write_atomic(splits) as temporary:  # the controls read them there, those of another culture at the same time
        shutil.copyfile(cfg.runs / "norms" / "splits.csv", temporary)
    cell = (case.model, case.culture)
    for stage in dict.fromkeys(("sft", case.stage)) if case.stage in TARGETS else ():
        own, base = (Job(one, *cell, stage, people[case.culture], cfg.profile.seed) for one in (case.cfg, cfg))
        key = own.describe()
        if stage == "sft" and not find_step(own.folder, key) and base.describe() == key:
            train_stage(cfg, *cell, stage, people)
        if find_step(base.folder, key) and not find_step(own.folder, key):
            with make_step(own.folder, key) as work:
                # A copy and no link: runs may lie on a drive that knows none.
                shutil.copytree(base.folder, work, dirs_exist_ok=True)
                (work / NOTE).write_text("brought from the profile's own adapters", encoding="utf-8")
        train_stage(case.cfg, *cell, stage, people)
    if case.stage not in TARGETS:
        train_stage(case.cfg, *cell, case.stage, people)


def judge_variant(cfg: Config, case: Case, people: dict[str, CultureNorms]) -> None:
    """One stored step: lists for the validation cues with every decoding of the profile's grid, and the held-out loss.

    The loss is that of the validation cues' strongest responses in order, as many as the profile's lists hold, so that variants
    with shorter and longer lists are asked the same. `lists.parquet` is of the decoding with the best mean P@5 (attested).
    """
    own, language, lexical, sft = people[case.culture], cfg.language_of(case.culture), cfg.profile.lexical, cfg.profile.sft
    cues, label = own.cues["valid"], f"{case.culture} {case.variant}"

    def make(_, model, tokenizer, work):
        tried = generate_lists(lexical, model, tokenizer, language, cues, lexical.grid, label=label)
        best, _ = rank_decodings(lexical, tried, own.norms[own.norms["cue"].isin(set(cues))], language)
        loss = measure_loss(model, tokenizer, build_held_out(own, language, sft, seed=0), batch=sft.device_batch)
        save_frame(tried[tried["decoding"] == best.name], work / "lists.parquet")
        save_frame(pd.DataFrame([{"decoding": best.name, "loss": loss}]), work / "run.csv")

    remedy = "lower lexical.batch or sft.device_batch in the profile"
    steps = {case.variant: _describe_judged(cfg, case, people)}
    complete_steps(case.cfg, case.model, Plan(steps, make, label, "judged", remedy))


def write_table(cfg: Config, plan: Ablation, cases: Sequence[Case], people: dict[str, CultureNorms]) -> pd.DataFrame:
    """Of those of `cases` that are judged one row a model, culture and variant; stored (`find_table`) and returned.

    `model, culture, variant, stage, changes` (beside the file's common ones), `steps` and `passes` (of SFT), `loss` (nats per token),
    `decoding`; for each reading `attested` and `top` P@5 with `_low, _high`, and `_gap, _gap_low, _gap_high`, the paired difference
    from the reference; of preference methods `drawn`, the reward of drawn validation lists at the kept checkpoint, and `drawn_gain` with
    `_low, _high` over the SFT model that it starts from; `cues`, `seconds` (of the training; empty where it was interrupted or brought),
    `reason`.
    """
    parts, rows = [], []
    for case in list_judged(cfg, cases, people):
        who = {"model": case.model, "culture": case.culture, "variant": case.variant}
        parts.append(pd.read_parquet(case.judged / "lists.parquet")[["cue", "responses"]].assign(**who))
        folder = find_adapter(case.cfg, case.model, case.culture, case.stage)
        cost = json.loads((folder / "step.json").read_text(encoding="utf-8"))["cost"]
        changes = pd.json_normalize(case.overlay).to_dict("records")[0]
        sft, cues = case.cfg.profile.sft, len(people[case.culture].cues["train"])
        rows.append({
            **who, "stage": case.stage, "changes": ", ".join(f"{name}={value}" for name, value in changes.items()) or "none",
            "steps": plan_steps(sft, cues), "passes": count_passes(sft, cues), **pd.read_csv(case.judged / "run.csv").iloc[0],
            **_read_drawn(cfg, case, folder), "seconds": None if "note" in cost else cost["seconds"],
            "reason": plan.variants[case.variant].reason,
        })  # fmt: skip
    compared = compare_variants(cfg, pd.concat(parts, ignore_index=True), people, map_families(cfg), plan.reference)
    table = pd.DataFrame(rows).merge(compared, on=CELL)
    last = ["cues", "seconds", "reason"]
    table = table.sort_values(CELL[:2], kind="stable", ignore_index=True)[[*table.columns.drop(last), *last]]
    save_frame(table, find_table(cfg, plan.name))
    return table


def _read_drawn(cfg: Config, case: Case, folder: Path) -> dict[str, float]:
    # By the profile's reward, whatever the variant was trained by.
    if case.stage not in PREFERENCE:
        return dict.fromkeys(DRAWN, math.nan)
    records = record_rewards(cfg, {(case.model, case.culture, case.stage, cfg.profile.seed): folder})
    reward = next(one for one in records if one["metric"].endswith("reward_valid") and one["stage"] == case.stage)
    gain = next(one for one in records if one["metric"].endswith("reward_change"))
    return dict(zip(DRAWN, (reward["value"], *(gain[end] for end in INTERVAL)), strict=True))


def compare_variants(
    cfg: Config, lists: pd.DataFrame, people: dict[str, CultureNorms], families: dict, reference: str
) -> pd.DataFrame:
    """Mean P@5 of the lists of every variant and its paired difference from the reference, with bootstrap intervals over families.

    `lists` holds `model, culture, variant, cue, responses`. The reference's own differences are empty, as are all of a culture where
    it is not judged yet.
    """
    parts = []
    for culture, mine in lists.groupby("culture", sort=False):
        language, fewest = cfg.language_of(culture), cfg.profile.lexical.min_count
        part = score_lists(mine, people[culture].norms, language, ks=[RATED], min_count=fewest)
        parts.append(part.assign(family=[families[culture, cue] for cue in part["cue"]]))
    scored, paired = pd.concat(parts, ignore_index=True), ["model", "culture", "reading", "cue"]
    # The reference beside itself would be 0 everywhere: it has no gap.
    other = scored.loc[scored["variant"] == reference, [*paired, "precision"]]
    scored = scored.merge(other, on=paired, how="left", suffixes=("", "_reference"))
    scored["gap"] = (scored["precision"] - scored["precision_reference"]).where(scored["variant"] != reference)
    table = scored.groupby(CELL, sort=False, as_index=False).agg(cues=("cue", "nunique"))
    for (reading, part), value in product(scored.groupby("reading", sort=False), ("precision", "gap")):
        prefix = reading if value == "precision" else f"{reading}_gap"
        names = {"value": prefix, "low": f"{prefix}_low", "high": f"{prefix}_high"}
        means = summarise(part, CELL, value, unit="family", **cfg.bootstrap)
        table = table.merge(means[[*CELL, *names]].rename(columns=names), on=CELL, how="left")
    return table


def find_table(cfg: Config, name: str) -> Path:
    """The table that `run_ablation` writes: `runs/<profile>/ablation/<name>.csv`."""
    return cfg.runs / "ablation" / f"{name}.csv"


def read_ablation_table(cfg: Config, name: str) -> tuple[pd.DataFrame, str]:
    """The ablation's table of this run, and a sentence for where there is none yet: how to make it.

    The table has the columns of `write_table`, and as they are shown, with their intervals (SHOWN), `P@5` and `difference` (from the
    reference) of the two readings, `drawn reward` and `gain over SFT`.
    """
    path = find_table(cfg, name)
    command = f"make ablation PROFILE={cfg.profile.name}" + ("" if name == "sft" else f" ABLATION={name}")
    command += "" if cfg.is_sample else " ALIGN_DATA=<folder>"
    sentence = f"No variant has been tried in this run: `{command}`, then this notebook again."
    if not path.is_file():
        return pd.DataFrame(columns=CELL), sentence
    table = pd.read_csv(note_read(path), keep_default_na=False, na_values=[""])
    table = table.reindex(columns=dict.fromkeys([*table, *DRAWN]))  # a table of an earlier version has no drawn lists
    shown = [
        (f"{reading}{part}", f"{title}, {reading}", form) for reading in ("attested", "top") for part, title, form in PARTS
    ]
    for name, title, form in [*shown, ("drawn_gain", "gain over SFT", "+.3f")]:
        cells = zip(*(table[f"{name}{end}"] for end in ("", "_low", "_high")), strict=True)
        table[title] = [write_interval(dict(zip(INTERVAL, cell, strict=True)), form) for cell in cells]
    table["drawn reward"] = table["drawn"].map("{:.3f}".format, na_action="ignore")
    return table, sentence


def _describe_judged(cfg: Config, case: Case, people: dict[str, CultureNorms]) -> Step:
    own, language = people[case.culture], cfg.language_of(case.culture)
    step = describe_step(
        case.cfg, case.model, "judged", (case.culture, case.stage),
        version=[ABLATION_VERSION, LISTS_VERSION, SFT_VERSION, PPO_VERSION], stage=case.stage,
        settings=case.cfg.profile.model_dump(include={"sft", "ppo", "lora", *case.overlay}, exclude_defaults=True),
        norms=hash_file(own.path), cues=hash_settings({"valid": own.cues["valid"]}), list_length=cfg.profile.sft.list_length,
        lexical=cfg.profile.lexical.model_dump(include={"max_new_tokens", "min_count", "grid", "batch"}),
        language=language.model_dump(include=LIST_FORM),
    )  # fmt: skip
    return replace(step, folder=case.judged)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m align_utils.training.ablation NAME --profile P [--model M] [--culture C] [--variant V]`; default: all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="sft", help="a file of notebooks/settings/ablations (default: sft)")
    parser.add_argument("--profile", required=True, help="a file of notebooks/settings/profiles; notebook 01 has run with it")
    for kind in ("model", "culture", "variant"):
        parser.add_argument(f"--{kind}", action="append", default=[], help="default: all")
    options = parser.parse_args(arguments)
    try:
        cfg = load(options.profile)
        table = run_ablation(cfg, options.name, models=options.model, cultures=options.culture, variants=options.variant)
    except (ConfigError, MissingInput, StepError) as error:
        sys.exit(str(error))
    print(table.to_string(index=False, float_format="%.3f", na_rep=""))
    print(f"\n{name_path(cfg, find_table(cfg, options.name))}")


if __name__ == "__main__":
    main()
