"""Settings: every file loads, every kind of mistake is one clear line with file and field, and no option stands idle."""

import re
from dataclasses import FrozenInstanceError

import pytest
import yaml
from conftest import ROOT, copy_project

from align_utils import config
from align_utils.config import profiles, settings
from align_utils.store import page

SETTINGS = ROOT / "notebooks" / "settings"
PROFILES = sorted(path.stem for path in (SETTINGS / "profiles").glob("*.yaml") if path.stem != "base")


@pytest.fixture
def root(tmp_path):
    return copy_project(tmp_path)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_resolves_with_its_models_and_cultures(name, tmp_path):
    (tmp_path / "swow").mkdir()
    cfg = config.load(name, data_dir=tmp_path)
    assert cfg.models and cfg.cultures and set(cfg.languages) == {c.language for c in cfg.cultures.values()}
    again = profiles.overlay_config(cfg, source="test", runs=cfg.runs)
    assert again.profile.model_dump_json() == cfg.profile.model_dump_json(), (
        "keys of steps do not hang on how a profile was read"
    )


def collect(value):
    """(Class, field) of all that was given, and not left at its default, in settings and whatever they hold."""
    if isinstance(value, settings.Strict):
        yield from ((type(value), field) for field in value.model_fields_set)
        value = vars(value)
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from collect(part)


def test_every_option_is_set_in_a_file_of_settings_or_documented(tmp_path):
    (tmp_path / "swow").mkdir()
    given = set()
    for name in PROFILES:
        cfg = config.load(name, data_dir=tmp_path)
        given.update(collect([vars(part) for part in (cfg.profile, *cfg.formats)]), collect(vars(cfg)))
    for path in (SETTINGS / "models").glob("*4bit.yaml"):
        given.update(collect(profiles.read_settings(settings.ModelSource, path.stem, root=ROOT)))
    smoke = config.load("smoke")
    for path in (SETTINGS / "ablations").glob("*.yaml"):
        plan = profiles.read_settings(settings.Ablation, path.stem, root=ROOT)
        given.update(collect(plan))
        for variant in plan.variants.values():
            changed = config.overlay_config(smoke, plan.common, variant.overlay, source=path.name, runs=tmp_path)
            given.update(collect(changed.profile))
    texts = "".join(
        path.read_text() for path in (ROOT / "README.md", ROOT / "data" / "README.md", *(ROOT / "docs").glob("*.md"))
    )
    documented = {name for quoted in re.findall(r"`([\w.]+)`", texts) for name in quoted.split(".")}
    documented |= set(re.findall(r"\b(\w+):", texts))
    kinds = {kind for kind in vars(settings).values() if isinstance(kind, type) and issubclass(kind, settings.Strict)}
    kinds -= {settings.DropCues}  # made from `norms.doubles` of a culture
    fields = {(kind, field) for kind in kinds if not kind.__subclasses__() for field in kind.model_fields}
    idle = {f"{kind.__name__}.{field}" for kind, field in fields - given if field not in documented}
    assert not idle, "nobody sets these: delete them, or say in docs/ or data/README.md what they are for"


def test_sample_profiles_never_look_at_real_files(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_DATA", str(tmp_path))
    for name in ("smoke", "cpu"):
        assert config.load(name).data_dir == ROOT / "data" / "sample"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sft": {"stepz": 3}}, ["broken.yaml", "sft.stepz"]),
        ({"sft": {"steps": "many"}}, ["broken.yaml", "sft.steps", "'many'"]),
        ({"sft": {"batch": 10, "device_batch": 4}}, ["broken.yaml", "sft", "multiple"]),
        ({"lora": {"dropout": 2.0}}, ["broken.yaml", "lora.dropout"]),
        ({"cultures": ["us", "atlantis"]}, ["atlantis.yaml", "cn, odd, uk, us"]),
        ({"cultures": ["us"]}, ["broken.yaml", "field 'cultures'", "name two or more", "found ['us']"]),
        ({"cultures": ["us", "us"]}, ["field 'cultures'", "each once"]),
        (
            {"cultures": ["us", "uk"]},
            ["field 'controls': control_other_culture and control_foreign cross", "us, uk all speak 'en'; take them off"],
        ),
        ({"cultures": ["us", "odd"]}, ["odd.yaml: field 'norms.format': 'none' is no file of", "swow-balanced"]),
        ({"models": ["gpt-9"]}, ["gpt-9.yaml", "tiny"]),
        ({"models": ["tiny", "qwen2.5-7b-4bit"]}, ["tiny (transformers), qwen2.5-7b-4bit (unsloth): one backend a profile"]),
        ({"extends": "broken"}, ["broken.yaml", "extends", "circle"]),
        ({"extends": "nowhere"}, ["nowhere.yaml", "smoke"]),
        ("seed: [1, 2\ndata: sample\n", ["broken.yaml", "line 2"]),
    ],
)
def test_a_mistake_names_file_and_field(root, change, words):
    text = change if isinstance(change, str) else yaml.safe_dump({"extends": "smoke", **change})
    (root / "notebooks" / "settings" / "profiles" / "broken.yaml").write_text(text)
    us = yaml.safe_load((root / "notebooks" / "settings" / "cultures" / "us.yaml").read_text())
    odd = {**us, "language": "zh", "norms": {**us["norms"], "format": "none"}}
    for name, culture in (("uk", us), ("odd", odd)):
        (root / "notebooks" / "settings" / "cultures" / f"{name}.yaml").write_text(yaml.safe_dump(culture))
    with pytest.raises(config.ConfigError) as error:
        config.load("broken", root=root)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_data_folder_names_the_variable(tmp_path):
    with pytest.raises(config.ConfigError, match="ALIGN_DATA"):
        config.load("cpu_real", data_dir=tmp_path / "none")


def test_results_go_to_the_folder_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_OUTPUT", str(tmp_path / "elsewhere"))
    cfg = config.load("smoke")
    assert cfg.runs == tmp_path / "elsewhere" / "runs" / "smoke" and cfg.figures == tmp_path / "elsewhere" / "figures" / "smoke"
    assert page.name_path(cfg, cfg.figures / "a.csv") == "figures/smoke/a.csv"
    assert page.name_path(cfg, ROOT / "data" / "neutral.csv") == "data/neutral.csv"


def test_a_resolved_profile_is_the_overlay_over_its_base_and_stays_as_it_is(tmp_path):
    smoke, base = config.load("smoke"), yaml.safe_load((SETTINGS / "profiles" / "base.yaml").read_text())
    assert smoke.profile.sft.steps == 4 and smoke.profile.sft.learning_rate == base["sft"]["learning_rate"]
    other = config.overlay_config(smoke, {"sft": {"steps": 9}}, source="here", runs=tmp_path)
    assert other.profile.sft.steps == 9 and other.runs == tmp_path and other.figures == smoke.figures
    with pytest.raises(FrozenInstanceError):
        smoke.profile = other.profile
    with pytest.raises(config.ConfigError, match=r"^here: field 'sft\.stepz'"):
        config.overlay_config(smoke, {"sft": {"stepz": 9}}, source="here", runs=tmp_path)
