"""What leaves the house: an adapter merged into a plain model folder, with a card that says what it is. Nothing is uploaded."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pandas as pd
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from align_utils.config.profiles import Config, load, read_settings
from align_utils.config.settings import ConfigError, ModelSource
from align_utils.config.stages import name_notebook
from align_utils.models.adapters import attach_adapter, choose, find_adapter
from align_utils.models.load import load_base
from align_utils.store.page import load_metrics, name_path
from align_utils.store.steps import MissingInput, ModelError, StepError, make_step, read_frame, require
from align_utils.store.tables import write_interval

# Records of a run that the card shows, in this order; each by stage.
SHOWN = (
    "sft_loss_valid", "ppo_reward_valid", "ppo_kl", "precision_at_5_attested", "precision_at_5_top", "human_ceiling_at_5",
    "concreteness_median", "valence_mean", "arousal_mean", "participants_js_distance",
)  # fmt: skip
# Names, in capitals, of files that a base model's licence may ask to be passed on.
NOTICES = ("NOTICE*", "*LICENSE*", "*LICENCE*", "*TERMS*", "USE_POLICY*")


def export_model(cfg: Config, model: str, culture: str, stage: str) -> Path:
    """Merge an adapter of the run (`adapters.find_adapter`) into its base model and write a model card.

    Returns `runs/<profile>/export/<model>-<culture>-<stage>`: safetensors, tokenizer, `README.md` (the card) and the base model's
    notices, `BASE-*`; put in place only when it is whole.
    MissingInput where the adapter has not been trained. ModelError where the model is in 4 bits and its file names no
    `merge_into` (merged there, weights would be rounded and no plain model folder), or where the weights are larger than the
    machine's memory, as 16 bits of a 7B model are on a free Colab machine.
    """
    folder, source = find_adapter(cfg, model, culture, stage), _find_base(cfg, model)
    mark, target = (
        require(folder / "step.json", made_by=name_notebook(stage)),
        cfg.runs / "export" / f"{model}-{culture}-{stage}",
    )
    trained = json.loads(mark.read_text(encoding="utf-8"))
    with make_step(target, {"adapter": trained["key"], "stage": stage}) as work:
        _require_memory(source)
        base, tokenizer = load_base(source, seed=cfg.profile.seed, plain=True)
        merged = attach_adapter(base, folder, stage).merge_and_unload()
        merged.save_pretrained(work, safe_serialization=True)
        tokenizer.save_pretrained(work)
        notices = _find_notices(source)
        for notice in notices:
            shutil.copy(notice, work / f"BASE-{notice.name}")
        card = write_card(cfg, model, culture, stage, trained["settings"], notices=[path.name for path in notices])
        (work / "README.md").write_text(card, encoding="utf-8")
    return target


def write_card(cfg: Config, model: str, culture: str, stage: str, settings: dict, *, notices: Sequence[str] = ()) -> str:
    """The model card: what it is made of, what the run measured, what it is for and what it is not.

    `settings`: all that the adapter depends on, from its `step.json`; `notices`: names of the base model's, said where there is none.
    """
    source, taught = _find_base(cfg, model), cfg.cultures[culture]
    splits = read_frame(cfg.runs / "norms" / "splits.csv", made_by="01_norms")
    sizes = ", ".join(f"{count} {name}" for name, count in splits["split"].value_counts().items())
    kind = (
        "our illustrative sample, not research data: this model says nothing about people"
        if cfg.is_sample
        else ("Small World of Words, the reader's own copy (CC BY-NC-ND 3.0 for SWOW-EN; see its page for the others)")
    )
    copied = ", ".join(f"`BASE-{name}`" for name in notices) or (
        f"none came with its files on this machine. Add those of {source.name} before you pass this model on"
    )
    records = load_metrics(cfg).fillna({"stage": "", "method": "", "subset": "all"}).dropna(subset="value")
    records = records.query("metric in @SHOWN and model == @model and culture == @culture and subset == 'all'")
    records = records.sort_values("metric", key=lambda names: names.map(SHOWN.index), kind="stable").to_dict("records")
    rows = [
        f"| {one['metric']} | {one['stage']} {one['method']} | {write_interval(one, '.3f')} | "
        + (f"{one['n']:.0f} |" if pd.notna(one["n"]) else "|")
        for one in records
    ]
    return "\n".join([
        "---", f"base_model: {source.source}", f"license_name: {source.licence!r}", f"language: {taught.language}", "---",
        f"# {model}, {taught.label}, {stage}",
        "Fine-tuned on native speakers' word associations by the ALIGN companion; adapter merged into the base model.",
        "", "## Made of",
        f"- Base model: {source.name} ({source.source}). Licence: {source.licence}. Its terms hold for this model too.",
        f"- Notices of the base model: {copied}.",
        f"- Norms: {kind}; SHA-256 of the table {settings['norms'][:16]}.",
        f"- Split by concept family, pairs: {sizes}. Test pairs were used for nothing but the figures below.",
        f"- Profile {cfg.profile.name}, seed {settings['seed']}; every setting is in `step.json`.",
        "", "## Measured in that run (held-out cues, 95 % intervals)",
        *(["| metric | stage | value | n |", "|---|---|---|---|", *rows] if rows else ["Notebook 04 has not run: nothing measured."]),
        "", "## For", "Research on word association and cultural alignment of language models.",
        "", "## Not for",
        "Decisions about people, or speaking for a culture: it has learnt lists of words that some speakers gave. Associations hold",
        "stereotypes, and the norms' licence may forbid commercial use.", "",
    ])  # fmt: skip


def _find_base(cfg: Config, model: str) -> ModelSource:
    """The model that an adapter is merged into: the one it was trained on, of a 4-bit one the file that `merge_into` names."""
    source = cfg.models[model]
    if not source.load_in_4bit:
        return source
    if not source.merge_into:
        raise ModelError(
            f"model '{model}' is in 4 bits: name the file of its 16-bit weights as `merge_into` in notebooks/settings/models/{model}.yaml"
        )
    return read_settings(ModelSource, source.merge_into, root=cfg.root)


def _require_memory(source: ModelSource) -> None:
    # Where memory is merely asked for, the system ends the program without a word.
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if source.disk_gb and memory < source.disk_gb * 1e9:
        raise ModelError(
            f"model '{source.name}': to merge an adapter its weights are read whole, about {source.disk_gb:g} GB, and this machine has "
            f"{memory / 1e9:.1f} GB of memory: take `runs/<profile>` with its adapters to a larger one and export there"
        )


def _find_notices(source: ModelSource) -> list[Path]:
    """Licence and notice files that came with the base model: in its package, in its folder, or in the hub's cache of it."""
    root = Path(source.source)
    if source.loader == "gguf":
        root = Path(find_spec(source.source).origin).parent
    elif source.loader == "transformers" and not root.is_dir():
        try:
            root = Path(snapshot_download(source.source, local_files_only=True))
        except LocalEntryNotFoundError:
            return []
    found = (path for path in root.rglob("*") if path.is_file()) if source.loader != "tiny" else ()
    return sorted(path for path in found if any(fnmatchcase(path.name.upper(), name) for name in NOTICES))


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m align_utils.models.export --profile P [--stage ppo]`: of all models and cultures of the run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--stage", default="ppo")
    options = parser.parse_args(arguments)
    try:
        cfg = load(options.profile)
        for cell in product(cfg.models, cfg.cultures, choose(cfg, "stage", [options.stage])):
            print(name_path(cfg, export_model(cfg, *cell)))
    except (ConfigError, MissingInput, StepError) as error:
        sys.exit(f"\n{error}")


if __name__ == "__main__":
    main()
