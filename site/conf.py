"""Sphinx's settings, and what it lacks: links to the glossary, formulas as MathML, and the run on every page."""

import json
import re
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx import addnodes

project, author, language = "ALIGN companion", "the ALIGN companion's authors", "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
templates_path, html_static_path = ["templates"], ["static"]
exclude_patterns = ["figures/*.md"]

nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_output_stderr = "remove"
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
default_role = "code"
napoleon_use_rtype = False
add_module_names = False

html_theme = "pydata_sphinx_theme"
html_title = project
html_css_files = ["site.css"]
html_favicon = "static/icon.svg"
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_domain_indices = False
html_copy_source = False
html_math_renderer = "mathml"
html_sidebars = {"index": [], "explorer": [], "gallery": []}
html_theme_options = {
    "logo": {"text": project},
    "show_prev_next": True,
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["run"],
    "footer_end": [],
    "article_header_start": ["breadcrumbs"],
    "search_bar_text": "Search these pages",
    "show_toc_level": 2,
}

# Where no term is linked: in other links, headings, code, formulas, what is emphasised on purpose, and what the run itself said.
PLACES = (
    addnodes.pending_xref,
    addnodes.desc,
    nodes.reference,
    nodes.title,
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.strong,
)
CLASSES = {"cell_output", "cell_input", "made-up"}


def link_terms(app, doctree):
    """Link the first use of each term in a page's prose to the glossary."""
    document = app.env.current_document.docname
    if not re.match(r"notebooks/|docs/|index$|RESULTS$", document) or document.endswith(("glossary", "/index")):
        return
    text = (Path(app.srcdir) / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = [line for line in text.partition(":::{glossary}")[2].splitlines() if line and line[0] not in " :"]
    left = {term: re.compile(rf"\b{re.escape(term)}s?\b", 0 if term.isupper() else re.IGNORECASE) for term in terms}
    for node in list(doctree.findall(nodes.Text)):
        above = node.parent
        while above and not isinstance(above, PLACES) and not CLASSES & set(above.get("classes", [])):
            above = above.parent
        if above:
            continue
        found = sorted(
            (match.start(), -len(match[0]), match.end(), term)
            for term, pattern in left.items()
            if (match := pattern.search(node))
        )
        made, place = [], 0
        for start, _, end, term in found:
            if start < place or term not in left:
                continue
            link = addnodes.pending_xref(
                "", refdomain="std", reftype="term", reftarget=term, refexplicit=True, refwarn=True, refdoc=document
            )
            link += nodes.inline("", node[start:end], classes=["term"])
            made += [nodes.Text(node[place:start]), link]
            place = end
            del left[term]
        if made:
            node.parent.replace(node, [part for part in [*made, nodes.Text(node[place:])] if part.astext()])


def write_math(self, node):
    """A formula as MathML, which browsers draw by themselves."""
    block = isinstance(node, nodes.math_block)
    made = convert(node.astext(), display="block" if block else "inline")
    self.body.append(f'<div class="formula">{made}</div>' if block else made)
    raise nodes.SkipNode


def show_run(app, page, template, context, doctree):
    """The run of a page, for its foot: a chapter's own, else the newest."""
    told = json.loads((Path(app.srcdir) / "site.json").read_text(encoding="utf-8"))
    context["run"] = told["runs"].get(page, told["run"])
    if told["private"]:
        context["metatags"] = context.get("metatags", "") + '<meta name="robots" content="noindex">'


def setup(app):
    """Sphinx calls this."""
    app.connect("doctree-read", link_terms)
    app.connect("html-page-context", show_run)
    app.add_html_math_renderer("mathml", inline_renderers=(write_math, None), block_renderers=(write_math, None))
