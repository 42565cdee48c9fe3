"""Variants of the training, trained and judged on validation cues: `python -m align_utils.training.ablation NAME --profile P`."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from align_utils.config.profiles import Config, load, overlay_config, read_settings, save_resolved
from align_utils.config.settings import Ablation, ConfigError
from align_utils.config.stages import PREFERENCE, TARGETS, count_lists, list_trained
from align_utils.lexical.lists import LISTS_VERSION, generate_lists, rank_decodings
from align_utils.lexical.precision import score_lists
from align_utils.models.adapters import attach_adapter, check_adapters, choose, describe_step, find_adapter
from align_utils.models.load import load_base
from align_utils.norms.split import CultureNorms, load_run, map_families
from align_utils.stats import compare, summarise
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
from align_utils.training.train import train_stage

# Bumped when the judging below changes its result for the same adapter.
ABLATION_VERSION = 1
# Sections that decide what is judged and how: alike for all variants.
COMMON = {"name", "data", "models", "cultures", "seed", "seeds", "norms", "lexical", "stats"}
JUDGED_K = 5
# What an appendix shows of the table.
SHOWN = [
    "model", "culture", "variant", "changes", "passes", "loss", "P@5, attested", "difference, attested", "P@5, top", "difference, top",
]  # fmt: skip


class Case(NamedTuple):
    """One variant of one model and culture: its stage and overlay, the configuration that this gives, responses of a held-out list."""

    variant: str
    model: str
    culture: str
    stage: str
    overlay: dict
    cfg: Config
    length: int

    @property
    def judged(self) -> Path:
        """Where its lists and its loss lie."""
        return self.cfg.runs / "judged" / self.model / self.culture


def run_ablation(
    cfg: Config, name: str, *, models: Sequence[str] = (), cultures: Sequence[str] = (), variants: Sequence[str] = ()
) -> pd.DataFrame:
    """Train and judge every variant of `notebooks/settings/ablations/<name>.yaml`, as far as that is not stored.

    By default all of the profile and the file. The table (`tabulate_variants`) holds what is stored of the others too; it is written
    again after each variant. Raises ConfigError where the file is not sound, an overlay changes what all variants share, or a name is
    unknown; MissingInput where notebook 01 has not run.
    """
    plan = read_settings(Ablation, name, root=cfg.root)
    people, families = load_run(cfg), map_families(cfg)
    models, cultures = choose(cfg, "model", models), choose(cfg, "culture", cultures)
    if unknown := sorted(set(variants) - set(plan.variants)):
        raise ConfigError(f"--variant {', '.join(unknown)}: ablation '{name}' has {', '.join(plan.variants)}")
    every = list_cases(cfg, plan)
    judged = list_judged(cfg, every, people)
    asked = set(product(variants or plan.variants, models, cultures))
    missing = [case for case in every if case not in judged and (case.variant, case.model, case.culture) in asked]
    minutes = sum(estimate_minutes(cfg, case, len(people[case.culture].cues["train"])) for case in missing)
    print(
        f"ablation {name}: {len(missing)} of {len(every)} to train, about {minutes:.0f} min by the profile's budget, and to judge",
        flush=True,
    )
    for case in progress(missing, desc=f"ablation {name}", unit="variant"):
        judge_variant(cfg, case, train_variant(cfg, case, people), people)
        judged = [one for one in every if one in judged or one is case]
        save_frame(tabulate_variants(cfg, plan, judged, people, families), find_table(cfg, name))
    table = tabulate_variants(cfg, plan, judged, people, families)
    save_frame(table, find_table(cfg, name))
    return table


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
        length = cases[0].length if cases else changed.profile.sft.list_length
        cases += [Case(name, *cell, stage, variant.overlay, changed, length) for cell in product(cfg.models, cfg.cultures)]
    return cases


def list_judged(cfg: Config, cases: Sequence[Case], people: dict[str, CultureNorms]) -> list[Case]:
    """Those of `cases` that are trained and judged with the present settings."""
    return [case for case in cases if find_step(case.judged, _describe(cfg, case, people))]


def estimate_minutes(cfg: Config, case: Case, cues: int) -> float:
    """Minutes a variant's training may take: the profile's budget of notebook 02 scaled by passes over `cues`, or of 03 by the lists drawn."""
    own, base = case.cfg.profile, cfg.profile
    if case.stage in PREFERENCE:
        number, share = "03", count_lists(own, case.stage) / count_lists(base, "ppo")
    else:
        number, share = "02", count_passes(own.sft, cues) / count_passes(base.sft, cues)
    # Profiles without a budget (a GPU's) still weigh their variants against each other.
    return cfg.profile.minutes.get(number, 1.0) / (len(cfg.models) * len(cfg.cultures)) * share


def train_variant(cfg: Config, case: Case, people: dict[str, CultureNorms]) -> Path:
    """Train one variant in its own folder, unless it is stored there.

    What follows SFT starts from the profile's SFT adapter, if the variant's SFT settings are the profile's; else from its own.
    """
    save_resolved(case.cfg)
    splits = case.cfg.runs / "norms" / "splits.csv"
    with write_atomic(splits) as temporary:  # the controls read them there, those of another culture at the same time
        shutil.copyfile(cfg.runs / "norms" / "splits.csv", temporary)
    cell = (case.model, case.culture)
    if case.stage in TARGETS:
        own, base = (Job(one, *cell, "sft", people[case.culture], cfg.profile.seed).describe() for one in (case.cfg, cfg))
        place = find_adapter(case.cfg, *cell, "sft")
        if own == base and not find_step(place, own):
            with make_step(place, own) as work:
                # A copy and no link: runs may lie on a drive that knows none.
                shutil.copytree(train_stage(cfg, *cell, "sft", people), work, dirs_exist_ok=True)
                (work / NOTE).write_text("brought from the profile's own adapters", encoding="utf-8")
        train_stage(case.cfg, *cell, "sft", people)
    return train_stage(case.cfg, *cell, case.stage, people)


def judge_variant(cfg: Config, case: Case, folder: Path, people: dict[str, CultureNorms]) -> None:
    """One stored step: lists for the validation cues with every decoding of the profile's grid, and the held-out loss.

    The loss is that of the validation cues' strongest responses in order, as many as the reference's lists hold, so that variants
    with shorter and longer lists are asked the same. `lists.parquet` is of the decoding with the best mean P@5 (attested).
    """
    own, language = people[case.culture], cfg.language_of(case.culture)
    cues = own.cues["valid"]
    with make_step(case.judged, _describe(cfg, case, people)) as work:
        model, tokenizer = load_base(cfg.models[case.model], seed=cfg.profile.seed)
        model = attach_adapter(model, folder, "variant").eval()
        check_adapters(model, tokenizer, {"variant": folder})
        grid, label = cfg.profile.lexical.grid, f"{case.culture} {case.variant}"
        tried = generate_lists(cfg, model, tokenizer, language, cues, grid, label=label)
        best, _ = rank_decodings(cfg, tried, own.norms[own.norms["cue"].isin(set(cues))], language)
        examples = build_held_out(own, language, length=case.length, seed=0)
        loss = measure_loss(model, tokenizer, examples, batch=cfg.profile.sft.device_batch)
        save_frame(tried[tried["decoding"] == best.name], work / "lists.parquet")
        save_frame(pd.DataFrame([{"decoding": best.name, "loss": loss}]), work / "run.csv")


def tabulate_variants(
    cfg: Config, plan: Ablation, cases: Sequence[Case], people: dict[str, CultureNorms], families: dict
) -> pd.DataFrame:
    """One row a model, culture and variant; all of `cases` must be judged.

    `model, culture, variant, stage, changes` (beside the file's common ones), `steps` and `passes` (of SFT), `loss` (nats per token),
    `decoding`; for each reading `attested` and `top` P@5 with `_low, _high`, and `_gap, _gap_low, _gap_high`, the paired difference
    from the reference; `cues`, `seconds` (of the training; empty where it was interrupted or brought), `reason`.
    """
    parts, rows = [], []
    for case in cases:
        cues, trained = len(people[case.culture].cues["train"]), find_adapter(case.cfg, case.model, case.culture, case.stage)
        lists = pd.read_parquet(case.judged / "lists.parquet")[["cue", "responses"]]
        parts.append(lists.assign(model=case.model, culture=case.culture, variant=case.variant))
        cost = json.loads((trained / "step.json").read_text(encoding="utf-8"))["cost"]
        changes = pd.json_normalize(case.overlay).to_dict("records")[0]
        rows.append({
            "model": case.model, "culture": case.culture, "variant": case.variant, "stage": case.stage,
            "changes": ", ".join(f"{name}={value}" for name, value in changes.items()) or "none", "steps": plan_steps(case.cfg.profile.sft, cues),
            "passes": count_passes(case.cfg.profile.sft, cues), **pd.read_csv(case.judged / "run.csv").iloc[0],
            "seconds": None if "note" in cost else cost["seconds"], "reason": plan.variants[case.variant].reason,
        })  # fmt: skip
    compared = compare_variants(cfg, pd.concat(parts, ignore_index=True), people, families, plan.reference)
    table = pd.DataFrame(rows).merge(compared, on=["model", "culture", "variant"])
    last = ["cues", "seconds", "reason"]
    return table.sort_values(["model", "culture"], kind="stable", ignore_index=True)[[*table.columns.drop(last), *last]]


def compare_variants(
    cfg: Config, lists: pd.DataFrame, people: dict[str, CultureNorms], families: dict, reference: str
) -> pd.DataFrame:
    """Mean P@5 of the lists of every variant and its paired difference from the reference, with bootstrap intervals over families.

    `lists` holds `model, culture, variant, cue, responses`. The reference's own differences are empty, as are all of a culture where
    it is not judged yet.
    """
    parts, by = [], ["model", "culture", "variant"]
    for culture, mine in lists.groupby("culture", sort=False):
        language, fewest = cfg.language_of(culture), cfg.profile.lexical.min_count
        part = score_lists(mine, people[culture].norms, language, ks=[JUDGED_K], min_count=fewest)
        parts.append(part.assign(family=[families[culture, cue] for cue in part["cue"]]))
    scored = pd.concat(parts, ignore_index=True)
    table = scored.groupby(by, sort=False, as_index=False).agg(cues=("cue", "nunique"))
    for reading, part in scored.groupby("reading", sort=False):
        means = summarise(part, by, "precision", unit="family", **cfg.bootstrap)
        pairs = [(name, reference) for name in part["variant"].unique() if name != reference]
        gaps = pd.DataFrame(columns=[*by, "value", "low", "high"])
        if pairs and reference in set(part["variant"]):
            gaps = compare(part, by[:2], "precision", over="variant", pairs=pairs, key="cue", unit="family", **cfg.bootstrap)
            gaps["variant"] = gaps["comparison"].str.removesuffix(f" - {reference}")
        for frame, prefix in ((means, reading), (gaps, f"{reading}_gap")):
            names = {"value": prefix, "low": f"{prefix}_low", "high": f"{prefix}_high"}
            table = table.merge(frame[[*by, *names]].rename(columns=names), on=by, how="left")
    return table


def find_table(cfg: Config, name: str) -> Path:
    """The table that `run_ablation` writes: `runs/<profile>/ablation/<name>.csv`."""
    return cfg.runs / "ablation" / f"{name}.csv"


def read_ablation_table(cfg: Config, name: str) -> tuple[pd.DataFrame, str]:
    """The ablation's table of this run, and a sentence for where there is none yet: how to make it.

    The table has the columns of `tabulate_variants`, and `P@5` and `difference` (from the reference) of the two readings as they are
    shown, with their intervals (SHOWN).
    """
    path = find_table(cfg, name)
    command = f"make ablation PROFILE={cfg.profile.name}" + ("" if name == "sft" else f" ABLATION={name}")
    command += "" if cfg.is_sample else " ALIGN_DATA=<folder>"
    sentence = f"No variant has been tried in this run: `{command}`, then this notebook again."
    if not path.is_file():
        return pd.DataFrame(columns=["model", "culture", "variant"]), sentence
    table = pd.read_csv(note_read(path), keep_default_na=False, na_values=[""])
    for reading in ("attested", "top"):
        for part, title, form in ((reading, "P@5", ".2f"), (f"{reading}_gap", "difference", "+.2f")):
            cells = zip(*(table[f"{part}{end}"] for end in ("", "_low", "_high")), strict=True)
            table[f"{title}, {reading}"] = [write_interval(dict(zip(INTERVAL, cell, strict=True)), form) for cell in cells]
    return table, sentence


def _describe(cfg: Config, case: Case, people: dict[str, CultureNorms]) -> dict:
    own, language = people[case.culture], cfg.language_of(case.culture)
    return describe_step(
        case.cfg, case.model, "judged", (case.culture, case.stage),
        version=[ABLATION_VERSION, LISTS_VERSION, SFT_VERSION, PPO_VERSION], stage=case.stage,
        settings=case.cfg.profile.model_dump(include={"sft", "ppo", "lora", *case.overlay}, exclude_defaults=True),
        norms=hash_file(own.path), cues=hash_settings({"valid": own.cues["valid"]}), list_length=case.length,
        # The profile's own: an overlay, read again, writes its numbers in another way.
        lexical=cfg.profile.lexical.model_dump(include={"max_new_tokens", "min_count", "grid", "batch"}),
        language=language.model_dump(include={"list_prompt", "list_lead", "separator", "remove_spaces"}),
    ).settings  # fmt: skip


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
