"""Profiles, models, cultures and languages: YAML read, checked and merged into one frozen object."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from align_utils.config.settings import Ablation, ConfigError, Culture, Format, Language, ModelSource, Profile, ServerModel
from align_utils.config.stages import NAMES

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    Culture: "cultures", Language: "languages", Format: "formats", ModelSource: "models", ServerModel: "models", Ablation: "ablations",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Config:
    """A resolved profile with its cultures, languages and models, and every path of its run.

    `root` holds `notebooks/` and `data/`, `data_dir` holds `swow/`, `ratings/` and `wvs/`; `own_runs` takes the place of
    `runs/<profile>` (an ablation's variant).
    """

    profile: Profile
    root: Path
    data_dir: Path
    own_runs: Path | None = None
    # Where runs/ and figures/ are: ALIGN_OUTPUT, else the project.
    output: Path = field(init=False)
    cultures: dict[str, Culture] = field(init=False)
    languages: dict[str, Language] = field(init=False)
    formats: list[Format] = field(init=False)
    models: dict[str, ModelSource] = field(init=False)
    baselines: dict[str, ServerModel] = field(init=False)

    def __post_init__(self):
        profile, root = self.profile, self.root

        def read(kind: type[BaseModel], names: Iterable[str]) -> dict:
            return {name: read_settings(kind, name, root=root) for name in names}

        cultures = read(Culture, profile.cultures)
        known = sorted(path.stem for path in _settings(root, "formats", "*").parent.glob("*.yaml"))
        # A frozen dataclass lets nobody set a field, its own __post_init__ neither.
        vars(self).update(
            output=Path(os.environ.get("ALIGN_OUTPUT") or root).expanduser().resolve(), cultures=cultures,
            languages=read(Language, dict.fromkeys(culture.language for culture in cultures.values())),
            formats=[*read(Format, known).values()], baselines=read(ServerModel, profile.baselines),
            models={
                name: model.model_copy(update={"dtype": profile.dtype}) for name, model in read(ModelSource, profile.models).items()
            },
        )  # fmt: skip
        if len({model.backend for model in self.models.values()}) > 1:
            raise ConfigError(
                f"profile '{profile.name}': field 'models': {', '.join(f'{n} ({m.backend})' for n, m in self.models.items())}: one "
                "backend a profile, as unsloth rewrites the architectures that transformers would run beside it; make a profile of each"
            )
        foreign = [name for name in profile.controls if name != "control_shuffled"]
        if foreign and len(self.languages) < 2:
            raise ConfigError(
                f"profile '{profile.name}': field 'controls': {' and '.join(foreign)} cross languages, and {', '.join(cultures)} all speak "
                f"'{next(iter(self.languages))}'; take them off, or name a culture of another language"
            )
        for name, culture in cultures.items():
            if culture.norms.format not in (None, *known):
                raise ConfigError(
                    f"{_settings(root, 'cultures', name)}: field 'norms.format': '{culture.norms.format}' is no file of "
                    f"{_settings(root, 'formats', '*').parent}; there are {', '.join(known)}"
                )

    @property
    def runs(self) -> Path:
        """Folder of everything the run computes: `runs/<profile>` of `output`."""
        return self.own_runs or self.output / "runs" / self.profile.name

    @property
    def figures(self) -> Path:
        """Folder of figures and tables: `figures/<profile>`, beside `runs`."""
        return self.output / "figures" / self.profile.name

    @property
    def is_sample(self) -> bool:
        """Whether the run reads the bundled illustrative sample."""
        return self.profile.data == "sample"

    @property
    def bootstrap(self) -> dict:
        """Settings of every interval: resamples, level and seed."""
        return {**self.profile.stats.model_dump(), "seed": self.profile.seed}

    @property
    def seeds(self) -> list[int]:
        """Seeds that the trained stages are run with, the profile's own first."""
        return list(dict.fromkeys([self.profile.seed, *self.profile.seeds]))

    @property
    def mark(self) -> str:
        """Watermark of every figure: the profile's note, else a word about the bundled sample, else nothing."""
        return self.profile.note or ("illustrative sample, not research data" if self.is_sample else "")

    @property
    def names(self) -> dict[str, str]:
        """Codes of files to the names that are shown: of stages, of this run's cultures and of their languages."""
        languages = {name: language.label for name, language in self.languages.items()}
        return {**NAMES, **languages, **{name: culture.label for name, culture in self.cultures.items()}}

    def label(self, model: str, culture: str) -> str:
        """Name of a panel or row: the culture's, with the model in front when the run has several (baselines count)."""
        name = self.cultures[culture].label if culture in self.cultures else culture
        return name if len(self.models) + len(self.baselines) == 1 else f"{model}, {name}"

    def call(self, model: str, culture: str) -> str:
        """The same within a sentence: with the article that the name takes, and the model behind it."""
        named = self.cultures[culture]
        name = named.in_text or named.label
        return name if len(self.models) + len(self.baselines) == 1 else f"{name} with {model}"

    def language_of(self, culture: str) -> Language:
        """The language of a culture of this run."""
        return self.languages[self.cultures[culture].language]


def load(profile: str, *, root: Path | str | None = None, data_dir: Path | str | None = None) -> Config:
    """Load a profile, a file of `notebooks/settings/profiles/` by its name without `.yaml`, and everything it names.

    `root` is the project folder, by default `ALIGN_ROOT`, else the folder above this package; `data_dir` that of the real
    files, by default `ALIGN_DATA`, else `data/raw`: a profile with `data: sample` never looks there. ConfigError: a file is
    missing or unreadable, a key is unknown or has the wrong type, or the data folder does not exist.

    >>> load("smoke").profile.data
    'sample'
    """
    root = Path(root or os.environ.get("ALIGN_ROOT") or PACKAGE_ROOT).resolve()
    settings = read_profile(profile, root=root)
    if settings.data == "sample":
        return Config(settings, root, root / "data" / "sample")
    folder = Path(data_dir or os.environ.get("ALIGN_DATA") or root / "data" / "raw").expanduser().resolve()
    if not (folder / "swow").is_dir():
        raise ConfigError(
            f"profile '{profile}' reads real files, but {folder}/swow does not exist. Put the Small World of Words files "
            "there (data/README.md says where to get them) or set ALIGN_DATA=<folder>; PROFILE=cpu needs no files."
        )
    return Config(settings, root, folder)


def locate_cache() -> Path:
    """The folder of what is made once a machine: `ALIGN_CACHE`, default `~/.cache/align-companion`."""
    return Path(os.environ.get("ALIGN_CACHE") or Path.home() / ".cache" / "align-companion").expanduser()


def read_profile(name: str, *, root: Path) -> Profile:
    """A profile with its overlays merged, without looking at data, cultures or models (see `load` for the errors)."""
    return check_settings(Profile, {"name": name, **_merge_overlays(root, name)}, _settings(root, "profiles", name))


def read_settings(kind: type[BaseModel], name: str, *, root: Path):
    """A culture, language, format, model or ablation: the file `notebooks/settings/<FOLDERS[kind]>/<name>.yaml` (see `load` for the errors)."""
    path = _settings(root, FOLDERS[kind], name)
    return check_settings(kind, {"name": name, **read_yaml(path)}, path)


def overlay_config(cfg: Config, *overlays: dict, source: str, runs: Path) -> Config:
    """The same run with some settings of its profile changed, computing into a folder `runs` of its own.

    The overlays are merged over the profile one after the other, as a profile is over what it extends; `source` says where they
    stand, for the ConfigError of an unknown key or a wrong value.

    >>> smoke = load("smoke")
    >>> overlay_config(smoke, {"sft": {"list_length": 5}}, source="here", runs=smoke.runs / "short").profile.sft.list_length
    5
    """
    return replace(
        cfg, profile=check_settings(Profile, reduce(_merge, overlays, cfg.profile.model_dump()), source), own_runs=runs
    )


# What only appendices show: the main line neither trains nor asks it.
EXTRA = {"critic_free": {"methods": []}, "participants": {"n": 0}}


def take_main_line(cfg: Config) -> Config:
    """The same run without what only its appendices compute: methods without a critic, simulated participants."""
    return overlay_config(cfg, EXTRA, source=f"profile '{cfg.profile.name}'", runs=cfg.runs)


def save_resolved(cfg: Config) -> Path:
    """Write the merged profile to `runs/<profile>/profile.yaml`, so that a result can be read with its settings."""
    path = cfg.runs / "profile.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(cfg.profile.model_dump(), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def read_yaml(path: Path) -> dict:
    """Read one YAML mapping; ConfigError: no such file (with the names that exist), no YAML (with the line), or no mapping."""
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise ConfigError(f"{path}: no such file; found in that folder: {known}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, found {type(content).__name__}")
    return content


def check_settings(kind: type[BaseModel], content: dict, path: Path | str):
    """The content of a settings file as what it should be; ConfigError: an unknown key or a wrong value, with the file and the field."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        found = f", found {first['input']!r}" if first["type"] not in {"missing", "extra_forbidden"} else ""
        raise ConfigError(f"{path}: field '{field}': {first['msg']}{found}") from error


def _settings(root: Path, kind: str, name: str) -> Path:
    return root / "notebooks" / "settings" / kind / f"{name}.yaml"


def _merge_overlays(root: Path, name: str, seen: tuple[str, ...] = ()) -> dict:
    path = _settings(root, "profiles", name)
    if name in seen:
        raise ConfigError(f"{path}: field 'extends' goes round in a circle: {' > '.join([*seen, name])}")
    overlay = read_yaml(path)
    parent = overlay.pop("extends", None)
    return _merge(_merge_overlays(root, parent, (*seen, name)), overlay) if parent else overlay


def _merge(base: dict, overlay: dict) -> dict:
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
