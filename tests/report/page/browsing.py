"""The report's page in a real browser, Debian's chromium without a screen: what tests share."""

import contextlib
import shutil

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import grokjax
from grokjax.report.page import payload, render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium and chromedriver on PATH (Debian: apt-get install chromium-driver)",
)

PANELS = ("components", "waves", "coordinate", "diagram", "barcode", "spectrum", "run-curves")
VIEWS = ("overview", "phase", "curves", "run", "runs", "data")


def write(folder):
    """Writes the page alone: the report's figures take seconds."""
    (folder / "report").mkdir()
    html = render(payload.build(grokjax.load(folder)))
    (folder / "report" / "index.html").write_text(html, encoding="utf-8")
    return folder


@contextlib.contextmanager
def opened(browser, folder):
    """A page opened anew from disk, 1,200 pixels wide, in light colours; no errors so far."""
    look(browser, 1200, "light")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get("about:blank")
    browser.get((folder / "report" / "index.html").as_uri())
    yield browser
    assert errors(browser) == []


def look(browser, width, scheme):
    """Sets width and colour scheme."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})


def errors(browser):
    logged = [own["message"] for own in browser.get_log("browser") if own["level"] != "INFO"]
    return [own for own in logged if "willReadFrequently" not in own]  # tests read canvases


def by_id(browser, name):
    return browser.find_element(By.ID, name)


def go(browser, address):
    """Follows an address within the page; returns when its view is drawn."""
    browser.execute_script("location.hash = arguments[0]", f"#{address}")
    name = address.split("?")[0]
    wait(browser, lambda: by_id(browser, f"view-{name}").is_displayed())
    if name == "run":
        wait(browser, lambda: drawn(browser)["run-curves"])


def wait(browser, test):
    return WebDriverWait(browser, 120, 0.05).until(lambda _: test())


def drawn(browser):
    """What the panels of the run view show: their data and shapes as text."""
    script = """return Object.fromEntries(arguments[0].map((id) => {
      const own = document.getElementById(id);
      return [id, own.data && JSON.stringify([own.data, own.layout.shapes])];
    }))"""
    return browser.execute_script(script, PANELS)


def rows(browser):
    """Ids of the runs in the table, in order."""
    cells = browser.find_elements(By.CSS_SELECTOR, "#runs-table tbody th")
    return [cell.text for cell in cells]


def cells(browser):
    """What the cells of every diagram say, by what they are."""
    script = """return [...document.querySelectorAll('#phase-plots button')].map((own) =>
      [own.dataset.key, own.textContent, own.getAttribute('aria-label')])"""
    return browser.execute_script(script)
