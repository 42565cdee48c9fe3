"""Participant files: every official format recognised and read by its YAML; what is wrong is one error or a counted repair."""

import gzip

import pytest
import yaml
from conftest import ROOT, copy_project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from align_utils import config
from align_utils.config.settings import UNKNOWN, Culture
from align_utils.norms import describe, strengths
from align_utils.store.textfiles import DataError

FULL = "participantID,created_at,age,nativeLanguage,gender,education,city,country,section,cue,R1Raw,R2Raw,R3Raw,R1,R2,R3\n"
# Written by us in the columns of each official file: name, text, the rows expected (participant, cue, R1, R2, R3), other files.
FILES = {
    "swow-en-complete": (
        "SWOW-EN.complete.20180827.csv",
        '"","id",' + FULL.replace("participantID,", '"participantID",') + '1,1,7,2018-01-01 10:00:00,30,United States,Fe,4,x,US,set1,'
        "dog,kat,bone,No more responses,cat,bone,No more responses\n"
        '2,2,8,2018-01-01 10:00:00,31,Ireland,Ma,NA,x,IE,set1,dog,"""Unknown word","""Unknown word","""Unknown word",'
        '"""Unknown word","""Unknown word","""Unknown word"\n',
        [("7", "dog", "cat", "bone", ""), ("8", "dog", UNKNOWN, UNKNOWN, UNKNOWN)], {},
    ),
    "swow-balanced": (
        "SWOW-EN.R100.20180827.csv",
        '"","id","participantID","age","gender","nativeLanguage","country","education","created_at","cue","R1","R2","R3"\n'
        '"1",1,7,30,"Fe","United States","US",NA,"2018-01-01 10:00:00","nothing","null","nan","none"\n'
        '"2",2,8,30,"Fe","Canada","CA",4,"2018-01-01 10:00:00","nothing",NA,NA,NA\n',
        [("7", "nothing", "null", "nan", "none"), ("8", "nothing", "", "", "")], {},
    ),
    "swow-zh-raw": (
        "SWOW-ZH_raw.csv",
        "sequenceNumber,sheetID,ParticipantID," + FULL.split(",", 1)[1].replace("cue", "Cue")
        + "1,1,7,2020-01-01,30,PUTON,Fe,4,x,CN,set1,狗,猫,骨头,没有了,,,\n2,2,8,2020-01-01,30,WU,Fe,4,x,CN,set1,狗,不认识,不认识,不认识,,,\n",
        [("7", "狗", "猫", "骨头", ""), ("8", "狗", UNKNOWN, UNKNOWN, UNKNOWN)], {},
    ),
    "swow-zh-r55": (
        "SWOWZH.R55.20230424.csv",
        "sequenceNumber,trialsID," + FULL
        + "1,1,7,2020-01-01,30,PUTON,Fe,4,x,CN,NAODAO,狗,喵,骨,没有了,猫,0123456789abcdef0123456789abcdef,#Missing\n"
        "2,2,8,2020-01-01,30,WU,Fe,4,x,CN,set1,狗,x,x,x,#Unknown,#Unknown,#Unknown\n",
        [("7", "狗", "猫", "", ""), ("8", "狗", UNKNOWN, UNKNOWN, UNKNOWN)], {},
    ),
    "swow-de": (
        "SWOW_DE_2025_R55.csv",
        "trial_id,participant_id,native_language,cue,unknown_word,response_corrected_1,response_corrected_2,response_corrected_3\n"
        "1,a7,Deutsch,Hund,FALSE,Katze,Knochen,\n",
        [("a7", "Hund", "Katze", "Knochen", "")], {},
    ),
    "swow-nl": (
        "associationData.csv", "recodedPP_ID;ctr;cue;asso1;asso2;asso3\n1;1;hond;kat;bot, groot;\n",
        [("1", "hond", "kat", "bot, groot", "")], {"users.csv": "recodedPP_ID;age;sexe;logindate\n1;30;F;2010\n"},
    ),
    "swow-rp": (
        "SWOWRP.R70.20220426.csv", "participantID,responseID,cue,R1,R2,R3,age,gender\n5,9,perro,gato,hueso,NA,30,Fe\n",
        [("5", "perro", "gato", "hueso", "")], {},
    ),
    "swow-sl": (
        "SWOW-SL1.0_responses.tsv",
        "participantID\tid\tcue\tresponse1\tresponse2\tresponse3\np1\t1\tpes\tmačka\tkost\t<noMoreReplies>\n"
        "p2\t2\tpes\t<unknownWord>\t<unknownWord>\t<unknownWord>\n",
        [("p1", "pes", "mačka", "kost", ""), ("p2", "pes", UNKNOWN, UNKNOWN, UNKNOWN)],
        {"SWOW-SL1.0_participants.tsv": "participantID\tnativeLanguage\np1\tslovenščina\np2\tother\n"},
    ),
    "lwow": ("FA_Haiku.csv", "cue,R1,R2,R3\ndog,cat,,\ndog,bone,leash,cat\n", [("2", "dog", "cat", "", ""), ("3", "dog", "bone", "leash", "cat")], {}),
}  # fmt: skip


def make_culture(native=None, **more):
    given = {"column": native[0], "values": native[1]} if native else None
    files = {"strengths": {}, "native": given, **more}
    return Culture(name="x", label="x", language="en", survey_country="X", survey_n=1, norms=files)


def load(path, cfg, english, native=None):
    """Trials of a culture's speakers before any cleaning, and what was left out."""
    form = strengths.find_format(path, cfg.formats).model_copy(update={"steps": []})
    raw = strengths.read_trials(path, form, native and native[0], english)
    return strengths.choose_trials(raw, path, form, make_culture(native))[:2]


def write(folder, name):
    path, text, rows, others = folder / FILES[name][0], *FILES[name][1:]
    for file, content in {path.name: text, **others}.items():
        (folder / file).write_text(content, encoding="utf-8")
    return path, rows


@pytest.mark.parametrize("name", FILES)
def test_every_official_format_is_recognised_and_read(tmp_path, cfg, english, name):
    path, rows = write(tmp_path, name)
    form = strengths.find_format(path, cfg.formats)
    assert form.name == name
    frame = strengths.read_trials(path, form, None, english)
    assert frame[["participant", "cue", "R1", "R2", "R3"]].values.tolist() == [list(row) for row in rows]


def test_every_format_has_a_fixture(cfg):
    assert {form.name for form in cfg.formats} == set(FILES)


def test_native_speakers_are_taken_from_the_file_or_from_the_joined_one_and_the_rest_counted(tmp_path, cfg, english):
    for name, native in (
        ("swow-en-complete", ("nativeLanguage", ["United States"])),
        ("swow-sl", ("nativeLanguage", ["slovenščina"])),
    ):
        path, rows = write(tmp_path, name)
        frame, repairs = load(path, cfg, english, native)
        assert frame["participant"].tolist() == [rows[0][0]]
        assert repairs["trials of other speakers left out"] == repairs["missing responses"] == 1


def test_other_countries_never_stand_for_a_culture(tmp_path, cfg, english):
    path, _ = write(tmp_path, "swow-en-complete")
    with pytest.raises(DataError, match="no trial with nativeLanguage.*Jamaica.*'x'"):
        load(path, cfg, english, ("nativeLanguage", ["Jamaica"]))


@pytest.mark.parametrize(
    ("participants", "words"),
    [
        (None, ["_participants", "norms.native"]),
        ("participantID\tnativeLanguage\np1\tx\n", ["line 3", "p2", "release"]),
        ("participantID\tnativeLanguage\np1\tx\np2\tx\np1\tx\n", ["participants.tsv", "line 4", "p1", "twice"]),
        ("participantID\tage\np1\t3\np2\t4\n", ["participants.tsv", "line 1", "nativeLanguage"]),
    ],
)
def test_a_participant_file_that_does_not_fit_is_one_error(tmp_path, cfg, english, participants, words):
    path, _ = write(tmp_path, "swow-sl")
    other = tmp_path / "SWOW-SL1.0_participants.tsv"
    other.unlink() if participants is None else other.write_text(participants)
    with pytest.raises(DataError) as error:
        load(path, cfg, english, ("nativeLanguage", ["x"]))
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("participantID,cue,R1,R2\n1,dog,cat,bone\n", ["line 1", "R3 is missing", "notebooks/settings/formats"]),
        ("participantID,cue,R1,R2,R3\nUnited States,dog,cat,bone,x\n", ["line 2", "'participantID'", "'United States'"]),
        ("participantID,cue,R1,R2,R3\n1,dog,a,b,c\n2,,a,b,c\n", ["line 3", "empty cue", "shifted"]),
        ("participantID,cue,R1,R2,R3\n1,dog,a,b,c\n2,dog,a,b\n", ["line 3", "got 4"]),
        ("participantID,cue,R1,R2,R3,cue\n1,dog,a,b,c,dog\n", ["line 1", "cue stands twice"]),
    ],
)
def test_bad_files_are_one_error_with_the_place(tmp_path, cfg, english, text, words):
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        load(path, cfg, english)
    assert all(word in str(error.value) for word in ["broken.csv", *words]), error.value


def test_a_file_of_two_formats_is_refused_until_the_culture_names_one(tmp_path, cfg):
    path, _ = write(tmp_path, "swow-balanced")
    twin = cfg.formats[[form.name for form in cfg.formats].index("swow-balanced")].model_copy(update={"name": "twin"})
    with pytest.raises(DataError, match=r"swow-balanced, twin.*norms\.format"):
        strengths.find_format(path, [*cfg.formats, twin])
    assert strengths.find_format(path, [*cfg.formats, twin], "twin").name == "twin"


HEADER, *ROWS = [line.split(",") for line in (
    "id," + FULL + "1,7,2018-01-01 10:00:00,30,United States,Fe,4,x,US,set1,dog,kat,bone,walk,cat,bone,walk\n"
    "2,8,2018-01-01 10:00:00,31,Ireland,Ma,3,x,IE,set1,dog,lead,No more responses,No more responses,lead,No more responses,No more responses\n"
    "3,9,2018-01-02 10:00:00,32,United States,Ma,3,x,US,set1,café,cup,milk,spoon,cup,milk,spoon\n"
    "4,9,2018-01-02 10:00:00,32,United States,Ma,3,x,US,set1,tree,leaf,bark,root,leaf,bark,root"
).split("\n")]  # fmt: skip
NEEDED = {"participantID", "nativeLanguage", "cue", "R1Raw", "R1", "R2", "R3"}


@st.composite
def mutations(draw):
    """(what was done, bytes of the file, whether it is gzipped)."""
    rows = [list(row) for row in (HEADER, *ROWS)]
    kind = draw(st.sampled_from(["separator", "column", "short", "long", "shift", "bom", "crlf", "latin", "gzip", "cut"]))
    separator, line, column = ",", draw(st.integers(1, len(ROWS))), draw(st.integers(0, len(HEADER) - 1))
    if kind == "separator":
        separator = draw(st.sampled_from([";", "|", "\t", " "]))
    elif kind == "column":
        for row in rows:
            del row[column]
    elif kind in {"short", "shift"}:
        del rows[line][column]
        rows[line] += [""] * (kind == "shift")
    elif kind == "long":
        rows[line].insert(column, "more")
    raw = "\n".join(separator.join(row) for row in rows).encode("latin-1" if kind == "latin" else "utf-8")
    raw = raw.replace(b"\n", b"\r\n") if kind == "crlf" else b"\xef\xbb\xbf" + raw if kind == "bom" else raw
    if kind in {"gzip", "cut"}:
        raw = gzip.compress(raw)
    if kind == "cut":
        raw = raw[: draw(st.integers(0, len(raw) - 1))]
    return (kind, separator, HEADER[column], line), raw, kind in {"gzip", "cut"}


AMERICANS = "nativeLanguage", ["United States"]


@pytest.fixture
def whole(tmp_path, cfg, english):
    (tmp_path / "whole.csv").write_text("\n".join(",".join(row) for row in (HEADER, *ROWS)), encoding="utf-8")
    return load(tmp_path / "whole.csv", cfg, english, AMERICANS)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations())
def test_a_changed_file_is_an_error_with_its_place_or_a_counted_repair(tmp_path, cfg, english, whole, mutation):
    (kind, separator, column, line), raw, zipped = mutation
    name = "changed.csv.gz" if zipped else "changed.csv"
    (tmp_path / name).write_bytes(raw)
    harmless = kind in {"bom", "crlf", "gzip"} or separator in "\t;|" or (kind == "column" and column not in NEEDED)
    try:
        frame, repairs = load(tmp_path / name, cfg, english, AMERICANS)
    except DataError as error:
        assert not harmless, error
        assert name in str(error) and "\n" not in str(error)
        place = {"latin": "line 4", "separator": "line 1", "cut": "fetch it again", "column": f"column {column} is missing"}
        assert place.get(kind, f"line {line + 1}") in str(error), error
        return
    assert harmless or kind == "shift", kind
    if frame.equals(whole[0]):
        return
    assert kind == "shift" and repairs != whole[1], "numbers changed in silence"


BALANCED, STRENGTHS = FILES["swow-balanced"][1], "cue\tresponse\tR123\tN\ndog\tcat\t2\t3\n"


def load_us(folder, files):
    (folder / "swow").mkdir(exist_ok=True)
    for name, text in files.items():
        path = folder / "swow" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    cfg = config.load("smoke")
    vars(cfg).update(data_dir=folder, cultures={"us": cfg.cultures["us"]})
    return strengths.load_norms(cfg)["us"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["strength.SWOW-EN.R123.20180827.csv"], "R123.20180827.csv (all countries together, which never stand for the US; take SWOW-EN.R100"),
        (["SWOW-EN18/SWOW-EN.R100.20180827.csv"], "SWOW-EN18 (a folder; move SWOW-EN.R100.20180827.csv out of it)"),
        (["SWOW-EN.R100.20180827.csv.zip"], "SWOW-EN.R100.20180827.csv.zip (it ends otherwise: unpack"),
        (["SWOW-EN.R100.20180827.csv.bak", "SWOW-EN.R100.20180827.xlsx"], "csv.bak (it ends otherwise: unpack, export or rename the table), SWOW-EN.R100.20180827.xlsx (it ends otherwise"),
        (["SWOWEN.spellchecked.27-06-2022.csv"], "of another name: SWOWEN.spellchecked.27-06-2022.csv"),
        ([], "is empty"),
    ],
)  # fmt: skip
def test_where_no_norms_are_what_is_there_is_named(tmp_path, names, said):
    with pytest.raises(DataError) as error:
        load_us(tmp_path, dict.fromkeys(names, BALANCED))
    assert said in str(error.value) and "no norms for culture 'us'; expected one of: strength.SWOW-EN-US*.R123*" in str(
        error.value
    )


def test_norms_are_found_beside_what_is_none_and_what_is_left_aside_is_said(tmp_path):
    names = [
        "SWOW-EN.R100.20180827.csv",
        "SWOW-EN.R100.20180827.csv.bak",
        "SWOW-EN.R100.20180827.csv~",
        "SWOW-EN.R100.20180827.rds",
    ]
    part = load_us(
        tmp_path, {name: BALANCED if name.endswith(".csv") else "" for name in [*names, "strength.SWOW-EN.R123.csv"]}
    )
    aside = "in swow do not count: strength.SWOW-EN.R123.csv (all countries together"
    assert part.norms["response"].tolist() == ["nan", "none", "null"] and part.report.loc[
        part.report["step"] == "find", "what"
    ].str.startswith(aside).tolist() == [True]
    part = load_us(tmp_path, {"SWOW-EN.R100.2019.csv": BALANCED, "strength.SWOW-EN-US.R123.csv": STRENGTHS})
    assert part.published and len(part.trials) == 1
    (told,) = part.report.loc[part.report["step"] == "find", "what"]
    assert told.startswith("SWOW-EN.R100.20180827.csv is read, not SWOW-EN.R100.2019.csv, which would do too")
    assert "SWOW-EN.R100.2019" not in describe.describe_norms({"us": part})["repairs"][0]


def test_cultures_of_one_file_read_it_once(tmp_path, monkeypatch):
    rows = "".join(
        f"{n},{land},dog,{word},NA,NA\n" for n, (land, word) in enumerate([("United States", "cat"), ("Canada", "bone")])
    )
    (tmp_path / "swow").mkdir()
    (tmp_path / "swow/SWOW-EN.R100.csv").write_text("participantID,nativeLanguage,cue,R1,R2,R3\n" + rows)
    cfg, read = config.load("smoke"), []
    us = cfg.cultures["us"]
    native = us.norms.native.model_copy(update={"values": ["Canada"]})
    canada = us.model_copy(update={"name": "ca", "norms": us.norms.model_copy(update={"native": native})})
    vars(cfg).update(data_dir=tmp_path, cultures={"us": us, "ca": canada})
    plain = strengths.read_trials
    monkeypatch.setattr(strengths, "read_trials", lambda *given: read.append(given[0].name) or plain(*given))
    found = {name: part.norms["response"].tolist() for name, part in strengths.load_norms(cfg).items()}
    assert found == {"us": ["cat"], "ca": ["bone"]} and read == ["SWOW-EN.R100.csv"]


def test_a_culture_and_a_format_of_its_own_are_yaml_only(tmp_path):
    """A file in no known format, for a culture that nobody described: two YAML files and a profile."""
    root, data = copy_project(tmp_path / "project"), tmp_path / "mine"
    (data / "swow").mkdir(parents=True)
    (root / "notebooks/settings/formats/own.yaml").write_text(yaml.safe_dump({
        "label": "ours", "recognised": {"has": ["person", "stimulus", "first"]}, "numeric_participant": False,
        "columns": {"participant": "person", "cue": "stimulus", "R1": "first", "R2": "second", "R3": "third"}, "missing": ["-"],
        "steps": [{"step": "recode_doubles"}],
    }))  # fmt: skip
    write_profile(root, {name: {"trials": ["own*.txt"]} for name in ("own", "twin")})
    (data / "swow/own-1.txt").write_text("person|stimulus|first|second|third\na|dog|cat|cat|bone\nb|dog|cat|-|-\n")
    loaded = strengths.load_norms(config.load("third", root=root, data_dir=data))["own"]
    assert loaded.norms[["response", "count", "n"]].values.tolist() == [["cat", 2, 3], ["bone", 1, 3]]
    table = describe.tabulate_cleaning({"own": loaded})
    assert not loaded.published and table["count"].tolist() == [0, 2, 0, 0, 1, 1] and (table["culture"] == "own").all()
    assert table["step"].tolist() == ["read own-1.txt"] * 4 + ["recode_doubles"] * 2


def test_the_british_and_oceanian_norms_of_the_same_concepts_are_yaml_only(tmp_path):
    """The example of data/README.md: cultures by the speakers of one English file; strengths are counted from its trials."""
    root, data = copy_project(tmp_path / "project"), tmp_path / "mine"
    (data / "swow").mkdir(parents=True)
    text = (ROOT / "data" / "README.md").read_text()
    blocks = [yaml.safe_load(block.split("```")[0]) for block in text.split("```yaml\n")[1:]]
    examples = {block["label"]: block for block in blocks if block.get("label") in {"United Kingdom", "Oceania"}}
    assert set(examples) == {"United Kingdom", "Oceania"}
    write_profile(root, {"uk": examples["United Kingdom"]["norms"], "oceania": examples["Oceania"]["norms"]})
    people = ["United States", "United Kingdom", "Australia", "New Zealand", "United Kingdom"]
    rows = [f"{n},{n},{native},football,{first},NA,NA" for n, (native, first) in enumerate(zip(people, ["NFL", "soccer", "rugby", "rugby", "soccer"], strict=True))]  # fmt: skip
    (data / "swow/SWOW-EN.R100.csv").write_text("id,participantID,nativeLanguage,cue,R1,R2,R3\n" + "\n".join(rows) + "\n")
    cfg = config.load("third", root=root, data_dir=data)
    loaded = strengths.load_norms(cfg)
    found = {name: part.norms[["response", "count", "n"]].values.tolist() for name, part in loaded.items()}
    assert found == {"uk": [["soccer", 2, 2]], "oceania": [["rugby", 2, 2]]}


def write_profile(root, cultures):
    for name, files in cultures.items():
        culture = {
            "label": name,
            "language": "en",
            "survey_country": "XXX",
            "survey_n": 1000,
            "norms": {"strengths": {}, **files},
        }
        (root / f"notebooks/settings/cultures/{name}.yaml").write_text(yaml.safe_dump(culture))
    profile = {"extends": "smoke", "data": "real", "cultures": list(cultures), "controls": []}
    (root / "notebooks/settings/profiles/third.yaml").write_text(yaml.safe_dump(profile))


def test_research_files_are_recognised_and_match_the_published_strengths(real_data):
    cfg = config.load("cpu_real", data_dir=real_data)
    table = describe.match_norms(cfg, strengths.load_norms(cfg)).set_index("culture")
    assert (table["cues"] == 187).all()
    assert table.loc["cn", "identical counts"] > 0.97 and table.loc["cn", "largest difference"] <= 3
    assert 0.65 < table.loc["us", "identical counts"] < 0.72
    assert (table["correlation"] > 0.98).all()
