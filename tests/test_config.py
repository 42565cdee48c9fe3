"""Settings: every file loads, and every kind of mistake is one clear line with file and field."""

import pytest
import yaml
from conftest import ROOT, copy_project

from align_utils.config import profiles as config
from align_utils.config import settings
from align_utils.store import page as store_page

PROFILES = sorted(p.stem for p in (ROOT / "notebooks" / "settings" / "profiles").glob("*.yaml") if p.stem != "base")


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_resolves_with_its_models_and_cultures(name, tmp_path):
    (tmp_path / "swow").mkdir()
    cfg = config.load(name, data_dir=tmp_path)
    assert cfg.models and cfg.cultures and set(cfg.languages) == {c.language for c in cfg.cultures.values()}


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
        ({"cultures": ["us", "atlantis"]}, ["atlantis.yaml", "cn, us"]),
        ({"models": ["gpt-9"]}, ["gpt-9.yaml", "tiny"]),
        ({"extends": "broken"}, ["broken.yaml", "extends", "circle"]),
        ({"extends": "nowhere"}, ["nowhere.yaml", "smoke"]),
    ],
)
def test_a_mistake_names_file_and_field(tmp_path, change, words):
    root = copy_project(tmp_path)
    (root / "notebooks" / "settings" / "profiles" / "broken.yaml").write_text(yaml.safe_dump({"extends": "smoke", **change}))
    with pytest.raises(settings.ConfigError) as error:
        config.load("broken", root=root)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_yaml_that_is_none_names_the_line(tmp_path):
    root = copy_project(tmp_path)
    (root / "notebooks" / "settings" / "profiles" / "broken.yaml").write_text("seed: [1, 2\ndata: sample\n")
    with pytest.raises(settings.ConfigError, match=r"broken\.yaml.*line 2"):
        config.load("broken", root=root)


def test_missing_data_folder_names_the_variable(tmp_path):
    with pytest.raises(settings.ConfigError, match="ALIGN_DATA"):
        config.load("cpu_real", data_dir=tmp_path / "none")


def test_a_persona_must_be_worded_in_every_language(tmp_path):
    root = copy_project(tmp_path)
    path = root / "notebooks" / "settings" / "profiles" / "smoke.yaml"
    path.write_text(path.read_text() + "survey: {personas: [none, mars]}\n")
    with pytest.raises(
        settings.ConfigError, match=r"survey\.personas.*'mars' is not worded in .*languages/en\.yaml; there are none, "
    ):
        config.load("smoke", root=root)


def test_a_profile_keeps_to_one_backend(tmp_path):
    root = copy_project(tmp_path)
    path = root / "notebooks" / "settings" / "profiles" / "smoke.yaml"
    path.write_text(path.read_text().replace("models: [tiny]", "models: [tiny, qwen2.5-7b-4bit]"))
    with pytest.raises(
        settings.ConfigError, match=r"tiny \(transformers\), qwen2\.5-7b-4bit \(unsloth\): one backend a profile"
    ):
        config.load("smoke", root=root)


def test_results_go_to_the_folder_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_OUTPUT", str(tmp_path / "elsewhere"))
    cfg = config.load("smoke")
    assert cfg.runs == tmp_path / "elsewhere" / "runs" / "smoke" and cfg.figures == tmp_path / "elsewhere" / "figures" / "smoke"
    assert store_page.name_path(cfg, cfg.figures / "a.csv") == "figures/smoke/a.csv"
    assert store_page.name_path(cfg, ROOT / "data" / "neutral.csv") == "data/neutral.csv"


def test_resolved_profile_is_the_overlay_over_its_base():
    smoke, base = config.load("smoke").profile, yaml.safe_load((ROOT / "notebooks/settings/profiles/base.yaml").read_text())
    assert smoke.sft.steps == 4 and smoke.sft.learning_rate == base["sft"]["learning_rate"]
