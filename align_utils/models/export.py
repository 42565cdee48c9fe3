"""What leaves the house: an adapter merged into a plain model folder, with a card that says what it is. Nothing is uploaded."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from align_utils.config.profiles import Config, load, read_settings
from align_utils.config.settings import ModelSource
from align_utils.config.stages import name_notebook
from align_utils.models.adapters import find_adapter
from align_utils.models.load import attach_adapter, load_base
from align_utils.store.page import name_path
from align_utils.store.steps import ModelError, make_step, read_frame, require

# Records of a run that the card shows, in this order; each by stage.
SHOWN = (
    "sft_loss_valid", "ppo_reward_valid", "ppo_kl", "precision_at_5_attested", "precision_at_5_top", "human_ceiling_at_5",
    "concreteness_median", "valence_mean", "arousal_mean", "participants_js_distance",
)  # fmt: skip
# Names, in capitals, of files that a base model's licence may ask to be passed on.
NOTICES = ("NOTICE*", "*LICENSE*", "*LICENCE*", "*TERMS*", "USE_POLICY*")


def export_model(cfg: Config, model: str, culture: str, stage: str, *, seed: int | None = None) -> Path:
    """Merge an adapter of the run into its base model and write a model card.

    Parameters
    ----------
    model, culture, stage : str
        As in `adapters.find_adapter`.
    seed : int, optional
        Default the profile's.

    Returns
    -------
    Path
        `runs/<profile>/export/<model>-<culture>-<stage>` (another seed than the profile's adds `-seed-<seed>`): safetensors,
        tokenizer, `README.md` (the card) and the base model's notices, `BASE-*`; put in place only when it is whole.

    Raises
    ------
    MissingInput
        The adapter has not been trained.
    ModelError
        The model is in 4 bits and its file names no `merge_into`: merged there, weights would be rounded and no plain model folder. Or
        the weights are larger than the machine's memory, as 16 bits of a 7B model are on a free Colab machine.
    """
    folder = find_adapter(cfg, model, culture, stage, seed)
    mark = require(folder / "step.json", made_by=name_notebook(stage))
    own = seed is None or seed == cfg.profile.seed
    target = cfg.runs / "export" / (f"{model}-{culture}-{stage}" + ("" if own else f"-seed-{seed}"))
    trained = json.loads(mark.read_text(encoding="utf-8"))
    with make_step(target, {"adapter": trained["key"], "stage": stage}) as work:
        _require_memory(_find_base(cfg, model))
        base, tokenizer = load_base(_find_base(cfg, model), seed=cfg.profile.seed, plain=True)
        merged = attach_adapter(base, folder, stage).merge_and_unload()
        merged.save_pretrained(work, safe_serialization=True)
        tokenizer.save_pretrained(work)
        notices = _find_notices(cfg, model)
        for notice in notices:
            shutil.copy(notice, work / f"BASE-{notice.name}")
        card = write_card(cfg, model, culture, stage, trained["settings"], notices=[path.name for path in notices])
        (work / "README.md").write_text(card, encoding="utf-8")
    return target


def write_card(cfg: Config, model: str, culture: str, stage: str, settings: dict, *, notices: Sequence[str] = ()) -> str:
    """The model card: what it is made of, what the run measured, what it is for and what it is not.

    `settings`: all that the adapter depends on, from its `step.json`; `notices`: names of the base model's, said where there is none.
    """
    source, taught, splits = _find_base(cfg, model), cfg.cultures[culture], read_frame(
        cfg.runs / "norms" / "splits.csv", made_by="01_norms"
    )  # fmt: skip
    sizes = ", ".join(f"{count} {name}" for name, count in splits["split"].value_counts().items())
    kind = (
        "our illustrative sample, not research data: this model says nothing about people"
        if cfg.is_sample
        else ("Small World of Words, the reader's own copy (CC BY-NC-ND 3.0 for SWOW-EN; see its page for the others)")
    )
    copied = ", ".join(f"`BASE-{name}`" for name in notices) or (
        f"none came with its files on this machine. Add those of {source.name} before you pass this model on"
    )
    rows = [_format_record(record) for record in _read_records(cfg, model, culture)]
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


def _read_records(cfg: Config, model: str, culture: str) -> list[dict]:
    found = []
    for number in ("02", "03", "04"):
        path = cfg.runs / "metrics" / f"{number}.json"
        if path.is_file():
            found += json.loads(path.read_text(encoding="utf-8"))
    mine = [r for r in found if r["model"] == model and r["culture"] == culture and r["subset"] in (None, "all")]
    return sorted((r for r in mine if r["metric"] in SHOWN), key=lambda r: SHOWN.index(r["metric"]))


def _format_record(record: dict) -> str:
    value = f"{record['value']:.3f}"
    if record["low"] is not None:
        value += f" [{record['low']:.3f}, {record['high']:.3f}]"
    return f"| {record['metric']} | {record['stage'] or ''} {record['method'] or ''} | {value} | {record['n'] or ''} |"


def _find_notices(cfg: Config, model: str) -> list[Path]:
    """Licence and notice files that came with the base model: in its package, in its folder, or in the hub's cache of it."""
    root = _find_files(_find_base(cfg, model))
    if root is None:
        return []
    return sorted(
        path for path in root.rglob("*") if path.is_file() and any(fnmatchcase(path.name.upper(), name) for name in NOTICES)
    )


def _find_files(source: ModelSource) -> Path | None:
    if source.loader == "tiny":
        return None
    if source.loader == "gguf":
        package = find_spec(source.source)
        return Path(package.origin).parent if package else None
    if Path(source.source).is_dir():
        return Path(source.source)
    try:
        return Path(snapshot_download(source.source, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m align_utils.models.export --profile P [--model M] [--culture C] [--stage ppo]`; default: all models and cultures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--model", action="append")
    parser.add_argument("--culture", action="append")
    parser.add_argument("--stage", default="ppo")
    options = parser.parse_args(arguments)
    cfg = load(options.profile)
    for model in options.model or cfg.models:
        for culture in options.culture or cfg.cultures:
            print(name_path(cfg, export_model(cfg, model, culture, options.stage)))


if __name__ == "__main__":
    main()
