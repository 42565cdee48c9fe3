"""Lists as they are drawn: stored by cell, of the test cues alone, and their precision worked by hand."""

import pandas as pd
import pytest
from test_participants import make_project, make_talkative

from align_utils import config
from align_utils.lexical import drawn, precision
from align_utils.norms import split
from align_utils.store import steps
from align_utils.store.steps import hash_file


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("drawn"))


def change(cfg, **settings):
    profile = cfg.profile.model_copy(update={"lexical": cfg.profile.lexical.model_copy(update=settings)})
    return config.Config(profile, cfg.root, cfg.data_dir)


def test_every_cell_is_drawn_once_and_more_lists_keep_the_earlier_ones(project, monkeypatch):
    cfg, stage = project
    sample, calls = drawn.sample_lists, []

    def stop_at_the_third(*args, **kwargs):
        calls.append((kwargs["label"].split(",")[0], tuple(args[3])))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sample(*args, **kwargs)

    monkeypatch.setattr(drawn, "sample_lists", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        drawn.draw_test_lists(cfg, "tiny", stage)
    paths = drawn.draw_test_lists(cfg, "tiny", stage)
    names = ["few_shot", "sft", "ppo"]
    assert [label for label, _ in calls] == [
        *(f"us {name}" for name in names[:3]), *(f"us {name}" for name in names[2:]), *(f"cn {name}" for name in names)
    ]  # fmt: skip
    assert all(list(cues) == stage[label[:2]].cues["test"] for label, cues in calls)
    us, cn = (steps.read_frame(path, made_by="04") for path in paths)
    assert us.groupby(["stage", "cue"]).size().eq(cfg.profile.lexical.drawn).all() and set(cn["stage"]) == set(names)
    assert us.groupby("stage")["text"].agg(tuple).nunique() == len(names), "every stage draws for itself"
    drawn.draw_test_lists(cfg, "tiny", stage)
    assert len(calls) == 7, "nothing is drawn twice"
    before = [hash_file(path) for path in paths]
    more = drawn.draw_test_lists(cfg, "tiny", stage, extra=True)
    assert more[:2] == paths and len(calls) == 11 and before == [hash_file(path) for path in paths]
    assert [set(steps.read_frame(path, made_by="A4")["stage"]) for path in more[2:]] == [{"rloo", "grpo"}] * 2
    three = steps.read_frame(drawn.draw_test_lists(change(cfg, drawn=3), "tiny", stage)[0], made_by="04")
    assert three[three["participant"] <= 2]["text"].tolist() == us["text"].tolist()


def test_lists_hold_so_many_whole_words_and_end_there(english):
    model, tokenizer = make_talkative(3)
    given = {"words": 2, "max_new_tokens": 30, "batch": 24, "seed": 1}
    frame = drawn.sample_lists(model, tokenizer, english, ["dog", "sun"], ["dog:", "sun:"], n=12, temperature=1.0, **given)
    lengths = frame["responses"].map(len)
    assert lengths.max() == 2 and lengths.nunique() > 1
    cut = frame[frame["text"].str.endswith(",")]
    assert len(cut) > 3 and cut["responses"].map(len).eq(2).all(), "a full list ends with its last word's separator"
    # At no temperature to speak of, draws are the likeliest words: the same list for every participant.
    cold = drawn.sample_lists(model, tokenizer, english, ["dog"], ["dog:"], n=4, temperature=1e-4, **given)
    assert cold["text"].nunique() == 1 and frame["text"].nunique() > 1


def test_precision_is_the_mean_over_a_cues_lists_and_differences_are_by_cue(project):
    cfg, stage = project
    norms, cues = stage["us"].norms, stage["us"].cues["test"]
    best = {cue: norms.query("cue == @cue and rank <= 5")["response"].tolist() for cue in cues}
    rows = [
        # GRPO: one list all right, one with a single right response; SFT: nothing, and nothing but one.
        row
        for cue in cues
        for row in (
            ("grpo", 1, cue, best[cue]), ("grpo", 2, cue, [best[cue][0], "x1", "x2", "x3", "x4"]), ("sft", 1, cue, []),
            ("sft", 2, cue, [best[cue][0]]), ("ppo", 1, cue, []), ("ppo", 2, cue, []), ("few_shot", 1, cue, []),
            ("few_shot", 2, cue, []), ("rloo", 1, cue, []), ("rloo", 2, cue, []),
        )
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["stage", "participant", "cue", "responses"]).assign(
        model="tiny", culture="us", text="", seed=1
    )
    path = steps.save_frame(frame, cfg.runs / "drawn" / "by_hand.parquet")
    scored = drawn.score_drawn(cfg, [path], stage, split.map_families(cfg))
    assert len(scored) == 5 * len(cues) * 3
    means, gaps = precision.summarise_measures(cfg, scored)
    found = means.set_index(["stage", "measure"])["value"]
    for name in ("precision_at_5_top", "precision_at_5_attested"):
        assert found["grpo", name] == pytest.approx((1 + 0.2) / 2) and found["sft", name] == pytest.approx(0.1)
    # Of ten words one is said twice.
    assert found["grpo", "distinct_words"] == 9 and found["sft", "distinct_words"] == 1 and found["ppo", "distinct_words"] == 0
    assert "grpo - sft" in set(gaps["comparison"]) and not gaps["comparison"].str.contains("control").any()
    gain = gaps.query("comparison == 'grpo - sft' and measure == 'precision_at_5_attested'").iloc[0]
    assert gain["value"] == pytest.approx(0.5) and gain["n"] == len(cues) and gain["p"] <= gain["p_holm"]
    # A second training of SFT says nothing at all; the untuned model, drawn once, stands beside both.
    empty = pd.Series([[]] * len(frame))
    second = frame.assign(seed=2, responses=empty.where(frame["stage"] == "sft", frame["responses"])).query(
        "stage != 'few_shot'"
    )
    path = steps.save_frame(pd.concat([frame, second]), cfg.runs / "drawn" / "by_hand.parquet")
    means, gaps = precision.summarise_measures(cfg, drawn.score_drawn(cfg, [path], stage, split.map_families(cfg)))
    found = means.query("measure == 'precision_at_5_attested'").set_index("stage")
    assert (
        found["value"][["sft", "grpo", "few_shot"]].tolist() == pytest.approx([0.05, 0.6, 0])
        and (found["n"] == len(cues)).all()
    )
    gain = gaps.query("comparison == 'sft - few_shot' and measure == 'precision_at_5_attested'").iloc[0]
    assert gain["value"] == pytest.approx(0.05) and gain["n"] == len(cues)


def test_switched_off_there_are_tables_without_rows(project):
    cfg, stage = project
    off = change(cfg, drawn=0)
    assert drawn.draw_test_lists(off, "tiny", stage) == []
    scored = drawn.score_drawn(off, [], stage, {})
    means, gaps = precision.summarise_measures(off, scored)
    assert scored.empty and means.empty and gaps.empty
