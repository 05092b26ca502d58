"""The report's page in a real browser: one run, all runs, and tasks of every structure."""

import time
import urllib.parse

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

import grokjax
from grokjax.diagnostics import coordinates
from tests.report import mixed
from tests.report.page.browsing import PANELS, by_id, cells, drawn, go, needs_browser, rows, wait

pytestmark = needs_browser


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
