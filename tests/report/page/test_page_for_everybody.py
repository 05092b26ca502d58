"""The report's page in a real browser: downloads, legibility, and a page that is served."""

import contextlib
import threading

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import grokjax
from grokjax.report import serving
from grokjax.store.results import METRICS, Results
from tests import synthetic
from tests.report.page.browsing import (
    VIEWS,
    by_id,
    errors,
    go,
    look,
    needs_browser,
    rows,
    wait,
)

pytestmark = needs_browser


# --------------------------------------------------------------------------- data


def test_tables_are_downloaded_with_every_digit(page, folder, downloads):
    go(page, "data")
    sweep = grokjax.load(folder)
    by_id(page, "view-data").find_element(By.XPATH, "//button[.='metrics.csv']").click()
    path = downloads / "metrics.csv"
    wait(page, path.exists)
    assert path.read_text() == sweep.metrics.to_csv(index=False)
    by_id(page, "download-runs").click()
    path = downloads / "runs-in-filter.csv"
    wait(page, path.exists)
    assert [line.split(",")[0] for line in path.read_text().splitlines()[1:]] == list(
        sweep.runs["run_id"]
    )
    link = page.find_element(By.LINK_TEXT, "persistence.parquet")
    assert link.get_attribute("href") == (folder / "results/persistence.parquet").as_uri()
    names = {item.text for item in page.find_elements(By.CSS_SELECTOR, "#figures a")}
    assert names == {path.name for path in (folder / "figures").iterdir()}


# --------------------------------------------------------------------------- for everybody


def background(browser):
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def contrast(one, other):
    """WCAG 2 contrast ratio of two colours given as rgb(...)."""

    def luminance(colour):
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_are_legible(page, scheme):
    look(page, 1200, scheme)
    page.refresh()
    ground = background(page)
    assert (contrast(ground, "rgb(0,0,0)") > 10) == (scheme == "light")
    for selector in ("h1", ".hint", "nav a", "td a", "#theme"):
        colour = page.execute_script(
            "return getComputedStyle(document.querySelector(arguments[0])).color", selector
        )
        assert contrast(ground, colour) >= 4.5, selector
    script = "return [PALETTE[theme], document.getElementById('when').layout.font.color]"
    palette, text = page.execute_script(script)
    assert contrast(ground, hex_to_rgb(text)) >= 4.5
    for colour in palette:  # of lines and points, which WCAG asks less of than of text
        assert contrast(ground, hex_to_rgb(colour)) >= 3, colour


def hex_to_rgb(colour):
    return f"rgb({','.join(str(b) for b in bytes.fromhex(colour[1:]))})"


def test_the_theme_can_be_chosen(page):
    light = background(page)
    theme = by_id(page, "theme")
    theme.click()
    assert theme.text == "Theme: light" and background(page) == light
    theme.click()
    assert theme.text == "Theme: dark" and background(page) != light
    look(page, 1200, "dark")
    theme.click()
    assert theme.text == "Theme: automatic" and background(page) != light


def test_a_phone_shows_it_without_scrolling_sideways(page):
    look(page, 390, "light")
    page.refresh()
    for view in VIEWS:
        go(page, view)
        wait(page, lambda: page.execute_script("return document.body.scrollWidth") <= 390)
        script = """return [...document.querySelectorAll('button, select, input, a, output')]
          .filter((own) => own.checkVisibility() && !own.closest('.scroll, nav, .skip'))
          .map((own) => [own.outerHTML.slice(0, 80), own.getBoundingClientRect().right])
          .filter(([, right]) => right > 391)"""
        assert page.execute_script(script) == [], view


def test_figures_have_texts_and_controls_names(page):
    for view in VIEWS:
        go(page, view)
        plots = page.find_elements(By.CSS_SELECTOR, f"#view-{view} .plot")
        for plot in plots:
            assert plot.get_attribute("role") == "img"
            assert len(plot.get_attribute("aria-label")) > 10
        assert bool(plots) == (view in ("overview", "curves", "run"))
        script = """return [...document.querySelectorAll('button, select, input, a')]
          .filter((own) => own.checkVisibility() && !own.seen && (own.seen = true))"""
        for control in page.execute_script(script):
            assert control.accessible_name, control.get_attribute("outerHTML")


def test_the_keyboard_reaches_every_control(page):
    script = """const shown = [...document.querySelectorAll('button, select, input, a, summary')]
      .filter((own) => own.checkVisibility() && !own.disabled && own.tabIndex >= 0);
      window.reached = new Set();
      addEventListener('focusin', (event) => reached.add(event.target));
      window.missed = () => shown.filter((own) => !reached.has(own)).map((own) => own.outerHTML);
      document.activeElement.blur();
      document.body.focus();
      return shown.length"""
    for view in VIEWS:
        go(page, view)
        n = page.execute_script(script)
        ActionChains(page).send_keys(Keys.TAB * (n + 15)).perform()
        assert n > 10 and page.execute_script("return missed()") == [], view


# --------------------------------------------------------------------------- while it runs


@contextlib.contextmanager
def serve(folder):
    content = serving.Content(folder, pause=0.05)
    content.renew()
    with serving.Server(content) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with content.renewing():
            yield server
        server.shutdown()
        thread.join()


def test_a_served_page_follows_the_sweep_and_keeps_the_view(browser, tmp_path):
    config = synthetic.make(tmp_path / "w", reached=200)
    browser.get_log("browser")
    with serve(tmp_path / "w") as server:
        browser.get(f"{server.address}report/#runs?filter=s47")
        wait(browser, lambda: by_id(browser, "live").text.startswith("Live: as of"))
        cell = '//*[@id="runs-table"]//tbody//td[contains(., "0.123")]'
        assert not browser.find_elements(By.XPATH, cell)
        row = {"step": 300, **dict.fromkeys(METRICS.columns, 0.123)}
        results = Results(tmp_path / "w", [])
        results.append("metrics", METRICS, [{"run_id": r.run_id, **row} for r in config.runs])
        wait(browser, lambda: browser.find_elements(By.XPATH, cell))
        assert by_id(browser, "filter").get_attribute("value") == "s47" and len(rows(browser)) == 1
        # A run that is not on the page is asked for.
        synthetic.add_checkpoints(tmp_path / "w", config)
        browser.execute_script("for (const id in data.details) delete data.details[id]")
        go(browser, f"run?id={config.runs[1].run_id}&step=0")
        wait(browser, lambda: "H1 bar" in by_id(browser, "says").text)
        assert errors(browser) == []
    wait(browser, lambda: "has stopped" in by_id(browser, "live").text)
