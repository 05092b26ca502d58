"""The report's page in a real browser, Debian's chromium without a screen."""

import contextlib
import json
import re
import shutil
import threading
import time
import urllib.parse

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import grokjax
from grokjax import statistics
from grokjax.diagnostics import coordinates
from grokjax.report import drawing, figures, serving
from grokjax.report.page import payload, render
from grokjax.report.phases import cells as by_phase
from grokjax.store.results import METRICS, Results
from tests import synthetic
from tests.report import mixed

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium and chromedriver on PATH (Debian: apt-get install chromium-driver)",
)

PANELS = ("components", "waves", "coordinate", "diagram", "barcode", "spectrum", "run-curves")
VIEWS = ("overview", "phase", "curves", "run", "runs", "data")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two settings of three seeds, with checkpoints and a run that diverges."""
    root = tmp_path_factory.mktemp("page") / "a <b>work</b> directory"
    grid = {"label_permutation": (0.0, 1.0), "seed": (46, 47, 48)}
    config = synthetic.make(root, steps=1000, diverged=[5], **grid)
    synthetic.add_checkpoints(root, config, diverged=[5])
    (root / "figures").mkdir()
    (root / "figures" / "accuracy.svg").touch()
    return write(root)


def write(folder):
    """Writes the page alone: the report's figures take seconds."""
    (folder / "report").mkdir()
    html = render(payload.build(grokjax.load(folder)))
    (folder / "report" / "index.html").write_text(html, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # The sandbox needs rights that a container has not; the page is our own.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(240)  # on a busy machine
    driver.set_script_timeout(240)
    behaviour = {"behavior": "allow", "downloadPath": str(downloads)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    yield driver
    driver.quit()


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


@pytest.fixture
def page(browser, folder):
    with opened(browser, folder) as own:
        yield own


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


# --------------------------------------------------------------------------- from disk


def test_it_opens_from_disk_without_any_request_or_error(page, folder):
    for view in VIEWS:
        go(page, view)
    requests = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in page.get_log("performance")
        if json.loads(entry["message"])["message"]["method"] == "Network.requestWillBeSent"
    ]
    own = (folder / "report" / "index.html").as_uri()
    foreign = {url for url in requests if not url.startswith((own, "data:", "blob:", "about:"))}
    assert own in {url.split("#")[0] for url in requests} and not foreign
    assert page.title == f"{folder.name} · grokjax"


def test_the_overview_says_what_came_out_and_what_was_run(page, folder):
    assert "6 runs in 2 settings: 5 done, 1 diverged. 3 generalised." in by_id(page, "outcome").text
    table = by_id(page, "settings").text
    summary = drawing.summary(folder)
    assert "transformer, p = 11, true labels" in table and "3 of 3" in table
    assert f"{summary['median_step'][0]:,.0f}" in table and table.count("never") == 1
    assert "--label_permutations=0.0,1.0" in by_id(page, "command").text
    facts = by_id(page, "provenance").text
    assert "measured: persistence\nclouds embedding; " in facts
    assert "500" not in facts and "1,000" in facts
    assert re.search(r"started\n20.*Z\n", facts)
    assert re.search(r"tables last written\n20.*Z, \d+ seconds? later", facts)


def test_curves_are_of_the_chosen_settings_and_single_runs_come_on_demand(page):
    go(page, "curves")

    def lines():
        script = (
            "return [...document.querySelectorAll('#curve-plots .plot')].map((p) => p.marks.length)"
        )
        return page.execute_script(script)

    all_settings = lines()
    assert len(all_settings) == 5  # accuracy, H0 and H1 max and total
    page.find_element(By.CSS_SELECTOR, "#lines input").click()
    assert all(few < more for few, more in zip(lines(), all_settings, strict=True))
    page.find_element(By.CSS_SELECTOR, "#quantities-box summary").click()
    boxes = page.find_elements(By.CSS_SELECTOR, "#quantities label")
    next(box for box in boxes if box.text.strip() == "loss").click()
    assert len(lines()) == 6
    assert "1 run of this panel diverged or failed" in by_id(page, "ended").text


def test_lines_and_bands_are_what_numpy_makes_of_the_runs(page, folder):
    sweep = grokjax.load(folder)
    ids = sweep.runs["run_id"][:3]
    own = figures.wide(sweep.metrics, "test_accuracy", ids).to_numpy()
    mean, spread = own.mean(axis=1), own.std(axis=1, ddof=1)
    low, middle, high = np.quantile(own, [0.25, 0.5, 0.75], axis=1)
    script = """const {marks} = document.querySelector('#curve-plots .plot');
      return marks.slice(0, 2).map(({rows}) => Array.from(rows[0].y))"""
    for summary, line, band in (
        ("mean", mean, (mean + spread, mean - spread)),
        ("median", middle, (high, low)),
    ):
        go(page, f"curves?summary={summary}&filter=label_permutation%3D0")
        around, drawn = page.execute_script(script)
        assert drawn == pytest.approx(line, abs=1e-4)
        assert around == pytest.approx([*band[0], *band[1][::-1]], abs=1e-4)


def test_lines_are_where_the_axes_have_their_values(page, folder):
    sweep = grokjax.load(folder)
    ids = sweep.runs["run_id"][:3]
    go(page, "curves?filter=label_permutation%3D0")
    page.execute_script("curves.wanted = new Set(['accuracy', 'loss', 'weight norm']); route()")
    figures_of = "const [, loss, norm] = document.querySelectorAll('#curve-plots .plot');"
    # What plotly makes of values, and how opaque the canvas is there and well below.
    script = """const {xaxis, yaxis} = norm._fullLayout, canvas = norm.canvases[0];
      const around = (x, y) => canvas.getContext('2d').getImageData(x - 1, y - 1, 3, 3).data;
      const at = (x, y) => Math.max(...around(x, y).filter((_, i) => i % 4 === 3));
      return arguments[0].map((step, i) => [xaxis.d2p(step), yaxis.d2p(arguments[1][i])])
        .filter(([x, y]) => x > 2 && x < canvas.width - 2)
        .map(([x, y]) => [at(x, y), at(x, y + (y > 60 ? -50 : 50))])"""
    own = np.log10(figures.wide(sweep.metrics, "weight_norm", ids))
    asked = [own.index.tolist(), (10 ** own.mean(axis=1)).tolist()]
    for n in (10, 4):
        opaque = page.execute_script(figures_of + script, *asked)
        assert len(opaque) == n and min(on for on, _ in opaque) > 150
        assert max(off for _, off in opaque) < 60  # at most a band
        zoom = figures_of + "return Plotly.relayout(loss, {'xaxis.range': [250, 650]})"
        page.execute_script(zoom)  # moves all others
        wait(page, lambda: page.execute_script(figures_of + "return norm.layout.xaxis.range[0]"))


def test_the_run_under_the_pointer_is_lit_up_in_every_figure(page, folder):
    run_id = grokjax.load(folder).runs["run_id"][1]
    # A point of the run that is far from those of others, from the middle of its figure.
    place = """const div = document.querySelector(arguments[0]);
      div.scrollIntoView({block: 'center', behavior: 'instant'});
      const rows = div.marks.flatMap((mark) => mark.rows).filter((row) => row.text);
      const own = rows.find((row) => row.run === 1), y = Array.from(own.y);
      const gap = (i) => Math.min(...rows.filter((row) => row !== own && row.x[i] === own.x[i])
        .map((row) => Math.abs(row.y[i] - y[i])));
      const i = y.keys().reduce((best, at) => (gap(at) > gap(best) ? at : best));
      const canvas = div.canvases[0], [toX, toY] = scales(div);
      return [canvas.offsetLeft + toX(own.x[i]) - div.clientWidth / 2,
              canvas.offsetTop + toY(own.y[i]) - div.clientHeight / 2]"""
    lit = """return [...document.querySelectorAll('section:not([hidden]) .plot')].map((own) => {
      const {width, height} = own.canvases[1];
      const {data} = own.canvases[1].getContext('2d').getImageData(0, 0, width, height);
      return data.some((value) => value > 0) })"""
    for view, words, figure, n in (
        ("overview", "filter=", "#when", 2),
        ("curves", "summary=mean-runs&filter=seed%3D47&group=seed", ".plot", 5),
    ):
        go(page, f"{view}?{words}")
        name = f"#view-{view} {figure}"
        own = page.find_element(By.CSS_SELECTOR, name)
        at = [round(pixels) for pixels in page.execute_script(place, name)]
        ActionChains(page).move_to_element_with_offset(own, *at).perform()
        assert page.execute_script(lit) == [True] * n
        label = own.find_element(By.CSS_SELECTOR, ".label")
        assert label.text.splitlines()[0] == run_id
        ActionChains(page).move_to_element(by_id(page, "theme")).perform()
        assert page.execute_script(lit) == [False] * n and not label.is_displayed()
    # Its own points lead to it.
    ActionChains(page).move_to_element_with_offset(own, *at).click().perform()
    wait(page, lambda: by_id(page, "run-title").text == run_id)


# --------------------------------------------------------------------------- groups and filters


def table(browser):
    """The overview's table: cells of its rows."""
    script = """return [...document.querySelectorAll('#settings tbody tr')]
      .map((row) => [...row.cells].map((cell) => cell.textContent))"""
    return browser.execute_script(script)


def test_runs_are_grouped_by_any_axis(page, folder):
    runs = grokjax.load(folder).runs
    go(page, "overview")
    Select(by_id(page, "group")).select_by_visible_text("seed")
    found = table(page)
    assert [row[1] for row in found] == ["seed 46", "seed 47", "seed 48"]
    for row, (_, own) in zip(found, runs.groupby("seed"), strict=True):
        came = own["generalisation_step"].dropna()
        assert row[2:5] == ["2", f"{len(came)} of 2", f"{came.min():,}"]
    assert "group=seed" in page.current_url
    go(page, "curves")  # and stays
    assert [text.split(" (")[0] for text in by_id(page, "lines").text.splitlines()] == [
        "seed 46", "seed 47", "seed 48",
    ]  # fmt: skip


def test_a_name_filters_every_view_and_is_taken_back(page, folder):
    runs = grokjax.load(folder).runs
    go(page, "overview?group=setting")
    page.find_element(By.CSS_SELECTOR, "#settings tbody tr:nth-child(2) th a").click()
    wait(page, lambda: len(table(page)) == 1)
    assert by_id(page, "filter").get_attribute("value") == "label_permutation=1"
    assert by_id(page, "outcome").text.startswith("3 of 6 runs in 1 setting: 2 done, 1 diverged.")
    go(page, "runs")
    assert rows(page) == runs["run_id"][3:].tolist()
    go(page, "run")
    options = page.find_elements(By.CSS_SELECTOR, "#which option")
    wanted = [option.get_attribute("value") for option in options]
    assert set(runs["run_id"][3:]) <= set(wanted) and len(wanted) <= 4  # and the one shown
    go(page, "curves")
    assert len(page.find_elements(By.CSS_SELECTOR, "#lines label")) == 1
    by_id(page, "clear").click()
    assert len(page.find_elements(By.CSS_SELECTOR, "#lines label")) == 2


def test_the_medians_step_is_kaplan_and_meiers(page):
    rng = np.random.default_rng(0)
    for _ in range(30):
        horizon = rng.choice([300, 700, 1000], 12)
        reached = rng.integers(1, 14, 12) * 100
        steps = np.where(reached <= horizon, reached, np.nan)
        expected = statistics.survival(steps, horizon).median
        own = [
            {"horizon": int(last), "generalisation_step": None if np.isnan(step) else int(step)}
            for last, step in zip(horizon, steps, strict=True)
        ]
        found = page.execute_script("return halfway(arguments[0])", own)
        assert found == (None if np.isnan(expected) else expected)


# --------------------------------------------------------------------------- phase diagram


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    """Three fractions, three weight decays and none, two primes, three seeds; late ones never."""
    root = tmp_path_factory.mktemp("phases") / "w"

    def when(run):
        late = run.values["train_fraction"] < 0.5 and run.values["weight_decay"] < 1
        return 5 if late and run.seed != 2 else 0.2 + 0.1 * run.seed

    synthetic.make(root, steps=1000, prime=(11, 13), train_fraction=(0.4, 0.5, 0.7), when=when,
                   weight_decay=(0.0, 0.1, 1.0, 10.0), seed=(1, 2, 3), diverged=[70])  # fmt: skip
    return write(root)


@pytest.fixture
def page_of_phases(browser, phases):
    with opened(browser, phases) as own:
        yield own


def cells(browser):
    """What the cells of every diagram say, by what they are."""
    script = """return [...document.querySelectorAll('#phase-plots button')].map((own) =>
      [own.dataset.key, own.textContent, own.getAttribute('aria-label')])"""
    return browser.execute_script(script)


def test_cells_are_the_runs_of_each_combination(page_of_phases, phases):
    page, sweep = page_of_phases, grokjax.load(phases)
    kinds = [
        ("share", "last", "generalised"),
        ("generalisation_step", "last", "generalisation_step"),
    ]
    kinds += [(key, when, key) for key in ("metrics/test_loss", "persistence/embedding/h1_max")
              for when in ("last", "ratio")]  # fmt: skip
    columns = ["weight_decay", "train_fraction", "prime"]
    for value, when, name in kinds:
        go(page, f"phase?x=weight_decay&y=train_fraction&over=prime&value={value}&when={when}")
        expected = by_phase(sweep, columns, name, when, "mean")
        found = {tuple(map(int, key.split(","))): label for key, _, label in cells(page)}
        assert found.keys() == expected.cells.keys() and len(found) == 24
        for key, (true, n) in expected.cells.items():
            assert found[key].endswith(f"; {n} runs")
            text = found[key].split("; ")[0].split(" ")[-1]
            if np.isinf(true):
                assert "fewer than half generalised" in found[key]
            else:
                assert float(text.replace(",", "")) == pytest.approx(true, rel=6e-3), (value, key)
    axis = page.execute_script("return data.axes.find((own) => own.column === 'weight_decay')")
    assert axis["scale"] == "log" and axis["values"] == [0, 0.1, 1, 10]
    widths = [
        page.find_element(By.CSS_SELECTOR, f'[data-key="{i},0,0"]').size["width"] for i in range(4)
    ]
    assert max(widths) <= 1.03 * min(widths)  # decades are even


def test_a_cell_filters_every_view_by_mouse_and_keyboard(page_of_phases, phases):
    page, runs = page_of_phases, grokjax.load(phases).runs
    go(page, "phase?x=weight_decay&y=train_fraction&over=prime")
    before = cells(page)
    page.find_element(By.CSS_SELECTOR, '[data-key="1,0,0"]').click()
    wanted = runs[(runs["weight_decay"] == 0.1) & (runs["train_fraction"] == 0.4)]
    wanted = wanted.loc[wanted["prime"] == 11, "run_id"].tolist()
    assert by_id(page, "outcome").text.startswith("3 of 72 runs in 1 setting")
    assert cells(page) == before  # all stay, those outside paler
    assert len(page.find_elements(By.CSS_SELECTOR, ".cell.outside")) == 23
    pressed = page.switch_to.active_element
    assert pressed.get_attribute("aria-pressed") == "true"
    go(page, "runs")
    assert rows(page) == wanted
    page.back()
    wait(page, lambda: by_id(page, "view-phase").is_displayed())
    page.find_element(By.CSS_SELECTOR, '[data-key="1,0,0"]').send_keys(Keys.ARROW_RIGHT)
    cell = page.switch_to.active_element
    assert cell.get_attribute("data-key") == "2,0,0"
    cell.send_keys(Keys.ARROW_UP)
    cell = page.switch_to.active_element
    assert cell.get_attribute("data-key") == "2,1,0"
    cell.send_keys(Keys.ENTER)
    words = {"weight_decay=1", "train_fraction=0.5", "prime=11"}
    assert set(by_id(page, "filter").get_attribute("value").split()) == words
    page.switch_to.active_element.send_keys(Keys.ENTER)  # which takes it back
    assert by_id(page, "filter").get_attribute("value") == ""
    # A word on another column leaves cells' runs out.
    by_id(page, "filter").send_keys("seed=2")
    assert {text[-1] for _, text, _ in cells(page)} == {"1"}
    by_id(page, "clear").click()


# --------------------------------------------------------------------------- one run


def test_the_slider_moves_every_panel(page):
    go(page, "run")
    first = drawn(page)
    assert all(first.values())
    slider = by_id(page, "step")
    slider.send_keys(Keys.HOME)
    start = drawn(page)
    slider.send_keys(Keys.ARROW_RIGHT)
    after = drawn(page)
    for name in PANELS:
        assert len({first[name], start[name], after[name]}) == 3, name
    assert by_id(page, "step-text").text == "step 100 of 1,000"
    assert slider.get_attribute("aria-valuetext") == "step 100 of 1,000"
    assert by_id(page, "says").text.startswith("Step 100. Accuracy: test ")
    assert "step=100" in page.current_url


def test_what_is_shown_is_what_was_measured(page, folder):
    sweep = grokjax.load(folder)
    run_id = sweep.runs["run_id"][0]
    go(page, f"run?id={run_id}&step=1000")
    h0, h1 = sweep.diagram(run_id, 1000)
    data = page.execute_script(
        "const own = document.getElementById('diagram').data; return [own[1].y, own[2].x, own[2].y]"
    )
    for shown, true in zip(data, (h0[:-1, 1], h1[:, 0], h1[:, 1]), strict=True):
        assert sorted(shown) == pytest.approx(sorted(true), abs=1e-4)
    own = sweep.metrics.query("run_id == @run_id")
    shown = page.execute_script("return document.getElementById('run-curves').data[0].y")
    assert shown == pytest.approx(own["test_accuracy"].tolist(), abs=1e-4)
    assert f"{len(h1)} H1 bar" in by_id(page, "says").text


def test_play_runs_through_the_checkpoints_and_pause_stops_it(page):
    go(page, "run?step=0")
    Select(by_id(page, "speed")).select_by_visible_text("10 a second")
    play = by_id(page, "play")
    # Pressed from within the page: however slow this process is, it has not come to the end.
    shown = page.execute_script("""const play = document.getElementById('play');
      play.click();
      return [play.textContent, play.getAttribute('aria-pressed')];""")
    assert shown == ["Pause", "true"]
    at = page.execute_async_script("""const look = () => {
      if (Number(document.getElementById('step').value) < 2) return setTimeout(look, 10);
      document.getElementById('play').click();
      arguments[0](document.getElementById('step').value);
    };
    look();""")
    assert play.text == "Play" and play.get_attribute("aria-pressed") == "false"
    time.sleep(0.3)
    assert by_id(page, "step").get_attribute("value") == at
    play.click()
    wait(page, lambda: play.text == "Play")  # of itself, at the end
    assert by_id(page, "step-text").text == "step 1,000 of 1,000"


def test_buttons_lead_to_the_checkpoints_that_matter(page, folder):
    run = grokjax.load(folder).runs.iloc[0]
    go(page, f"run?id={run['run_id']}")
    when = run["generalisation_step"]
    assert by_id(page, "step-text").text == f"step {when:,} of 1,000"  # where it starts
    places = {"Start": 0, "Before generalisation": when - 100, "Generalisation": when, "End": 1000}
    for name, step in places.items():
        page.find_element(By.XPATH, f"//button[.='{name}']").click()
        assert by_id(page, "step-text").text == f"step {step:,} of 1,000"


def test_a_theme_that_changes_while_plotly_starts_is_no_error(page):
    shown = page.execute_script(
        "const there = window.Plotly; window.Plotly = undefined;"
        "try { setTheme(wish); return route() === undefined } finally { window.Plotly = there }"
    )
    assert shown


def test_residues_can_be_joined_as_they_are(page):
    go(page, "run?step=1000")
    wave = drawn(page)
    Select(by_id(page, "order")).select_by_value("plain")
    plain = drawn(page)
    assert {name for name in PANELS if wave[name] != plain[name]} == {"components", "waves"}
    assert "order=plain" in page.current_url


def test_elements_are_coloured_by_the_clouds_own_coordinate(page, folder):
    sweep = grokjax.load(folder)
    run_id = sweep.runs["run_id"][0]
    go(page, f"run?id={run_id}&step=1000")
    by_element = drawn(page)
    Select(by_id(page, "colour")).select_by_value("own")
    own = drawn(page)
    changed = {name for name in PANELS if own[name] != by_element[name]}
    assert changed == {"components", "waves", "coordinate"} and "colour=own" in page.current_url
    script = """const {data, layout} = document.getElementById('coordinate');
      const colours = document.getElementById('components').data[1].marker.color;
      return [data[0].x, data[0].y, layout.xaxis.title.text, colours,
              data[0].y.map((turns) => between(CYCLE, turns))]"""
    x, y, title, colours, expected = page.execute_script(script)
    found = coordinates.circular(sweep.cloud(run_id, 1000))
    assert y == pytest.approx(found.angles[:, 0] / (2 * np.pi), abs=1e-3)
    assert x == pytest.approx(3 * np.arange(11) % 11 / 11) and title.startswith("3 × element")
    assert colours == expected
    assert "k = 3, r = " in by_id(page, "coordinate-note").text


def test_any_quantity_can_stand_below_accuracy_with_the_cursor_on_it(page, folder):
    sweep = grokjax.load(folder)
    run_id = sweep.runs["run_id"][0]
    go(page, f"run?id={run_id}&step=300")
    script = """const {data, layout} = document.getElementById('run-curves');
      return [data.at(-1).y, layout.yaxis2.type, layout.shapes.map((own) => [own.x0, own.yref])]"""
    for label, table, column, kind in (
        ("H0 total (embedding)", "persistence", "h0_total", "linear"),
        ("test loss", "metrics", "test_loss", "log"),
    ):
        Select(by_id(page, "below")).select_by_visible_text(label)
        values, scale, cursors = page.execute_script(script)
        own = getattr(sweep, table).query("run_id == @run_id")
        assert values == pytest.approx(own[column].tolist(), rel=1e-3)
        assert scale == kind and cursors == [[300, "y domain"], [300, "y2 domain"]]
        assert label in by_id(page, "run-curves").get_attribute("aria-label")
    by_id(page, "next").click()  # and stays
    wait(page, lambda: by_id(page, "run-title").text != run_id)
    assert by_id(page, "below").get_attribute("value") == "metrics/test_loss"


def test_a_run_that_diverged_is_shown_as_such(page, folder):
    run_id = grokjax.load(folder).runs["run_id"][5]
    go(page, f"run?id={run_id}&step=0")
    assert "diverged" in by_id(page, "run-facts").text
    assert "H1 bar" in by_id(page, "says").text
    by_id(page, "step").send_keys(Keys.END)
    assert "The embedding is not finite." in by_id(page, "says").text
    assert by_id(page, "components").get_attribute("aria-label") == "not finite"


# --------------------------------------------------------------------------- all runs


def test_runs_are_filtered_by_words_and_comparisons(page, folder):
    runs = grokjax.load(folder).runs
    go(page, "runs")
    assert rows(page) == runs["run_id"].tolist()
    box = by_id(page, "filter")
    for text, expected in (
        ("s47", runs["seed"] == 47),
        ("DIVERGED", runs["status"] == "diverged"),
        ("seed>=47 label_permutation=0", (runs["seed"] >= 47) & (runs["label_permutation"] == 0)),
        ("generalised=none", runs["generalisation_step"].isna()),
        ("generalised<1e9", runs["generalisation_step"].notna()),
        ("nonsense", runs["seed"] < 0),
        ("status=done seed=48", (runs["seed"] == 48) & (runs["status"] == "done")),
    ):
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)
        assert rows(page) == runs["run_id"][expected].tolist(), text
    assert by_id(page, "outcome").text.startswith("1 of 6 runs in 1 setting")
    assert "filter=status" in page.current_url
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.DELETE)
    Select(by_id(page, "status-filter")).select_by_value("diverged")
    assert rows(page) == [runs["run_id"][5]]
    assert box.get_attribute("value") == "status=diverged"
    Select(by_id(page, "status-filter")).select_by_value("")
    assert len(rows(page)) == 6


def test_runs_are_sorted_by_their_headers_with_what_is_missing_last(page, folder):
    runs = grokjax.load(folder).runs
    go(page, "runs")
    for order in ("ascending", "descending"):
        header = page.find_element(By.CSS_SELECTOR, '[data-column="generalisation_step"]')
        header.send_keys(Keys.ENTER)
        by = runs.sort_values(
            "generalisation_step", kind="stable", ascending=order == "ascending", na_position="last"
        )
        assert rows(page) == by["run_id"].tolist()
        cell = page.find_element(By.CSS_SELECTOR, "#runs-table [aria-sort]")
        assert cell.get_attribute("aria-sort") == order and "generalised" in cell.text
        assert page.switch_to.active_element.text == cell.text  # the keyboard stays where it was


def test_a_row_leads_to_its_run_and_the_address_leads_back(page, folder):
    run_id = grokjax.load(folder).runs["run_id"][1]
    go(page, "runs?filter=s47")
    page.find_element(By.LINK_TEXT, run_id).click()
    wait(page, lambda: by_id(page, "run-title").text == run_id)
    assert f"id={run_id}" in urllib.parse.unquote(page.current_url)
    address = page.current_url
    page.back()
    wait(page, lambda: by_id(page, "view-runs").is_displayed())
    assert by_id(page, "filter").get_attribute("value") == "s47"
    page.get("about:blank")
    page.get(address)
    wait(page, lambda: by_id(page, "run-title").text == run_id)


# --------------------------------------------------------------------------- several tasks


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Tasks of every structure, two widths, two optimisers, whole training sets as batches."""
    root = tmp_path_factory.mktemp("several") / "w"
    config = mixed.make(root)
    return write(root), config


@pytest.fixture
def page_of_several(browser, several):
    with opened(browser, several[0]) as own:
        yield own


def test_elements_are_shown_as_their_structure_has_it(page_of_several, several):
    page, (_, config) = page_of_several, several
    script = """const own = (id) => document.getElementById(id);
      const [points, bars] = [own('components').data, own('spectrum').data];
      const {title} = own('spectrum').layout.xaxis;
      return [points[0]?.x.length, points[1]?.text[1], bars[0]?.x, title?.text]"""
    cycle, no_cycle = "Embedding in the plane of its strongest wave", "this task are no cycle"
    for operation, joined, name, axis, bars, wave in (
        ("add", 12, "1", "frequency k", [1, 2, 3, 4, 5], cycle),
        ("multiply", 11, "2", "frequency k", [1, 2, 3, 4, 5], cycle),
        ("s3", 0, "132", "irrep", ["(2,1)", "(1,1,1)"], no_cycle),
        ("average", 0, "1", None, None, no_cycle),
    ):
        go(page, f"run?id={mixed.run_of(config, operation).run_id}&step=100")
        wait(page, lambda: f"-{operation}-" in by_id(page, "run-title").text)  # noqa: B023
        assert wave in by_id(page, "waves").get_attribute("aria-label")
        shown = page.execute_script(script)
        assert shown == [joined, f"element {name}", bars, axis]
        assert by_id(page, "order").is_displayed() == (wave == cycle)
        irreps = "Strongest irreps: " in by_id(page, "says").text
        assert irreps == (operation == "s3")
    go(page, f"run?id={mixed.run_of(config, 'digits').run_id}&step=100")
    wait(page, lambda: "digits" in by_id(page, "run-title").text)
    for panel in ("components", "waves", "spectrum", "diagram", "barcode"):
        assert by_id(page, panel).get_attribute("aria-label") == "this network has no embedding"
    assert not by_id(page, "run-notice").is_displayed()


def test_any_setting_filters_runs_and_those_that_differ_are_columns(page_of_several, several):
    page, runs = page_of_several, grokjax.load(several[0]).runs
    go(page, "phase")  # axes that some tasks do not have
    assert sum(int(text[1:]) for _, text, _ in cells(page)) == 24
    Select(by_id(page, "phase-x")).select_by_value("prime")
    page.find_element(By.CSS_SELECTOR, "#phase-plots [data-key^='1,']").click()
    assert "prime=none" in by_id(page, "filter").get_attribute("value").split()
    by_id(page, "clear").click()
    go(page, "runs")
    heads = [head.text for head in page.find_elements(By.CSS_SELECTOR, "#runs-table thead button")]
    assert heads[1:5] == ["operation", "optimizer", "d model", "seed"]  # and no beta1
    box = by_id(page, "filter")
    for text, expected in (
        ("sgd n=none", (runs["optimizer"] == "sgd") & runs["prime"].isna()),
        ("ADAMW d_model>16", (runs["optimizer"] == "adamw") & (runs["d_model"] > 16)),
        ("task=s3 batch_size=full", runs["operation"] == "s3"),
        ("p=11 biases=true", runs["prime"] == 11),
        ("momentum=none p=11", (runs["optimizer"] == "adamw") & (runs["prime"] == 11)),
    ):
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)
        assert rows(page) == runs["run_id"][expected].tolist(), text


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
