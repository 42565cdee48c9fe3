"""One adapter to train: what it learns from, all that it depends on, where it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from align_utils.config.profiles import Config
from align_utils.config.settings import CriticFree, Decoding, Language, Ppo, Sft
from align_utils.config.stages import PREFERENCE
from align_utils.models.adapters import find_adapter
from align_utils.models.load import hash_base
from align_utils.norms.split import CultureNorms
from align_utils.store.steps import hash_file, hash_settings, require

# Bumped when a stage's result changes for the same settings.
SFT_VERSION, PPO_VERSION, CRITIC_FREE_VERSION = 2, 3, 1


@dataclass(frozen=True)
class Job:
    """A stage of one model and culture with one seed; `own` are the norms that it is taught (a control's are wrong on purpose)."""

    cfg: Config
    model: str
    culture: str
    stage: str
    own: CultureNorms
    seed: int

    @property
    def name(self) -> str:
        """As messages begin."""
        return f"{self.model}, {self.culture}, {self.stage}"

    @property
    def folder(self) -> Path:
        """Where the finished adapter lies."""
        return find_adapter(self.cfg, self.model, self.culture, self.stage, self.seed)

    @property
    def start(self) -> Path:
        """The SFT adapter from which a preference stage goes on."""
        return find_adapter(self.cfg, self.model, self.culture, "sft", self.seed)

    @property
    def language(self) -> Language:
        """The culture's language."""
        return self.cfg.language_of(self.culture)

    @property
    def cues(self) -> list[str]:
        """Training cues, sorted."""
        return sorted(self.own.cues["train"])

    @property
    def section(self) -> str:
        """The profile's section for this stage."""
        return ("ppo" if self.stage == "ppo" else "critic_free") if self.stage in PREFERENCE else "sft"

    @property
    def settings(self) -> Sft | Ppo | CriticFree:
        """What that section holds."""
        return getattr(self.cfg.profile, self.section)

    @property
    def decoding(self) -> Decoding:
        """The entry of the decoding grid with which validation lists are made (`ppo.eval_decoding`)."""
        return next(way for way in self.cfg.profile.lexical.grid if way.name == self.cfg.profile.ppo.eval_decoding)

    def describe(self) -> dict:
        """Everything the adapter depends on: the key under which it is stored.

        The rows a device takes at once are left out: who lowers them because memory ran out keeps what is finished and goes on
        from the last checkpoint. A preference stage without its SFT adapter raises MissingInput.
        """
        profile, language = self.cfg.profile, self.language
        key = self.own.control | {
            "version": SFT_VERSION, "base": hash_base(self.cfg.models[self.model], seed=profile.seed), "culture": self.culture,
            "norms": hash_file(self.own.path), "cues": hash_settings(self.own.cues), "seed": self.seed,
            "sft": profile.sft.model_dump(exclude={"device_batch"}, exclude_defaults=True), "lora": profile.lora.model_dump(),
            "prompt": [language.list_prompt, language.list_lead, language.separator],
        }  # fmt: skip
        if self.section == "sft":
            return key
        key |= {
            "start": hash_file(require(self.start / "adapter_model.safetensors", made_by="02_sft")),
            "decoding": self.decoding.model_dump(), "max_new_tokens": profile.lexical.max_new_tokens,
            "remove_spaces": language.remove_spaces,
        }  # fmt: skip
        if self.section == "ppo":
            ppo = profile.ppo.model_dump(exclude={"device_batch"}, exclude_none=True)
            return key | {"version": [SFT_VERSION, PPO_VERSION], "ppo": ppo}
        free = profile.critic_free.model_dump(exclude={"methods", "device_batch"}, exclude_defaults=True)
        return key | {
            "version": [SFT_VERSION, CRITIC_FREE_VERSION], "method": self.stage, "critic_free": free,
            "reward": profile.ppo.reward.model_dump(),
        }  # fmt: skip
