"""The site in a real browser (`make test-site`): it loads from here alone, links hold, phones, dark, Chinese, axe, the explorer."""

import functools
import http.server
import json
import os
import re
import shutil
import threading
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from conftest import ROOT

pytestmark = pytest.mark.browser
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
PHONE, DESK = {"width": 375, "height": 812}, {"width": 1280, "height": 900}
# Ends the theme's fades, so that colours are judged as they stay.
STILL = "*, *::before, *::after {transition: none !important; animation: none !important}"
LOOK = """() => ({
  links: [...document.querySelectorAll('a[href]')].map(a => a.href),
  ids: [...document.querySelectorAll('[id]')].map(e => e.id),
  unnamed: [...document.images].filter(i => !i.alt.trim()).map(i => i.src),
  uncaptioned: [...document.querySelectorAll('article figure')].filter(f => !f.querySelector('figcaption')?.innerText.trim()).map(f => f.id),
  pictures: [...document.querySelectorAll('article img')].filter(i => !i.closest('figure')).map(i => i.src),
  empty: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
  run: document.querySelector('.run')?.innerText ?? '',
  banner: document.querySelector('.made-up')?.innerText ?? '',
  ground: getComputedStyle(document.body).backgroundColor,
})"""


# Headings and prose that end beyond the screen, where nothing scrolls.
CUT = """() => [...document.querySelectorAll('article :is(h1, h2, h3, p, li, summary)')].filter(e => e.checkVisibility() &&
  e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'visible' && getComputedStyle(e).display !== 'inline' &&
  !e.closest('.pst-scrollable-table-container, .cell_output, .scroll')).map(e => e.innerText.slice(0, 80))"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture(scope="session")
def site():
    """Folder of the site that `make test-site` has built."""
    folder = Path(os.environ.get("SITE", "")).resolve()
    if not os.environ.get("SITE") or not (folder / "index.html").is_file():
        pytest.fail("SITE names no built site: make test-site builds one and sets it")
    return folder


@pytest.fixture(scope="session")
def base(site):
    """Address of the site on loopback."""
    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, or the one that playwright has installed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        yield driver.chromium.launch(executable_path=path, args=FLAGS, timeout=180_000)


@pytest.fixture(scope="session")
def axe():
    """Source of axe-core, as npm has installed it."""
    if not AXE.is_file():
        pytest.skip(f"{AXE} is missing: make test-site installs it where npm is")
    return AXE.read_text(encoding="utf-8")


def open_context(browser, **options):
    """A fresh profile of the browser that waits longer than a busy machine takes."""
    context = browser.new_context(**options)
    context.set_default_timeout(180_000)
    return context


@pytest.fixture
def page(browser):
    """A fresh page, wide and light."""
    context = open_context(browser, viewport=DESK)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def visits(site, base, browser):
    """Every page, opened on a wide screen and looked at on a narrow one: what it said, asked for, links to and holds."""
    context = open_context(browser, viewport=DESK)
    found = {}
    for path in sorted(site.rglob("*.html")):
        name, said, asked = path.relative_to(site).as_posix(), [], []
        page = context.new_page()
        page.on(
            "console", lambda message, said=said: said.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("requestfailed", lambda request, said=said: said.append(f"failed: {request.url}"))
        page.on(
            "response",
            lambda answer, said=said: said.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None,
        )
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(base + name, wait_until="load")
        # Pictures further down are fetched when they are scrolled to.
        page.evaluate("for (const picture of document.images) picture.loading = 'eager'")
        page.wait_for_load_state("networkidle")
        found[name] = {**page.evaluate(LOOK), "said": said, "asked": asked}
        page.set_viewport_size(PHONE)
        found[name]["width"] = page.evaluate("document.documentElement.scrollWidth")
        found[name]["cut"] = page.evaluate(CUT)
        page.close()
    context.close()
    return found


def collect(visits, key):
    return {name: visit[key] for name, visit in visits.items() if visit[key]}


def test_every_page_is_there_and_loads_without_a_word(visits):
    notebooks = {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in (ROOT / "notebooks").rglob("*.ipynb")}
    docs = {f"docs/{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    assert len(notebooks) == 12 and {"index.html", "explorer.html", "gallery.html", "RESULTS.html", *notebooks, *docs} <= set(
        visits
    )
    assert collect(visits, "said") == {}


def test_nothing_is_asked_of_another_host(visits, base):
    outside = {name: [url for url in visit["asked"] if not url.startswith((base, "data:"))] for name, visit in visits.items()}
    assert {name: urls for name, urls in outside.items() if urls} == {}


def test_no_link_within_the_site_leads_nowhere(visits, base, site):
    broken, checked = [], 0
    for name, visit in visits.items():
        for link in visit["links"]:
            address, anchor = urldefrag(unquote(link))
            if not address.startswith(base):
                continue
            checked += 1
            target = address.removeprefix(base).partition("?")[0] or "index.html"
            if not (site / target).is_file() or (anchor and target in visits and anchor not in visits[target]["ids"]):
                broken.append((name, link))
    assert checked > 1000 and not [link for link in broken if "explorer.html#" not in link[1]]


def test_figures_have_a_picture_a_description_and_a_caption(visits):
    for key in ("unnamed", "uncaptioned", "empty", "pictures"):
        assert collect(visits, key) == {}, key


def test_every_page_names_its_run_and_made_up_data_is_called_so(visits, site):
    told = json.loads((site.parent / "manifest.json").read_text(encoding="utf-8"))[0]
    for name, visit in visits.items():
        assert f"profile {told['profile']}" in visit["run"] and str(told["seed"]) in visit["run"], name
    made = [
        name for name in visits if name in ("index.html", "gallery.html", "explorer.html") or name.startswith("notebooks/0")
    ]
    assert len(made) == 9 and all("wrote ourselves" in visits[name]["banner"] for name in made)


def test_nothing_scrolls_sideways_on_a_phone(visits):
    assert {name: visit["width"] for name, visit in visits.items() if visit["width"] > PHONE["width"]} == {}
    assert collect(visits, "cut") == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(scheme, visits, base, browser, axe):
    context = open_context(browser, viewport=DESK if scheme == "light" else PHONE, color_scheme=scheme)
    found, grounds = {}, set()
    for name in visits:
        # The pages of one kind are alike: the package's are looked at once.
        if name.startswith("api/") and name not in ("api/index.html", "api/norms.html"):
            continue
        page = context.new_page()
        page.goto(base + name)
        page.add_style_tag(content=STILL)
        page.evaluate(axe)
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert result["passes"], name
        for part in (part for part in result["violations"] if part["impact"] in ("serious", "critical")):
            found.setdefault(part["id"], {})[name] = part["nodes"][0]["html"][:120]
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    context.close()
    assert not found, json.dumps(found, indent=1)
    (ground,) = grounds
    light = sum(int(part) for part in ground[4:-1].split(",")[:3]) / 3
    assert light > 200 if scheme == "light" else light < 60


def test_chinese_signs_are_drawn(page, base):
    page.goto(base + "explorer.html")
    page.evaluate("document.fonts.ready")
    # A font without a sign draws its box: the same for all, and for one that is in no font.
    drawn = page.evaluate("""() => [...'早餐\\uffff'].concat(...'月亮').map(sign => {
        const canvas = Object.assign(document.createElement('canvas'), {width: 40, height: 40}), pen = canvas.getContext('2d');
        pen.font = `30px ${getComputedStyle(document.querySelector('#explorer h2 span[lang=zh]')).fontFamily}`;
        pen.fillText(sign, 4, 32);
        return canvas.toDataURL();
    })""")
    assert len(set(drawn)) == 5
    # What was laid out before the font came looks as what is written afterwards.
    page.goto(base + "index.html")
    page.evaluate("document.fonts.ready")
    cell = page.locator("th", has_text=re.compile("[\u4e00-\u9fff]")).first
    before = cell.screenshot()
    cell.evaluate(
        "cell => {const all = cell.innerHTML; cell.innerHTML = ''; document.body.offsetHeight; cell.innerHTML = `<i></i>${all}`}"
    )
    assert cell.screenshot() == before


def test_the_search_finds_a_chapter(page, base):
    page.goto(base + "search.html?q=precision")
    page.locator("#search-results li a").first.wait_for()
    assert any("04_lexical_alignment" in link.get_attribute("href") for link in page.locator("#search-results li a").all())


# ---------------------------------------------------------------------------------------------------------------- the explorer

ALL = """() => JSON.parse(document.getElementById('explorer-data').textContent)"""
TIMES = """names => names.map(name => {
    const box = document.getElementById('explorer-cue'), start = performance.now();
    box.value = name;
    box.dispatchEvent(new Event('input'));
    document.body.offsetHeight;
    return performance.now() - start;
})"""


def test_the_explorer_answers_at_once_in_either_language(page, base, site):
    page.goto(base + "explorer.html")
    data = page.evaluate(ALL)
    names = [name for concept in data["concepts"] for name in (concept["name"], *concept["cues"].values())]
    assert len(names) > 600 and (site / "explorer.html").stat().st_size < 500_000
    times = sorted(page.evaluate(TIMES, names))
    assert times[int(0.99 * len(times))] < 100
    for text in ("moon", "MOON ", "月亮"):
        page.get_by_label("A cue or concept").fill(text)
        assert page.get_by_role("status").inner_text().startswith("moon · 月亮, held out")


def test_what_the_explorer_marks_is_what_people_said(page, base):
    page.goto(base + "explorer.html")
    data = page.evaluate(ALL)
    asked = [concept for concept in data["concepts"] if concept["split"] == "test"]
    for concept in asked[:20]:
        page.get_by_label("A cue or concept").fill(concept["name"])
        marks = page.locator("#explorer mark").all_inner_texts()
        hits = [word for lists in concept["models"].values() for words in lists.values() for word, said, _ in words if said]
        assert sorted(marks) == sorted(hits)
        shown = page.locator("#explorer ol.people li > :first-child").all_inner_texts()
        assert shown == [word for own in concept["people"].values() for word, *_ in own["words"]]
        for culture, own in concept["people"].items():
            assert all(low[1] <= high[1] for high, low in pairwise(own["words"])), culture


def test_the_explorer_is_worked_by_keys_alone(page, base):
    page.goto(base + "explorer.html#moon")
    page.get_by_label("A cue or concept").focus()
    page.keyboard.type("breakfas")
    assert "No cue is called" in page.get_by_role("status").inner_text()
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#explorer-near') !== null"):
            break
    page.keyboard.press("Enter")
    assert page.get_by_role("status").inner_text().startswith("breakfast · 早餐") and page.url.endswith("#breakfast")
    page.get_by_label("A cue or concept").fill("<img src=x onerror=alert(1)>")
    assert page.locator("#explorer img").count() == 0 and "nor has that in its name" in page.get_by_role("status").inner_text()
