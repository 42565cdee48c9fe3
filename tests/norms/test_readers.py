"""Whatever bytes a file of norms holds: a valid frame, or one sentence of the project's own error."""

import gzip
from types import SimpleNamespace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from align_utils.config.settings import Culture
from align_utils.norms import cleaning, overlap, split, strengths
from align_utils.store.textfiles import DataError

PARTS = [
    "dog", "cat", "狗", "猫", "", "1", "2", "5", "5.7", "-1", "NA", "null", '"', '""', "\\", "\t", ",", ";", "|", "\n", "\r", "\r\n", " ", "\0", "\ufeff", "\xa0",
    "sep=;", "#NAME?", "2-Mar", "??", "cafÃ©", "0123456789abcdef0123456789abcdef", "#Missing", "en", "zh", "domain", "United States",
]  # fmt: skip
HEADERS = {
    "strengths": ["cue", "response", "R123", "N"], "trials": ["participantID", "nativeLanguage", "cue", "R1", "R2", "R3"],
    "complete": ["participantID", "nativeLanguage", "cue", "R1Raw", "R2Raw", "R3Raw", "R1", "R2", "R3"],
    "pairs": ["cue_en", "cue_zh", "domain"], "translations": ["en", "zh"], "list": ["original", "correction"],
}  # fmt: skip
WORDS = ["dog", "Dog", "cat", "bone", "狗", "NA", '"oh']
SOUND = {"R123": ["1", "2"], "N": ["5"], "participantID": ["7", "9"], "nativeLanguage": ["United States", "Dutch"]}


@st.composite
def files(draw):
    """(What is read, bytes, whether gzip is in the name): a sound header and rows of odd fields, or anything at all."""
    what = draw(st.sampled_from(sorted(HEADERS)))
    separator = draw(st.sampled_from("\t,;|"))
    if draw(st.booleans()):
        rows = [
            [draw(st.sampled_from(SOUND.get(name, WORDS))) for name in HEADERS[what]] for _ in range(draw(st.integers(1, 5)))
        ]
        if draw(st.booleans()):
            draw(st.sampled_from(rows))[draw(st.integers(0, len(HEADERS[what]) - 1))] = draw(st.sampled_from(PARTS))
        text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(map(separator.join, [HEADERS[what], *rows]))
    else:
        text = draw(st.sampled_from(["", separator.join(HEADERS[what]) + "\n"])) + "".join(
            draw(st.lists(st.sampled_from(PARTS), max_size=25))
        )
    raw = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"])))
    raw = draw(st.one_of(st.just(raw), st.just(raw), st.binary(max_size=99)))
    zipped = draw(st.booleans())
    return what, gzip.compress(raw) if zipped else raw, zipped and draw(st.booleans())


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(files())
def test_whatever_bytes_valid_norms_or_one_sentence(tmp_path, cfg, english, file):
    what, raw, zipped = file
    names = {"pairs": "cue_pairs.csv", "translations": "translations.csv", "list": "cueCorrections.txt"}
    (tmp_path / "swow").mkdir(exist_ok=True)
    for old in (tmp_path / "swow").iterdir():
        old.unlink()
    path = tmp_path / "swow" / (names.get(what) or f"norms.csv{'.gz' * zipped}")
    path.write_bytes(raw)
    run = SimpleNamespace(data_dir=tmp_path, languages=cfg.languages, root=cfg.root)
    try:
        if what == "strengths":
            frame, repairs = strengths.load_strengths(path, english, "R123")
            split.NORMS.validate(frame)
            assert len(frame) and all(count >= 0 for count in repairs.values())
            assert (frame.groupby("cue")["count"].sum() <= frame.groupby("cue")["n"].first()).all() or frame["count"].le(
                frame["n"]
            ).all()
        elif what in {"trials", "complete"}:
            native = {"column": "nativeLanguage", "values": ["United States"]}
            culture = Culture(
                name="us", label="us", language="en", survey_country="X", survey_n=1, norms={"strengths": {}, "native": native}
            )
            form = strengths.find_format(path, cfg.formats)
            trials, _, report = strengths.choose_trials(
                strengths.read_trials(path, form, "nativeLanguage", english), path, form, culture
            )
            split.TRIALS.validate(trials)
            assert len(trials) and (trials["cue"] != "").all() and (report["count"] >= 0).all()
        elif what == "pairs":
            pairs = split.load_pairs(run)
            assert len(pairs) and all(
                pairs[f"cue_{name}"].is_unique and (pairs[f"cue_{name}"] != "").all() for name in cfg.languages
            )
        elif what == "translations":
            table = overlap.load_translations(run, "en", "zh")
            assert len(table) and (table[["en", "zh"]] != "").all(axis=None)
        else:
            steps = next(form.steps for form in cfg.formats if form.name == "swow-en-complete")
            assert all(len(row) == 2 for row in cleaning.load_lists(steps, tmp_path / "swow")["cueCorrections.txt"])
    except DataError as error:
        assert path.name in str(error) and "\n" not in str(error) and len(str(error)) < 1200
