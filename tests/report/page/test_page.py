"""The report's page in a real browser: its overview, curves and phase diagrams."""

import json
import re

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

import grokjax
from grokjax import statistics
from grokjax.report import drawing, figures
from grokjax.report.phases import cells as by_phase
from tests.report.page.browsing import (
    VIEWS,
    by_id,
    cells,
    go,
    needs_browser,
    rows,
    wait,
)

pytestmark = needs_browser


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
