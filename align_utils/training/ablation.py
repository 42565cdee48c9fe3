"""Variants of the training, trained and judged on validation cues."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from align_utils.config.profiles import Config, load, overlay_config, read_ablation, save_resolved
from align_utils.config.settings import Ablation, ConfigError
from align_utils.config.stages import PREFERENCE, count_lists, list_trained
from align_utils.lexical.lists import LISTS_VERSION, generate_lists, rank_decodings
from align_utils.lexical.precision import score_lists
from align_utils.models.adapters import find_adapter
from align_utils.models.load import attach_adapter, check_adapters, hash_base, load_base
from align_utils.norms.split import CultureNorms, load_run, map_families
from align_utils.stats import compare, summarise
from align_utils.store.ledger import note_read
from align_utils.store.page import name_path
from align_utils.store.steps import MissingInput, StepError, find_step, hash_file, hash_settings, make_step, save_frame
from align_utils.training.preference import PPO_VERSION
from align_utils.training.sft import SFT_VERSION, build_examples, count_passes, describe_sft, measure_loss, plan_steps
from align_utils.training.train import train_stage

# Bumped when the judging below changes its result for the same adapter.
ABLATION_VERSION = 1
# Sections that decide what is judged and how: alike for all variants.
COMMON = {"name", "data", "models", "cultures", "seed", "seeds", "norms", "lexical", "stats"}


class Job(NamedTuple):
    """One variant of one model and culture: its stage, its overlay, the configuration that this gives, and how many responses a
    list holds on which its loss is measured (alike for all)."""

    variant: str
    model: str
    culture: str
    stage: str
    overlay: dict
    cfg: Config
    length: int


def run_ablation(
    cfg: Config,
    name: str,
    *,
    models: Sequence[str] = (),
    cultures: Sequence[str] = (),
    variants: Sequence[str] = (),
) -> pd.DataFrame:
    """Train and judge every variant of a file of notebooks/settings/ablations, as far as that is not stored, and write the table.

    Parameters
    ----------
    name : str
        File in notebooks/settings/ablations, without suffix.
    models, cultures, variants : sequence of str
        Default: all of the profile and the file. The table holds what is stored of the others.

    Returns
    -------
    DataFrame
        As `tabulate_variants`; also `runs/<profile>/ablation/<name>.csv`, written again after each variant.

    Raises
    ------
    ConfigError
        The file is not there or not sound, an overlay changes what all variants share, or a name is unknown.
    MissingInput
        Notebook 01 has not run.
    """
    plan = read_ablation(name, root=cfg.root)
    data, families = load_run(cfg), map_families(cfg)
    every = list_jobs(cfg, plan)
    wanted = {"model": models or cfg.models, "culture": cultures or cfg.cultures, "variant": variants or plan.variants}
    for kind, names in (("model", cfg.models), ("culture", cfg.cultures), ("variant", plan.variants)):
        if unknown := sorted(set(wanted[kind]) - set(names)):
            raise ConfigError(
                f"--{kind} {', '.join(unknown)}: ablation '{name}' of profile '{cfg.profile.name}' has {', '.join(names)}"
            )
    judged = {job[:3] for job in every if find_step(_find_judged(job), _describe(cfg, job, data))}
    jobs = [
        job for job in every if all(getattr(job, kind) in names for kind, names in wanted.items()) and job[:3] not in judged
    ]
    costs = [estimate_minutes(cfg, job, len(data[job.culture].cues["train"])) for job in jobs]
    print(
        f"ablation {name}: {len(jobs)} of {len(every)} to train, about {sum(costs):.0f} min by the profile's budget, and to judge",
        flush=True,
    )
    start = time.perf_counter()
    for number, job in enumerate(jobs, start=1):
        judge_variant(cfg, job, train_variant(cfg, job, data), data)
        judged.add(job[:3])
        _save_table(cfg, plan, every, judged, data, families)
        spent = (time.perf_counter() - start) / 60
        left = spent * sum(costs[number:]) / sum(costs[:number])
        print(
            f"{number} of {len(jobs)}: {job.variant}, {job.culture}, {job.model}; {spent:.1f} min, about {left:.0f} left",
            flush=True,
        )
    return _save_table(cfg, plan, every, judged, data, families)


def list_jobs(cfg: Config, plan: Ablation) -> list[Job]:
    """Every variant of every model and culture, the reference first; raises ConfigError as `run_ablation` says."""
    jobs: list[Job] = []
    for name in sorted(plan.variants, key=lambda name: name != plan.reference):
        variant, source = plan.variants[name], f"notebooks/settings/ablations/{plan.name}.yaml, variant '{name}'"
        if shared := sorted(COMMON & (plan.common.keys() | variant.overlay.keys())):
            raise ConfigError(
                f"{source}: '{shared[0]}' cannot be changed: all variants are judged on the same cues in the same way"
            )
        runs = cfg.runs / "ablation" / plan.name / name
        changed = overlay_config(cfg, plan.common, variant.overlay, source=source, runs=runs)
        length = jobs[0].length if jobs else changed.profile.sft.list_length
        stage = variant.stage or plan.stage
        if stage not in list_trained(changed):
            raise ConfigError(
                f"{source}: stage '{stage}' is not trained with these settings; there are {', '.join(list_trained(changed))}"
            )
        cells = [(model, culture) for model in cfg.models for culture in cfg.cultures]
        jobs += [Job(name, *cell, stage, variant.overlay, changed, length) for cell in cells]
    return jobs


def estimate_minutes(cfg: Config, job: Job, cues: int) -> float:
    """Minutes a variant's training may take: the profile's budget of notebook 02 scaled by passes, or of 03 by the lists drawn.

    Parameters
    ----------
    cues : int
        Training cues of the culture.
    """
    own, base = job.cfg.profile, cfg.profile
    if job.stage == "sft" or job.stage.startswith("control"):
        number, share = "02", count_passes(own.sft, cues) / count_passes(base.sft, cues)
    else:
        budgeted = sum(count_lists(base, stage) for stage in list_trained(cfg) if stage in PREFERENCE)
        number, share = "03", count_lists(own, job.stage) / budgeted
    # Profiles without a budget (a GPU's) still weigh their variants against each other.
    return (cfg.estimate(number) or 1.0) / (len(cfg.models) * len(cfg.cultures)) * share


def train_variant(cfg: Config, job: Job, data: dict[str, CultureNorms]) -> Path:
    """Train one variant in its own folder (`training.train_stage`), unless it is stored there.

    What follows SFT starts from the profile's SFT adapter, if the variant's SFT settings are the profile's; else from its own.

    Returns
    -------
    Path
        Adapter folder; beside it `<folder>.seconds` with the time of the training, unless that was interrupted.
    """
    save_resolved(job.cfg)
    splits = job.cfg.runs / "norms" / "splits.csv"
    splits.parent.mkdir(exist_ok=True)
    shutil.copyfile(cfg.runs / "norms" / "splits.csv", splits)  # the controls read them there
    if not job.stage.startswith("control"):
        _bring_sft(cfg, job, data)
        if job.stage != "sft":
            train_stage(job.cfg, job.model, job.culture, "sft", data)
    folder = find_adapter(job.cfg, job.model, job.culture, job.stage)
    resumed, before = any(folder.parent.glob(f".{folder.name}-*")), _hash_adapter(folder)
    start = time.perf_counter()
    train_stage(job.cfg, job.model, job.culture, job.stage, data)
    clock = folder.with_name(f"{folder.name}.seconds")
    if resumed:
        clock.unlink(missing_ok=True)
    elif _hash_adapter(folder) != before:
        clock.write_text(f"{time.perf_counter() - start:.1f}\n")
    return folder


def judge_variant(cfg: Config, job: Job, folder: Path, data: dict[str, CultureNorms]) -> Path:
    """Lists for the validation cues with every decoding of the profile's grid, and the held-out loss; one stored step.

    The loss is that of the validation cues' strongest responses in order, as many as the reference's lists hold, so that variants
    with shorter and longer lists are asked the same.

    Returns
    -------
    Path
        Folder with `lists.parquet` (of the decoding with the best mean P@5, attested) and `run.csv` (`decoding, loss`).
    """
    target, settings = _find_judged(job), _describe(cfg, job, data)
    if find_step(target, settings):
        return target
    source, language = data[job.culture], cfg.language_of(job.culture)
    cues = source.cues["valid"]
    known = source.norms[source.norms["cue"].isin(set(cues))]
    with make_step(target, settings) as work:
        model, tokenizer = load_base(cfg.models[job.model], seed=cfg.profile.seed)
        model = attach_adapter(model, folder, "variant").eval()
        check_adapters(model, tokenizer, {"variant": folder})
        label = f"{job.culture} {job.variant}"
        tried = generate_lists(cfg, model, tokenizer, language, cues, cfg.profile.lexical.grid, label=label)
        best, _ = rank_decodings(cfg, tried, known, language)
        examples = build_examples(known, cues, language, rows=len(cues), length=job.length, order="strength", seed=0)
        loss = measure_loss(model, tokenizer, examples, batch=cfg.profile.sft.device_batch)
        save_frame(tried[tried["decoding"] == best.name], work / "lists.parquet")
        save_frame(pd.DataFrame([{"decoding": best.name, "loss": loss}]), work / "run.csv")
    return target


def tabulate_variants(
    cfg: Config, plan: Ablation, jobs: Sequence[Job], data: dict[str, CultureNorms], families: dict
) -> pd.DataFrame:
    """One row a model, culture and variant; all of `jobs` must be judged.

    Returns
    -------
    DataFrame
        `model, culture, variant, stage, changes` (beside the file's common ones), `steps` and `passes` (of SFT), `loss` (nats per
        token), `decoding`; for each reading `attested` and `top` P@5 with `_low, _high`, and `_gap, _gap_low, _gap_high`, the
        paired difference from the reference; `cues`, `seconds` (of the training; empty where it was interrupted or brought),
        `reason`.
    """
    parts, rows = [], []
    for job in jobs:
        folder, cues = _find_judged(job), len(data[job.culture].cues["train"])
        lists = pd.read_parquet(folder / "lists.parquet")[["cue", "responses"]]
        parts.append(lists.assign(model=job.model, culture=job.culture, variant=job.variant))
        adapter = find_adapter(job.cfg, job.model, job.culture, job.stage)
        clock, settings = adapter.with_name(f"{adapter.name}.seconds"), job.cfg.profile.sft
        rows.append({
            "model": job.model, "culture": job.culture, "variant": job.variant, "stage": job.stage,
            "changes": _name_changes(job.overlay) or "none", "steps": plan_steps(settings, cues),
            "passes": count_passes(settings, cues), **pd.read_csv(folder / "run.csv").iloc[0],
            "seconds": float(clock.read_text()) if clock.is_file() else None, "reason": plan.variants[job.variant].reason,
        })  # fmt: skip
    scored = score_variants(cfg, pd.concat(parts, ignore_index=True), data, families)
    table = pd.DataFrame(rows).merge(compare_variants(cfg, scored, plan.reference), on=["model", "culture", "variant"])
    last = ["cues", "seconds", "reason"]
    return table.sort_values(["model", "culture"], kind="stable", ignore_index=True)[[*table.columns.drop(last), *last]]


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m align_utils.training.ablation NAME --profile P [--model M] [--culture C] [--variant V]`; default: all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="sft", help="a file of notebooks/settings/ablations (default: sft)")
    parser.add_argument(
        "--profile", required=True, help="a file of notebooks/settings/profiles; notebook 01 must have run with it"
    )
    for kind in ("model", "culture", "variant"):
        parser.add_argument(f"--{kind}", action="append", default=[], help="default: all")
    options = parser.parse_args(arguments)
    try:
        cfg = load(options.profile)
        chosen = {"models": options.model, "cultures": options.culture, "variants": options.variant}
        table = run_ablation(cfg, options.name, **chosen)
    except (ConfigError, MissingInput, StepError) as error:
        sys.exit(str(error))
    print(table.to_string(index=False, float_format="%.3f", na_rep=""))
    print(f"\n{name_path(cfg, find_table(cfg, options.name))}")


def _save_table(
    cfg: Config, plan: Ablation, jobs: list[Job], judged: set, data: dict[str, CultureNorms], families: dict
) -> pd.DataFrame:
    table = tabulate_variants(cfg, plan, [job for job in jobs if job[:3] in judged], data, families)
    save_frame(table, find_table(cfg, plan.name))
    return table


def _bring_sft(cfg: Config, job: Job, data: dict[str, CultureNorms]) -> None:
    own, base = (describe_sft(one, job.model, job.culture, data[job.culture], seed=cfg.profile.seed) for one in (job.cfg, cfg))
    target = find_adapter(job.cfg, job.model, job.culture, "sft")
    if own == base and not find_step(target, own):
        with make_step(target, own) as work:
            # A copy and no link: runs may lie on a drive that knows none.
            shutil.copytree(train_stage(cfg, job.model, job.culture, "sft", data), work, dirs_exist_ok=True)


def _find_judged(job: Job) -> Path:
    return job.cfg.runs / "judged" / job.model / job.culture


def _describe(cfg: Config, job: Job, data: dict[str, CultureNorms]) -> dict:
    source, language = data[job.culture], cfg.language_of(job.culture)
    return {
        "version": [ABLATION_VERSION, LISTS_VERSION, SFT_VERSION, PPO_VERSION], "base": hash_base(cfg.models[job.model], seed=cfg.profile.seed),
        "adapter": _hash_adapter(find_adapter(job.cfg, job.model, job.culture, job.stage)), "stage": job.stage,
        "settings": job.cfg.profile.model_dump(include={"sft", "ppo", "lora", *job.overlay}, exclude_defaults=True), "norms": hash_file(source.path),
        "cues": hash_settings({"valid": source.cues["valid"]}), "list_length": job.length,
        "lexical": cfg.profile.lexical.model_dump(include={"max_new_tokens", "min_count", "grid", "batch"}),
        "language": language.model_dump(include={"list_prompt", "list_lead", "separator", "remove_spaces"}),
    }  # fmt: skip


def _name_changes(overlay: dict, prefix: str = "") -> str:
    parts = [
        _name_changes(value, f"{prefix}{key}.") if isinstance(value, dict) else f"{prefix}{key}={value}"
        for key, value in overlay.items()
    ]
    return ", ".join(parts)


def _hash_adapter(folder: Path) -> str | None:
    weights = folder / "adapter_model.safetensors"
    return hash_file(weights) if weights.is_file() else None


if __name__ == "__main__":
    main()
JUDGED_K = 5


def score_variants(cfg: Config, lists: pd.DataFrame, data: dict[str, CultureNorms], families: dict) -> pd.DataFrame:
    """P@5 of every list (`model, culture, variant, cue, responses`) in both readings, with the family of its cue."""
    parts = []
    for culture, mine in lists.groupby("culture", sort=False):
        frame, language = data[culture].norms, cfg.language_of(culture)
        scored = score_lists(mine, frame, language, ks=[JUDGED_K], min_count=cfg.profile.lexical.min_count)
        parts.append(scored.assign(family=[families[culture, cue] for cue in scored["cue"]]))
    return pd.concat(parts, ignore_index=True)


def compare_variants(cfg: Config, scored: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Mean P@5 of every variant and its paired difference from the reference, with bootstrap intervals over families.

    Parameters
    ----------
    scored : DataFrame
        From `score_variants`.
    reference : str
        Its own differences are empty, as are all of a culture where it is not judged yet.

    Returns
    -------
    DataFrame
        `model, culture, variant, cues` and the columns of both readings (see `tabulate_variants`).
    """
    by = ["model", "culture", "variant"]
    table = scored.groupby(by, sort=False, as_index=False).agg(cues=("cue", "nunique"))
    for reading, part in scored.groupby("reading", sort=False):
        means = summarise(part, by, "precision", unit="family", **cfg.bootstrap)
        pairs_of = [(name, reference) for name in part["variant"].unique() if name != reference]
        gaps = pd.DataFrame(columns=[*by, "value", "low", "high"])
        if pairs_of and reference in set(part["variant"]):
            gaps = compare(part, by[:2], "precision", over="variant", pairs=pairs_of, key="cue", unit="family", **cfg.bootstrap)
            gaps["variant"] = gaps["comparison"].str.removesuffix(f" - {reference}")
        for frame, prefix in ((means, reading), (gaps, f"{reading}_gap")):
            names = {"value": prefix, "low": f"{prefix}_low", "high": f"{prefix}_high"}
            table = table.merge(frame[[*by, *names]].rename(columns=names), on=by, how="left")
    return table


def find_table(cfg: Config, name: str) -> Path:
    """The table that `run_ablation` writes: `runs/<profile>/ablation/<name>.csv`."""
    return cfg.runs / "ablation" / f"{name}.csv"


def read_ablation_table(cfg: Config, name: str) -> pd.DataFrame:
    """The ablation's table of this run, or one row that says how to make it."""
    path = find_table(cfg, name)
    if path.is_file():
        return pd.read_csv(note_read(path), keep_default_na=False, na_values=[""])
    command = f"make ablation PROFILE={cfg.profile.name}" + ("" if name == "sft" else f" ABLATION={name}")
    command += "" if cfg.is_sample else " ALIGN_DATA=<folder>"
    return pd.DataFrame([{"variant": "none tried in this run", "how": f"{command}, then this notebook again"}])
