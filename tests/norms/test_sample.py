"""The bundled sample keeps its quality, and holds no line of the files that may not be shipped."""

import gzip
import re

import pandas as pd
import pytest
from conftest import ROOT

from align_utils.norms import strengths

HAN, LATIN = re.compile(r"[\u4e00-\u9fff]"), re.compile(r"[A-Za-z]")
SAMPLE = ROOT / "data" / "sample"
# A few characters that simplified text never uses.
TRADITIONAL = set("學國來時會個為說對長車馬門開東電話書買賣愛錢飯")


@pytest.mark.parametrize(("name", "script", "other"), [("us", LATIN, HAN), ("cn", HAN, None)])
def test_lists_are_whole_and_in_the_right_script(cfg, name, script, other):
    loaded = strengths.load_norms(cfg)[name]
    frame, report = loaded.norms, loaded.report
    repairs = report.loc[report["step"].str.startswith("read strength"), "count"]
    assert len(repairs) and not repairs.any(), "the sample needs no repair"
    sizes = frame.groupby("cue").size()
    assert len(sizes) >= 240 and sizes.between(10, 15).all()
    assert (frame.groupby("cue")["count"].sum() == frame.groupby("cue")["n"].first()).all()
    assert frame["cue"].map(lambda w: bool(script.search(w))).all()
    language = cfg.language_of(name)
    assert not frame.assign(form=frame["response"].map(language.normalise)).duplicated(["cue", "form"]).any()
    assert not (frame["cue"].map(language.normalise) == frame["response"].map(language.normalise)).any()
    share = frame["response"].map(lambda w: bool(script.search(w))).mean()
    assert share > 0.97, "digits and a few names apart, responses are in the language's script"
    if other:
        assert not frame["response"].map(lambda w: bool(other.search(w))).any()
    else:
        assert not frame["response"].map(lambda w: bool(set(w) & TRADITIONAL)).any()


def test_lists_are_no_template(cfg):
    for name in cfg.cultures:
        frame = strengths.load_norms(cfg)[name].norms
        counts = frame.groupby("cue")["count"].agg(tuple)
        assert counts.nunique() > 0.9 * len(counts), "count patterns vary"
        assert frame["response"].value_counts().max() < 0.12 * len(counts), "no filler response"


def test_participants_are_there_for_sixty_pairs_and_marked_as_made(cfg):
    for name in cfg.cultures:
        assert strengths.load_norms(cfg)[name].trials["cue"].nunique() >= 60
    text = (SAMPLE / "README.md").read_text()
    for path in SAMPLE.rglob("*sample*"):
        assert f"`{path.relative_to(SAMPLE)}`" in text, f"{path.name} has its line in data/sample/README.md"
    assert "no real participants" in text and "made up" in text


def test_ratings_cover_what_occurs_often(cfg):
    from align_utils.lexical import ratings

    for name in cfg.cultures:
        language = cfg.language_of(name)
        found, _ = ratings.load_ratings(cfg, language)
        assert set(language.ratings) - set(found) <= {"dominance"}, "the sample rates no dominance"
        frame = strengths.load_norms(cfg)[name].norms
        rated = frame["response"].map(language.normalise).isin(found["valence"].index)
        assert frame.loc[rated, "count"].sum() / frame["count"].sum() > 0.4


def test_no_line_is_shared_with_the_official_files(real_data):
    known = set()
    for path in real_data.rglob("*"):
        if path.is_file() and path.suffix in {".csv", ".txt", ".gz"}:
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            known.update(line.strip() for line in raw.decode("utf-8-sig").splitlines()[1:])
    for path in (ROOT / "data").rglob("*"):
        if path.is_file() and path.suffix in {".csv", ".txt", ".yaml"} and "raw" not in path.parts:
            shared = [line for line in path.read_text().splitlines()[1:] if len(line) > 8 and line.strip() in known]
            assert not shared, f"{path}: {shared[:3]}"


def test_survey_sample_differs_by_country(cfg):
    frame = pd.read_csv(SAMPLE / "wvs" / "distributions.sample.csv")
    assert frame["question"].nunique() == 60 and set(frame["country"]) == {"USA", "CHN"}
    assert frame.groupby(["question", "country"])["share"].sum().round(6).eq(1).all()
