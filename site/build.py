"""The site: pages from what a run's notebooks showed, then Sphinx. Nothing is computed anew and nothing fetched.

`python site/build.py --profile cpu` (`make site`) writes `runs/<profile>/site`, to be opened as it is or served by anything.
"""

from __future__ import annotations

import argparse
import ast
import json
import logging
import re
import shutil
import sys
import xml.etree.ElementTree as ET
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

import explorer
import nbformat

import align_utils
from align_utils import config, store
from align_utils.run import list_notebooks

HERE = Path(__file__).resolve().parent
# Texts of one kind that the description of a figure names.
MOST = 14
SVG = "{http://www.w3.org/2000/svg}"
SAMPLE = (
    "The words, ratings and survey answers behind this page are the bundled sample, which we wrote ourselves. They show that the "
    "machinery works, not how people associate."
)
REAL = "Made from the reader's own official files, which may not be passed on: keep this page to yourself."
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\(")
TERM = re.compile(r"^\*\*(?P<terms>[^*]+)\*\* · (?P<text>.*?)(?=^\*\*[^*]+\*\* · |\Z)", re.MULTILINE | re.DOTALL)


class SiteError(RuntimeError):
    """There is nothing to build from, or Sphinx could not build it."""


# ---------------------------------------------------------------------------------------------------------------- what a run has


def read_figure(path: Path, mark: str, heading: str = "") -> dict[str, str]:
    """Title and description of a figure from its own words: matplotlib notes every text that it draws in the SVG.

    Parameters
    ----------
    path : Path
        An SVG file of matplotlib's.
    mark : str
        The watermark, which is no part of the description.
    heading : str
        Stands for the title of a figure that has none.

    Returns
    -------
    dict of str
        `title`, `caption` (what is across and upward, and the panels) and `alt`: all of it, with the legend and what stands in the panels.
    """
    found: dict[str, list[str]] = {
        kind: [] for kind in ("title", "Across", "Upward", "Panels", "Rows", "Legend", "In the panels")
    }

    def sort(where: list[str], node: ET.Element, words: str, top: float) -> str:
        inside = "/".join(where)
        if "tick" in inside:
            return "" if re.fullmatch(r"[−\d.,% -]+", words) else "Rows"
        if axis := re.search(r"matplotlib\.axis_(\d+)", inside):
            return "Across" if int(axis[1]) % 2 else "Upward"
        if "legend" in inside or "axes" not in inside:
            return "Legend" if "legend" in inside else "title"
        at = re.search(r"translate\([-\d.]+ ([-\d.]+)\)", node.find(f"{SVG}g").get("transform", ""))
        return "Panels" if at and float(at[1]) < top else "In the panels"

    def read(node: ET.Element, where: list[str], top: float) -> None:
        where = [*where, node.get("id", "")]
        if where[-1].startswith("axes_"):
            top = min(float(y) for y in re.findall(r"[ML] [-\d.]+ ([-\d.]+)", node.find(f"{SVG}g/{SVG}path").get("d")))
        words = " ".join(" ".join(part.text for part in node if part.tag is ET.Comment).split())
        kind = sort(where, node, words, top) if words and words != mark else ""
        if kind and words not in found[kind]:
            found[kind].append(words)
        for part in node:
            if part.tag is not ET.Comment:
                read(part, where, top)

    read(ET.parse(path, ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))).getroot(), [], 0.0)
    title = ". ".join(found.pop("title")) or heading or path.stem
    title += "" if title[-1] in ".?!" else "."
    told = {
        kind: f"{kind}: {'; '.join(words[:MOST])}{f' and {len(words) - MOST} more' if len(words) > MOST else ''}."
        for kind, words in found.items() if words
    }  # fmt: skip
    caption = " ".join(told[kind] for kind in ("Across", "Upward", "Panels") if len(told.get(kind, "")) in range(1, 160))
    return {"title": title, "caption": caption, "alt": " ".join([title, *told.values()])}


class Run:
    """A finished run as the site reads it: its notebooks, figures and manifest."""

    def __init__(self, cfg: config.Config):
        self.cfg, self.notebooks = cfg, cfg.runs / "notebooks"
        # Figures to the heading that they stand under, known once their notebook is staged.
        self.headings: dict[str, str] = {}
        self.manifest = {
            Path(entry["path"]).name: entry for entry in store.load_manifest(cfg) if entry["path"].startswith("figures")
        }
        if not any(self.notebooks.glob("[0-9A][0-9]_*.ipynb")):
            others = sorted(path.parent.name for path in cfg.runs.parent.glob("*/notebooks") if any(path.glob("*.ipynb")))
            raise SiteError(
                f"{self.notebooks}: no executed notebook, so there is nothing to show. `make reproduce PROFILE={cfg.profile.name}` makes "
                f"them; finished or begun here: {', '.join(others) or 'no profile'}"
            )

    def list_shown(self, notebook: str, ending: str) -> list[str]:
        """Names of the figures (`.svg`) or tables (`.csv`) of a notebook, in their order."""
        names = [
            name.removesuffix(ending)
            for name, entry in self.manifest.items()
            if entry["notebook"] == notebook and name.endswith(ending)
        ]
        return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])

    def read_figure(self, name: str) -> dict[str, str]:
        """`read_figure` of one of the run's."""
        return read_figure(self.cfg.figures / f"{name}.svg", self.cfg.mark, self.headings.get(name, ""))

    def describe(self, notebook: str = "") -> dict[str, str]:
        """Profile, models, data, seed, date and commit of a notebook's run, or of the newest notebook's."""
        entries = [entry for entry in self.manifest.values() if notebook in ("", entry["notebook"])]
        paths = [self.notebooks / f"{notebook}.ipynb"] if notebook else sorted(self.notebooks.glob("*.ipynb"))
        ends = [json.loads(path.read_text(encoding="utf-8"))["metadata"].get("papermill", {}).get("end_time") for path in paths]
        commits = dict.fromkeys(entry["commit"][:7] for entry in entries)
        return {
            "profile": self.cfg.profile.name, "models": ", ".join(self.cfg.models), "seed": str(self.cfg.profile.seed),
            "data": "bundled sample" if self.cfg.is_sample else "the reader's own files",
            "date": max(filter(None, ends), default="")[:10] or "unknown", "commit": " and ".join(commits) or "unknown",
        }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- pages


def write_banner(cfg: config.Config) -> str:
    """What stands under the title of every page that is made from the run: that the data is made up, or that it is not ours."""
    title, text = ("Made-up data", SAMPLE) if cfg.is_sample else ("Not for publication", REAL)
    note = f" This is a {cfg.profile.note}." if cfg.profile.note else ""
    return f":::{{admonition}} {title}\n:class: warning made-up\n{text}{note}\n:::\n"


def write_figure(run: Run, name: str, folder: str) -> str:
    """A figure with description and caption, and a link to where its files and its origin are; `folder` leads to the site's root."""
    own = run.read_figure(name)
    return (
        f"```{{figure}} {folder}figures/{name}.svg\n:alt: {own['alt']}\n\n"
        f"**{own['title']}** {own['caption']} [Files and origin]({folder}gallery.md#origin-{name.lower().replace('_', '-')})\n```\n"
    )


def only_hands_over(source: str) -> bool:
    """Whether a cell only loads, or ends by handing something to the page, as opposed to computing in view."""
    last = ast.parse(source).body[-1]
    return isinstance(last, ast.Assign) or "page." in ast.unparse(last) or "open_page(" in source


def join_setup(cells: list) -> list:
    """The cells in which code only prepares (setup, parameters as the run had them, imports) as one."""
    opened = next(place for place, cell in enumerate(cells) if cell.cell_type == "code" and "open_page(" in cell.source)
    given = (
        "injected-parameters" if any("injected-parameters" in cell.metadata.get("tags", []) for cell in cells) else "parameters"
    )
    own = [cell.source for cell in cells[:opened] if {"setup", given} & set(cell.metadata.get("tags", []))]
    cells[opened].source = "\n\n".join([*own, cells[opened].source])
    return [cell for cell in cells[:opened] if cell.cell_type == "markdown"] + cells[opened:]


def stage_notebook(run: Run, source: Path, target: Path) -> None:
    """A notebook as a page: the run's where it has been executed, with figures described and code folded where it only prepares."""
    name, appendix = source.stem, source.parent.name == "appendix"
    folder = "../../" if appendix else "../"
    executed = run.notebooks / f"{name}.ipynb"
    notebook = nbformat.read(executed if executed.is_file() else source, 4)
    cells = join_setup(notebook.cells)
    title, _, rest = BADGE.sub("[Open in Colab](", cells[0].source).partition("\n")
    head = write_banner(run.cfg)
    if not executed.is_file():
        how = "make appendix" if appendix else "make reproduce"
        head = (
            f":::{{admonition}} Not run\n:class: warning\nThe run that this site was built from does not include this notebook, so there are no "
            f"results here. `{how} PROFILE={run.cfg.profile.name}` makes them.\n:::\n"
        )
    cells[0].source = f"{title}\n\n{head}\n{rest}"
    left, staged = run.list_shown(name, ".svg") if executed.is_file() else [], []
    heading = ""
    for cell in cells:
        staged.append(cell)
        if cell.cell_type != "code":
            heading = next(iter(re.findall(r"^## \d+ (.*)", cell.source, re.MULTILINE)), heading)
            continue
        if only_hands_over(cell.source):
            cell.metadata["tags"] = ["hide-input"]
        images = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        # Names end differently where a cell draws several figures or models.
        stems = [re.sub(r"\{.*?\}", "", stem) for stem in re.findall(r"\"(fig[0A]\d_[\w{}]+)\"", cell.source)]
        names = [figure for figure in left if any(figure.startswith(stem) for stem in stems)][: len(images)]
        if len(names) != len(images):
            raise SiteError(
                f"{executed}: a cell shows {len(images)} pictures and the manifest knows {len(names)} of its figures "
                f"({', '.join(stems) or 'no name'}); run the notebook again: make {name[:2]} PROFILE={run.cfg.profile.name}"
            )
        cell.outputs = [output for output in cell.outputs if output not in images]
        left = [figure for figure in left if figure not in names]
        run.headings.update(dict.fromkeys(names, heading))
        staged += [nbformat.v4.new_markdown_cell(write_figure(run, figure, folder)) for figure in names]
    notebook.cells = staged
    nbformat.write(notebook, target)


def read_questions(root: Path) -> dict[str, tuple[str, str]]:
    """Notebook to its title and the question that it asks."""
    found = {}
    for path in sorted((root / "notebooks").rglob("[0-9A][0-9]_*.ipynb")):
        head = nbformat.read(path, 4).cells[0].source
        question = re.search(r"\*\*Question\.\*\* (.*?)\n\n", head, re.DOTALL)[1].replace("\n", " ")
        found[path.stem] = head.splitlines()[0].removeprefix("# "), question
    return found


def write_index(run: Run, questions: dict[str, tuple[str, str]]) -> str:
    """The landing page: a table of words, a figure, and a sentence of each notebook after the first."""
    cfg, words = run.cfg, run.cfg.figures / "tab04_words.md"
    told = {}
    for path in sorted((cfg.runs / "sentences").glob("0[2-6].json")):
        entries = json.loads(path.read_text(encoding="utf-8"))
        if entries:
            told[path.stem] = entries[0]["text"]
    links = {name[:2]: name for name in questions}
    sentences = "\n".join(f"- {text} ([{number}](notebooks/{links[number]}.ipynb))" for number, text in told.items())
    return "\n".join([
        "# ALIGN companion\n",
        "A language model is taught what people in two cultures say when they hear a word. Does it then associate as they do, and does it "
        "answer questions about values more as they do? The paper *ALIGN* (Liu, Manandhar Shrestha and Huang; ACL 2026, arXiv 2508.13426) "
        "reports that it does. These pages rebuild it, step by step, in six notebooks that you can read or run.\n",
        write_banner(cfg),
        "## What a model says, before and after\n",
        "No model was taught this concept. **Bold**: at least one person said it too.\n",
        words.read_text(encoding="utf-8") if words.is_file() else "*This run has no table of words yet: notebook 04 makes it.*\n",
        "More words: the [cue explorer](explorer.md) has every concept.\n",
        write_figure(run, "fig04_precision_at_5", "") if (cfg.figures / "fig04_precision_at_5.svg").is_file() else "",
        "## What came out\n",
        sentences or "*This run has said nothing yet.*",
        "\n## Where to go\n",
        "- [The six chapters](notebooks/index.md), from the norms to the survey, and [six appendices](notebooks/appendix/index.md) for reviewers.",
        "- [The cue explorer](explorer.md): pick a word; see what people and models answer.",
        "- [Figures and tables](gallery.md), each with where it comes from.",
        "- [Results on real norms](RESULTS.md), [departures from the paper](docs/departures.md), [data](data/README.md) and "
        "[glossary](docs/glossary.md).",
        "- Run it yourself: `make reproduce`, on a laptop without a GPU. [Adding a culture](docs/adding-a-culture.md), "
        "[adding a model](docs/adding-a-model.md), [clusters and servers](docs/clusters.md), [what has run on a GPU](docs/gpu.md), "
        "[the package](api/index.md).\n",
        write_tree(["notebooks/index", "notebooks/appendix/index", "explorer", "gallery", "docs/index", "api/index"]),
    ])  # fmt: skip


def write_tree(pages: list[str]) -> str:
    """A hidden table of contents."""
    return "\n".join(["```{toctree}", ":hidden:", *pages, "```", ""])


def write_contents(title: str, lead: str, rows: list[tuple[str, str, str]]) -> str:
    """A page that lists others: `page, title, what it is`, the page without its suffix."""
    listed = [f"[{name}]({page}.{'ipynb' if '_' in page else 'md'})\n: {text}\n" for page, name, text in rows]
    return "\n".join([f"# {title}\n", lead, "", *listed, "", write_tree([page for page, _, _ in rows])])


def write_gallery(run: Run, questions: dict[str, tuple[str, str]]) -> str:
    """Every figure and table of the run with its files and its origin, as the manifest has it."""
    parts = ["# Figures and tables\n", write_banner(run.cfg)]
    parts.append(
        "All that the notebooks of this run show. Figures as PNG, SVG and PDF; tables as CSV (all of it), Markdown and LaTeX.\n"
    )
    for name, (title, _) in questions.items():
        page = f"notebooks/{'appendix/' if name[0] == 'A' else ''}{name}.ipynb"
        shown = [*run.list_shown(name, ".svg"), *run.list_shown(name, ".csv")]
        parts += [f"## {title}\n"] if shown else []
        for item in shown:
            figure = item.startswith("fig")
            first = f"{item}.{'svg' if figure else 'csv'}"
            entry, kinds = run.manifest[first], ("png", "svg", "pdf") if figure else ("csv", "md", "tex")
            files = " · ".join(f"{{download}}`{kind.upper()} <figures/{item}.{kind}>`" for kind in kinds)
            origin = (
                f"[{name}]({page}) · profile {entry['profile']} · seed {entry['seed']} · commit {entry['commit'][:7]} · {files}"
            )
            if figure:
                own = run.read_figure(item)
                body = f"```{{figure}} figures/{first}\n:alt: {own['alt']}\n:class: thumbnail\n\n**{own['title']}** {own['caption']}\n```\n"
            else:
                text = (run.cfg.figures / f"{item}.md").read_text(encoding="utf-8")
                body = f"{entry['caption']}\n\n<details><summary>Show the table</summary>\n\n{text}\n\n</details>\n"
            parts.append(f"(origin-{item.lower().replace('_', '-')})=\n### `{item}`\n\n{body}\n{origin}\n")
    return "\n".join(parts)


def write_glossary(text: str) -> str:
    """`docs/glossary.md` as Sphinx's glossary, so that pages can link to a term."""
    terms = [
        "\n".join([*match["terms"].split(", "), *(f"  {line}" for line in match["text"].strip().splitlines()), ""])
        for match in TERM.finditer(text)
    ]
    return "\n".join(["# Glossary\n", ":::{glossary}", *terms, ":::", ""])


def write_api(place: str) -> str:
    """The page of one place of the package, module by module."""
    modules = [
        f"{place}.{module.name}"
        for module in iter_modules([Path(align_utils.__path__[0]) / place])
        if module.name != "__main__"
    ]
    parts = [
        f"## {name}\n\n```{{eval-rst}}\n.. automodule:: align_utils.{name}\n   :members:\n```\n" for name in modules or [place]
    ]
    return "\n".join([f"# {place}\n", *parts])


def write_explorer(run: Run) -> tuple[str, str]:
    """The explorer's page and its data; a page that says what is missing where the run has no lists yet."""
    head = f"# Cue explorer\n\n{write_banner(run.cfg)}\n"
    try:
        data = json.dumps(explorer.gather(run.cfg), ensure_ascii=False, separators=(",", ":"))
    except store.MissingInput as missing:
        return f"{head}The explorer needs the lists of notebook 04. {missing}\n", ""
    form = (HERE / "explorer.html").read_text(encoding="utf-8").replace("{data}", data.replace("</", "<\\/"))
    lead = (
        "Pick a concept, or type a cue in either language. For each country you see what people said, what the model says before and after "
        "tuning, and how concrete, pleasant and exciting those words are. Models answered held-out concepts alone.\n"
    )
    return f"{head}{lead}\n```{{raw}} html\n{form}\n```\n\nThe same as {{download}}`JSON <explorer.json>`.\n", data


# ---------------------------------------------------------------------------------------------------------------- all of it


DOCS = {
    "departures": ("Departures from the paper", "What the paper states, what we do, and the setting that changes it."),
    "real-norms": ("Real norms: the appendices", "Everything that answered, GRPO beside PPO, variants of PPO."),
    "results": ("Where the results lie", "The folders of a run, the numbers as data, one step again."),
    "glossary": ("Glossary", "The words of the trade, as they are used here."),
    "adding-a-culture": ("Adding a culture", "Two files of settings and the norms; no code."),
    "adding-a-model": ("Adding a model", "One file of settings, or a server behind a URL."),
    "clusters": ("Clusters and servers", "Several GPUs, launchers, scratch disks."),
    "gpu": ("GPUs", "What has run on one, and what has not."),
    "site": ("These pages", "How they are built, and what of them may be published."),
}


def stage(run: Run, target: Path) -> None:
    """Write the sources of every page, in the layout of the repository, so that its links hold."""
    cfg, root, questions = run.cfg, run.cfg.root, read_questions(run.cfg.root)
    for folder in ("notebooks/appendix", "docs", "data/sample", "api"):
        (target / folder).mkdir(parents=True)
    shutil.copytree(cfg.figures, target / "figures", ignore=shutil.ignore_patterns("*.tmp"))

    def write(name: str, text: str) -> None:
        (target / name).write_text(text, encoding="utf-8")

    for folder, appendix in (("notebooks", False), ("notebooks/appendix", True)):
        names = list_notebooks(root, appendix=appendix)
        for name in names:
            stage_notebook(run, root / folder / f"{name}.ipynb", target / folder / f"{name}.ipynb")
        title = "Appendices" if appendix else "Chapters"
        lead = (
            "What a reviewer asks for, chapter by chapter."
            if appendix
            else "Six notebooks, in this order; each asks one question."
        )
        write(f"{folder}/index.md", write_contents(title, lead, [(name, *questions[name]) for name in names]))
    for name in DOCS:
        text = (root / "docs" / f"{name}.md").read_text(encoding="utf-8")
        write(f"docs/{name}.md", write_glossary(text) if name == "glossary" else text)
    pages = [
        *((name, *told) for name, told in DOCS.items()),
        ("../data/README", "Data", "Sources, licences, and where to put your own copies."),
        ("../data/sample/README", "The bundled sample", "What we made up, file by file."),
        ("../RESULTS", "Results on real norms", "Aggregates of a small model on research copies of the official files."),
    ]
    write("docs/index.md", write_contents("Background", "What stands behind the notebooks.", pages))
    for name in ("data/README.md", "data/sample/README.md", "RESULTS.md"):
        shutil.copy(root / name, target / name)
    lead = "`align_utils`, the thin package that the notebooks call, place by place, from its docstrings."
    places = sorted(module.name for module in iter_modules(align_utils.__path__))
    for place in places:
        write(f"api/{place}.md", write_api(place))
    rows = [(place, place, import_module(f"align_utils.{place}").__doc__.splitlines()[0]) for place in places]
    write("api/index.md", write_contents("The package", lead, rows))
    page, data = write_explorer(run)
    write("explorer.md", page)
    write("explorer.json", data)
    write("gallery.md", write_gallery(run, questions))
    write("index.md", write_index(run, questions))
    there = [name for name in questions if (run.notebooks / f"{name}.ipynb").is_file()]
    runs = {f"notebooks/{'appendix/' if name[0] == 'A' else ''}{name}": run.describe(name) for name in there}
    write("site.json", json.dumps({"run": run.describe(), "runs": runs, "private": not cfg.is_sample}))


def finish(folder: Path) -> None:
    """What Sphinx leaves undone: a file of the theme's that is no page, a label of myst-nb's that hides what a button says, the font."""
    (folder / "_static" / "webpack-macros.html").unlink(missing_ok=True)
    signs: set[str] = set()
    for path in folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(' aria-label="Toggle hidden content"', ""), encoding="utf-8")
        signs.update(re.findall(r"[\u2e80-\uffef]", text))
    draw_signs(signs, folder / "_static" / "chinese.woff")


def draw_signs(signs: set[str], target: Path) -> None:
    """A font with these Chinese signs alone, for devices that have none; no file where the extra `fonts` is not installed."""
    from fontTools import subset

    package = find_spec("mplfonts")
    if not signs or package is None:
        return
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    options = subset.Options(flavor="woff", layout_features=[], name_IDs=[0, 1, 2, 13, 14], notdef_outline=True)
    font = subset.load_font(str(next(Path(package.origin).parent.rglob("NotoSansCJKsc-Regular.otf"))), options)
    maker = subset.Subsetter(options)
    maker.populate(text="".join(sorted(signs)))
    maker.subset(font)
    subset.save_font(font, str(target), options)


def build(profile: str, *, strict: bool = False) -> Path:
    """Build the site of a run.

    Parameters
    ----------
    profile : str
        Of a run with executed notebooks.
    strict : bool
        A warning of Sphinx's (a link that leads nowhere, a page in no list) is an error.

    Returns
    -------
    Path
        The folder with `index.html`, `runs/<profile>/site`; it takes the place of an older one when it is whole.

    Raises
    ------
    SiteError
        The run has no executed notebook, Sphinx is not installed, or it cannot build the pages.
    """
    run = Run(config.load(profile))
    try:
        from sphinx.cmd.build import build_main
    except ModuleNotFoundError as error:
        raise SiteError(
            f"{error.name} is not installed: pip install -c constraints.txt -e '.[site]' (`make site` does it)"
        ) from error
    work, target = run.cfg.runs / "site.work", run.cfg.runs / "site"
    shutil.rmtree(work, ignore_errors=True)
    stage(run, work / "source")
    more = ["-W", "--keep-going"] if strict else []
    code = build_main(
        ["-q", "-b", "html", "-c", str(HERE), "-d", str(work / "doctrees"), *more, str(work / "source"), str(work / "html")]
    )
    if code:
        raise SiteError(f"Sphinx could not build the pages (above); their sources are in {work / 'source'}")
    finish(work / "html")
    shutil.rmtree(target, ignore_errors=True)
    (work / "html").replace(target)
    shutil.rmtree(work)
    return target


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="cpu", help="of the run to show (default: cpu)")
    parser.add_argument("--strict", action="store_true", help="a warning is an error")
    options = parser.parse_args()
    try:
        target = build(options.profile, strict=options.strict)
    except (SiteError, config.ConfigError) as error:
        print(f"site: {error}", file=sys.stderr)
        return 1
    print(f"{target / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
