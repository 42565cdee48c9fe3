"""Variants of the training: judged on validation cues alone, stored, compared with the reference; the settings of SFT's lists."""

import pandas as pd
import pytest
import yaml
from conftest import copy_project, prepare

from align_utils.config import profiles as config
from align_utils.config import settings as config_settings
from align_utils.lexical import lists as lexical_lists
from align_utils.models import adapters, load, prompts
from align_utils.norms import split
from align_utils.store import steps
from align_utils.training import ablation, job, sft, train

SHORT = {"sft": {"steps": 3, "eval_every": 2}}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    cfg = config.load("smoke", root=copy_project(tmp_path_factory.mktemp("ablation")))
    # Four test cues that stand nowhere else: as responses they would be words like others.
    data = prepare(cfg)
    frame, splits = data["us"].norms, steps.read_frame(cfg.runs / "norms" / "splits.csv", made_by="01")
    poisoned = {cue: f"poison{number}" for number, cue in enumerate(data["us"].cues["test"][:4])}
    steps.save_frame(frame.assign(cue=frame["cue"].replace(poisoned)), data["us"].path)
    steps.save_frame(splits.assign(cue_en=splits["cue_en"].replace(poisoned)), cfg.runs / "norms" / "splits.csv")
    assert set(poisoned.values()) <= set(split.load_run(cfg)["us"].cues["test"])
    return cfg


def write(cfg, name, **content):
    path = cfg.root / "notebooks" / "settings" / "ablations" / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return name


def two(cfg, name="two", **changes):
    tried = {"strength": {"reason": "in order", "overlay": {"sft": {"order": "strength"}}}, "default": {"reason": "as it is"}}
    return write(cfg, name, **({"stage": "sft", "reference": "default", "common": SHORT, "variants": tried} | changes))


def hash_adapters(cfg, name):
    return {path: path.stat().st_mtime_ns for path in (cfg.runs / "ablation" / name).rglob("adapter_model.safetensors")}


def test_an_interrupted_ablation_goes_on_and_never_asks_a_test_cue(project, monkeypatch):
    cfg, name, asked = project, two(project), []
    build, judge = prompts.build_list_prompt, ablation.judge_variant

    def record(language, cue, examples=()):
        asked.append(cue)
        return build(language, cue, examples)

    def stop_at_the_second(cfg, job, *rest):
        if job.variant == "strength":
            raise KeyboardInterrupt
        return judge(cfg, job, *rest)

    for place in (lexical_lists, sft):
        monkeypatch.setattr(place, "build_list_prompt", record)
    monkeypatch.setattr(ablation, "judge_variant", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        ablation.run_ablation(cfg, name, cultures=["us"])
    written = ablation.read_ablation_table(cfg, name)[0]["variant"]
    assert written.tolist() == ["default"], "the reference comes first, and its row is written"
    before = hash_adapters(cfg, name)
    assert len(before) == 2
    monkeypatch.setattr(ablation, "judge_variant", judge)
    table = ablation.run_ablation(cfg, name, cultures=["us"])
    assert hash_adapters(cfg, name) == before, "what was trained is not trained again"
    assert table["variant"].tolist() == ["default", "strength"] and (table["culture"] == "us").all()
    assert table["seconds"].gt(0).all() and table["steps"].eq(3).all() and table["loss"].nunique() == 2
    assert table["changes"].tolist() == ["none", "sft.order=strength"]
    assert table["attested_gap"].isna().tolist() == [True, False]
    data = split.load_run(cfg)["us"]
    assert set(asked) == {*data.cues["train"], *data.cues["valid"]}
    assert (table["cues"] == len(data.cues["valid"])).all()

    def fail(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(ablation, "train_stage", fail)
    again = ablation.run_ablation(cfg, name, cultures=["us"])
    pd.testing.assert_frame_equal(again, table)
    stored, _ = ablation.read_ablation_table(cfg, name)
    pd.testing.assert_frame_equal(stored[table.columns], table, check_dtype=False)
    best = stored.query("variant != @stored['variant'][0]").iloc[0]
    assert best["difference, top"] == f"{best.top_gap:+z.2f} [{best.top_gap_low:+z.2f}, {best.top_gap_high:+z.2f}]"
    assert {*ablation.SHOWN["sft"], *ablation.SHOWN["ppo"]} <= set(stored) and table["drawn"].isna().all()
    path = ablation.find_table(cfg, name)
    older = pd.read_csv(path).drop(columns=ablation.DRAWN)
    older.to_csv(path, index=False)
    assert ablation.read_ablation_table(cfg, name)[0]["drawn"].isna().all(), "a table without drawn lists is read"
    two(cfg, common={"sft": {"steps": 2, "eval_every": 2}})
    with pytest.raises(AssertionError, match="trained again"):
        ablation.run_ablation(cfg, name, cultures=["us"])


def test_what_follows_sft_starts_from_the_adapter_of_the_profile(project):
    cfg = project
    tried = {
        "sft": {"reason": "start", "stage": "sft"},
        "once": {"reason": "one update", "overlay": {"ppo": {"updates": 1}}},
        "shuffled": {"reason": "wrong norms", "stage": "control_shuffled", "overlay": SHORT},
    }
    name = write(cfg, "after", stage="ppo", reference="sft", variants=tried)
    table = ablation.run_ablation(cfg, name, cultures=["us"])
    assert table["stage"].tolist() == ["sft", "ppo", "control_shuffled"]
    paths = [cfg.runs, *(cfg.runs / "ablation" / name / variant for variant in ("sft", "once"))]
    found = [next((path / "adapters" / "tiny" / "us" / "sft").glob("seed-*/adapter_model.safetensors")) for path in paths]
    assert len({steps.hash_file(path) for path in found}) == 1
    assert table["loss"].nunique() == 3, "the policy is judged, not where it started"
    folder = cfg.runs / "ablation" / name / "once" / "adapters" / "tiny" / "us" / "ppo"
    log = pd.read_csv(next(folder.glob("seed-*/log.csv"))).set_index("update")["reward_valid"]
    assert table["drawn"].isna().tolist() == [True, False, True]
    assert table.loc[1, ["drawn", "drawn_gain"]].tolist() == pytest.approx([log[1], log[1] - log[0]])
    assert table.loc[1, "drawn_gain_low"] <= table.loc[1, "drawn_gain"] <= table.loc[1, "drawn_gain_high"]
    assert not (cfg.runs / "adapters" / "tiny" / "us" / "ppo").exists(), "the run's own adapters are left alone"
    train.train_stage(cfg, "tiny", "us", "ppo", split.load_run(cfg))
    plain = write(
        cfg, "plain", stage="ppo", reference="sft", variants={"sft": tried["sft"], "default": {"reason": "nothing else"}}
    )
    table = ablation.run_ablation(cfg, plain, cultures=["us"])
    assert table["seconds"].isna().all(), "the run's own adapter is brought, not trained a second time"


def test_held_out_loss_is_that_of_the_trainer(project):
    cfg = config.overlay_config(project, SHORT, source="test", runs=project.runs / "loss")
    people = split.load_run(project)
    data = people["us"]
    folder = train.train_stage(cfg, "tiny", "us", "sft", people)
    log = pd.read_csv(folder / "log.csv").dropna(subset="eval_loss")
    assert log["step"].tolist() == [0, 2, 3], "the last step is judged, whatever eval_every"
    model, tokenizer = load.load_base(cfg.models["tiny"], seed=cfg.profile.seed)
    model = adapters.attach_adapter(model, folder, "x").eval()
    rows = sft.build_held_out(data, cfg.languages["en"], cfg.profile.sft, seed=0)
    assert len(rows) == cfg.profile.sft.device_batch, "one batch: the trainer's mean over batches is the mean over tokens"
    losses = [sft.measure_loss(model, tokenizer, rows, batch=batch) for batch in (3, 8)]
    assert losses == pytest.approx([log["eval_loss"].iloc[-1]] * 2, abs=1e-5)


def test_differences_are_paired_and_from_the_reference(project):
    cfg, human = project, ["a", "b", "c", "d", "e", "f"]
    rows = [(cue, word, 10 - rank, rank) for cue in ("one", "two") for rank, word in enumerate(human, start=1)]
    frame = pd.DataFrame(rows, columns=["cue", "response", "count", "rank"])
    given = [
        ("ref", "one", ["a", "x", "y", "z", "w"]), ("ref", "two", ["a", "b", "x"]), ("new", "one", ["a", "b", "f"]),
        ("new", "two", ["a", "b", "x"]),
    ]  # fmt: skip
    lists = pd.DataFrame(given, columns=["variant", "cue", "responses"]).assign(model="tiny", culture="us")
    people = {"us": split.CultureNorms(frame, {}, cfg.runs)}
    families = {("us", "one"): 1, ("us", "two"): 2}
    table = ablation.compare_variants(cfg, lists, people, families, "ref").set_index("variant")
    assert table.loc["ref", ["attested", "top"]].tolist() == pytest.approx([0.3, 0.3])
    assert table.loc["new", ["attested", "top"]].tolist() == pytest.approx([0.5, 0.4])
    gaps = [f"attested_gap{end}" for end in ("", "_low", "_high")]
    assert table.loc["new", gaps].tolist() == pytest.approx([0.2, 0.0, 0.4]) and table.loc["ref", gaps].isna().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {"default": {"reason": "x", "overlay": {"sft": {"stepz": 1}}}}}, "variant 'default': field 'sft.stepz'"),
        ({"common": {"norms": {"test_pairs": 3}}}, "'norms' cannot be changed"),
        ({"stage": "dpo"}, "stage 'dpo' is not trained .*sft, ppo"),
        ({"reference": "other"}, "reference 'other' is none of the variants"),
        ({"variants": {"../x": {"reason": "x"}}}, "variants"),
    ],
)
def test_a_wrong_file_is_one_clear_error(project, changes, message):
    with pytest.raises(config_settings.ConfigError, match=message):
        ablation.run_ablation(project, two(project, "wrong", **changes))


def test_an_unknown_name_and_a_missing_table_say_what_to_do(project):
    with pytest.raises(config_settings.ConfigError, match="--variant none: .* has default, strength"):
        ablation.run_ablation(project, two(project, "named"), variants=["none"])
    none, how = ablation.read_ablation_table(project, "sft")
    assert none.empty and "`make ablation PROFILE=smoke`" in how


def test_files_of_the_project_fit_every_profile(project, tmp_path):
    settings = project.root / "notebooks" / "settings"
    (tmp_path / "swow").mkdir()
    for path in (settings / "ablations").glob("[ps]*.yaml"):
        for name in ("smoke", "cpu", "cpu_real", "colab", "paper"):
            cfg = config.load(name, root=project.root, data_dir=tmp_path)
            plan = config.read_settings(config_settings.Ablation, path.stem, root=project.root)
            assert len(ablation.list_cases(cfg, plan)) == len(plan.variants) * len(cfg.cultures) * len(cfg.models)


def test_no_two_variants_of_sft_teach_the_same(project):
    # As many training cues as the official files give; more responses a cue than the longest list holds.
    cues = [f"cue{number}" for number in range(671)]
    plan = config.read_settings(config_settings.Ablation, "sft", root=project.root)
    rows = [(cue, f"{cue} word{rank}", 2 ** (15 - rank), rank) for cue in cues for rank in range(1, 15)]
    frame, taught = pd.DataFrame(rows, columns=["cue", "response", "count", "rank"]), {}
    tried = {job.variant: job.cfg.profile.sft for job in ablation.list_cases(project, plan)}
    for name, settings in tried.items():
        rows = sft.plan_steps(settings, len(cues)) * settings.batch
        taught[name] = sft.build_examples(frame, cues, project.languages["en"], settings, rows=rows, seed=3)
    assert set(taught) == set(plan.variants)
    names = sorted(taught)
    assert not [(one, other) for one in names for other in names if one < other and taught[one] == taught[other]]


def test_the_budget_of_notebook_03_is_that_of_the_lists_that_ppo_draws(project):
    assert project.profile.critic_free.methods == ["rloo", "grpo"]  # 2 updates of 4 lists of PPO, of 2 x 4 of the others
    tried = {
        "ppo": {"reason": "a"}, "grpo": {"reason": "b", "stage": "grpo"},
        "more": {"reason": "c", "stage": "rloo", "overlay": {"critic_free": {"updates": 6, "samples": 8, "device_batch": 8}}},
    }  # fmt: skip
    jobs = ablation.list_cases(project, config.read_settings(config_settings.Ablation, 
        write(project, "budget", stage="ppo", reference="ppo", variants=tried), root=project.root
    ))  # fmt: skip
    minutes = {job.variant: ablation.estimate_minutes(project, job, 64) for job in jobs}
    whole = project.profile.minutes["03"] / 2  # two cultures
    assert minutes == pytest.approx({"ppo": whole, "grpo": whole * 16 / 8, "more": whole * 96 / 8})


def test_new_settings_leave_the_keys_of_stored_adapters_as_they_were(project):
    data = split.load_run(project)["us"]

    def key(**changes):
        cfg = config.overlay_config(project, {"sft": changes}, source="test", runs=project.runs)
        return job.Job(cfg, "tiny", "us", "sft", data, 1).describe()["sft"]

    first = {"steps", "batch", "learning_rate", "warmup_share", "list_length", "order", "max_tokens", "eval_every"}
    assert set(key()) == first and key(device_batch=1) == key()
    for change in ({"temperature": 2.0}, {"lists": "fixed"}, {"passes": 2.0}):
        assert key(**change) == key() | change
    with pytest.raises(config_settings.ConfigError, match="drawn lists"):
        key(order="strength", temperature=0.5)


def test_passes_take_the_place_of_steps(project):
    settings = project.profile.sft  # 4 steps of 8
    assert sft.plan_steps(settings, 64) == 4 and sft.count_passes(settings, 64) == 0.5
    two_passes = settings.model_copy(update={"passes": 2.0})
    assert sft.plan_steps(two_passes, 65) == 17 and sft.count_passes(two_passes, 65) == pytest.approx(136 / 65)


def test_fixed_lists_are_the_same_in_every_pass_and_fresh_ones_are_not(project):
    data, english = split.load_run(project)["us"], project.languages["en"]
    cues = data.cues["train"][:12]
    passes = {}
    for lists in ("fixed", "fresh"):
        settings = project.profile.sft.model_copy(update={"list_length": 4, "lists": lists, "temperature": 1.5})
        rows = sft.build_examples(data.norms, cues, english, settings, rows=36, seed=3)
        passes[lists] = [{row["prompt"]: row["completion"] for row in rows[i : i + 12]} for i in (0, 12, 24)]
        assert rows[:12] != rows[12:24] != rows[24:], "the cues are shuffled anew"
    assert passes["fixed"][0] == passes["fixed"][1] == passes["fixed"][2]
    changed = [sum(first[p] != second[p] for p in first) for first, second in zip(passes["fresh"], passes["fresh"][1:])]  # noqa: B905
    assert min(changed) >= 6
