"""LoRA adapters of a run: where they lie, attached, swapped, proved to have an effect; the steps in which a model answers with each."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from peft import PeftModel

from align_utils.config.profiles import Config
from align_utils.config.settings import ConfigError
from align_utils.config.stages import TAUGHT_HALVES, list_trained, name_notebook
from align_utils.models.load import hash_base, load_base
from align_utils.store.steps import ModelError, find_step, hash_file, make_step, note_read, progress, require

# What adapters are compared on when they are loaded.
PROBE = "When people hear the word"


def find_adapter(cfg: Config, model: str, culture: str, stage: str, seed: int | None = None) -> Path:
    """Folder of an adapter of this run: `runs/<profile>/adapters/<model>/<culture>/<stage>/seed-<seed>`."""
    return cfg.runs / "adapters" / model / culture / stage / f"seed-{cfg.profile.seed if seed is None else seed}"


def attach_adapter(model, folder: Path, name: str, *, trainable: bool = False) -> PeftModel:
    """Add a stored LoRA adapter to a model under a name; a model that has adapters gets one more."""
    if isinstance(model, PeftModel):
        PeftModel.load_adapter(model, str(folder), adapter_name=name, is_trainable=trainable)
        return model
    return PeftModel.from_pretrained(model, str(folder), adapter_name=name, is_trainable=trainable)


@contextmanager
def use_adapter(model, name: str | None):
    """Answer with one adapter inside the block; `None` means the bare base model."""
    if name is None:
        with model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
            yield model
        return
    before = model.active_adapter
    model.set_adapter(name)
    try:
        yield model
    finally:
        model.set_adapter(before)


@torch.inference_mode()
def check_adapters(model, tokenizer, folders: dict[str, Path]) -> None:
    """Prove on one probe that every attached adapter changes the model, and different ones differently; else ModelError names its folder."""
    inputs = tokenizer(PROBE, return_tensors="pt").to(model.device)

    def answer(name: str | None) -> torch.Tensor:
        with use_adapter(model, name):
            return model(**inputs, logits_to_keep=1).logits[0, -1]

    base, seen = answer(None), {}
    for name, folder in folders.items():
        logits, weights = answer(name), hash_file(folder / "adapter_model.safetensors")
        if torch.equal(logits, base):
            raise ModelError(
                f"adapter '{name}' ({folder}) changes nothing: it answers a probe exactly as the base model does, so it is untrained "
                "or was not applied. Delete that folder and train it again (notebooks 02 and 03)"
            )
        for other, (known, before) in seen.items():
            if weights != known and torch.equal(logits, before):
                raise ModelError(
                    f"adapters '{other}' and '{name}' hold different weights and answer a probe exactly alike: swapping them has no "
                    f"effect, so one of them was not applied ({folder})"
                )
        seen[name] = (weights, logits)


def load_states(cfg: Config, name: str, seed: int | None = None, states: Iterable[tuple[str, str]] | None = None):
    """A base model with adapters that one seed gave (default the profile's), its tokenizer, and (culture, stage) -> adapter's name.

    `states` are the (culture, stage) whose adapters are wanted, by default all of the run. Raises MissingInput where one has not been
    trained, ModelError where one changes nothing.
    """
    cells = {state: "_".join(state) for state in (product(cfg.cultures, list_trained(cfg)) if states is None else states)}
    folders = {
        adapter: require(find_adapter(cfg, name, *cell, seed) / "step.json", made_by=name_notebook(cell[1])).parent
        for cell, adapter in cells.items()
    }
    model, tokenizer = load_base(cfg.models[name], seed=cfg.profile.seed)
    for adapter, folder in folders.items():
        model = attach_adapter(model, folder, adapter)
    check_adapters(model.eval(), tokenizer, folders)
    return model, tokenizer, cells


def choose(cfg: Config, kind: str, given: Sequence[str]) -> list[str]:
    """Models, cultures or stages named on a command line, by default all of the run; ConfigError where the run has no such name.

    The survey's ceiling control, which 05 trains, is no stage by default.
    """
    there = {"model": cfg.models, "culture": cfg.cultures, "stage": list_trained(cfg)}[kind]
    if unknown := sorted(set(given) - {*there, *(TAUGHT_HALVES if kind == "stage" else ())}):
        raise ConfigError(f"--{kind} {', '.join(unknown)}: profile '{cfg.profile.name}' has {', '.join(there)}")
    return list(given or there)


@dataclass(frozen=True)
class Step:
    """A costly step of one answerer: its folder, all that its result depends on, who answers (culture, stage; None: the bare model), its seed."""

    folder: Path
    settings: dict
    state: tuple[str, str] | None
    seed: int


def describe_step(
    cfg: Config, model: str, folder: str, state: tuple[str, str] | None, /, *, version: int | list[int],
    adapter_seed: int | None = None, **settings,
) -> Step:  # fmt: skip
    """The step `runs/<profile>/steps/<folder>`: its key is of the code's version, the base model, the answerer's weights and `settings`.

    Of another seed than the profile's the folder ends with it; the key does not hold it, as the weights tell seeds apart.
    """
    weights = find_adapter(cfg, model, *state, adapter_seed) / "adapter_model.safetensors" if state else None
    common = {
        "version": version, "base": hash_base(cfg.models[model], seed=cfg.profile.seed),
        "adapter": hash_file(weights) if weights and weights.is_file() else None,
    }  # fmt: skip
    seed = cfg.profile.seed if adapter_seed is None else adapter_seed
    more = "" if seed == cfg.profile.seed else f"_seed-{seed}"
    return Step(cfg.runs / "steps" / f"{folder}{more}", common | settings, state, seed)


@dataclass(frozen=True)
class Plan:
    """Steps of one model and how they are made: `make(key, model, tokenizer, work)` writes a step's files into the folder `work`, the model
    answering with the step's adapter. `desc, unit` are the bar's; `remedy` helps where memory or disk run out."""

    steps: Mapping[Hashable, Step]
    make: Callable
    desc: str
    unit: str
    remedy: str

    def pick(self, state: tuple[str, str] | None, seed: int) -> "Plan":
        """The same of one answerer."""
        return replace(self, steps={key: step for key, step in self.steps.items() if (step.state, step.seed) == (state, seed)})


def complete_steps(cfg: Config, name: str, plan: Plan) -> None:
    """Make the steps of a model that are not stored yet; it is loaded once a seed, with the adapters that are asked, if there are any."""
    unfinished = {key: step for key, step in plan.steps.items() if not find_step(step.folder, step.settings)}
    for seed in dict.fromkeys(step.seed for step in unfinished.values()):
        _make_steps(cfg, name, plan, {key: step for key, step in unfinished.items() if step.seed == seed}, seed)


def _make_steps(cfg: Config, name: str, plan: Plan, steps: Mapping[Hashable, Step], seed: int) -> None:
    # A function of its own, so that one seed's model is gone before the next one's is loaded.
    states = dict.fromkeys(step.state for step in steps.values())
    model, tokenizer, adapters = load_states(cfg, name, seed, [state for state in states if state and state[0] in cfg.cultures])
    for key, step in progress(steps.items(), desc=plan.desc, unit=plan.unit):
        with make_step(step.folder, step.settings, remedy=plan.remedy) as work, use_adapter(model, adapters.get(step.state)):
            plan.make(key, model, tokenizer, work)


def read_steps(model: str, steps: Mapping[tuple, Step], file: str) -> pd.DataFrame:
    """The frames that finished steps hold under one name, one below the other, with `model, culture, stage, seed`.

    The first two places of a step's key are its culture and stage.
    """
    read = pd.read_csv if file.endswith(".csv") else pd.read_parquet
    parts = [
        read(note_read(step.folder / file)).assign(model=model, culture=key[0], stage=key[1], seed=step.seed)
        for key, step in steps.items()
    ]
    return pd.concat(parts, ignore_index=True)
