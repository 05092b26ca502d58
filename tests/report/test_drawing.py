"""Reports as they are written: whole, the same again, of every kind of sweep."""

import json
import re

import pytest

import grokjax
from grokjax.report import drawing, page
from grokjax.report.page import payload
from grokjax.store.results import METRICS, Results
from tests import synthetic

PAYLOAD = re.compile(r'<script type="application/json" id="payload">(.*?)</script>', re.S)


@pytest.fixture(scope="module")
def written(grid):
    """Its page."""
    return drawing.write(grid)


def read_page(path):
    """What the page of a work directory knows."""
    return json.loads(PAYLOAD.search(path.read_text())[1])


def test_the_report_is_written_whole(grid, written):
    assert written == grid / "report" / "index.html"
    drawn = ("accuracy", "h1_max", "h1_total", "diagrams", "embedding", "birth")
    names = sorted(path.name for path in (grid / "figures").iterdir())
    assert names == sorted(f"{name}.svg" for name in drawn)
    assert [path.name for path in (grid / "report").iterdir()] == ["index.html"]
    assert read_page(written)["figures"] == names


def test_figures_come_out_the_same_again(grid, written):
    first = {path.name: path.read_bytes() for path in (grid / "figures").iterdir()}
    drawing.write(grid)
    assert {path.name: path.read_bytes() for path in (grid / "figures").iterdir()} == first


@pytest.mark.parametrize(
    "what",
    [
        {"diagnostics": ()},
        {"label_permutation": (1.0,)},
        {"diverged": [0, 1]},
        {"seed": (46,)},
        {"reached": 200},
        {"model": ("transformer", "mlp"), "prime": (5, 7)},
    ],
    ids=["unmeasured", "none generalised", "all diverged", "single", "halfway", "mixed"],
)
def test_every_sweep_has_a_report(tmp_path, what):
    synthetic.make(tmp_path / "w", **what)
    data = read_page(drawing.write(tmp_path / "w"))
    assert set(data["runs"]["setting"]) == set(range(len(data["settings"])))
    assert data["checkpoints"] is False and data["details"] == {}
    assert (tmp_path / "w/figures/accuracy.svg").exists()
    drawing.summary(tmp_path / "w")


def test_a_sweep_whose_tables_are_not_written_yet_has_one_too(tmp_path):
    config = synthetic.make(tmp_path / "w", reached=100)
    for path in (tmp_path / "w/results").glob("*.parquet"):
        path.unlink()
    row = {"run_id": config.runs[0].run_id, "step": 0, **dict.fromkeys(METRICS.columns, 0.5)}
    Results(tmp_path / "w", [run.run_id for run in config.runs]).append("metrics", METRICS, [row])
    data = read_page(drawing.write(tmp_path / "w"))
    assert data["runs"]["status"] == ["running", "running"]
    assert data["runs"]["last_test_accuracy"] == [0.5, None]


def test_one_checkpoint_that_cannot_be_read_is_said_and_the_rest_is_shown(tmp_path):
    config = synthetic.make(tmp_path / "w", steps=200)
    synthetic.add_checkpoints(tmp_path / "w", config)
    (broken,) = (tmp_path / "w/checkpoints").glob("*/params/100/params/manifest.ocdbt")
    broken.write_bytes(b"nonsense")
    data = payload.build(grokjax.load(tmp_path / "w"))
    assert data["details"][config.runs[0].run_id]["steps"] == [0, 200]
    assert any("step 100 cannot be read" in note for note in data["notes"])


def test_a_batch_that_cannot_be_identified_is_said_with_the_reason(tmp_path):
    config = synthetic.make(tmp_path / "w", steps=200)
    synthetic.add_checkpoints(tmp_path / "w", config)
    (meta,) = (tmp_path / "w/checkpoints").glob("*/params/0/meta/metadata")
    meta.write_text("nonsense")
    sweep = grokjax.load(tmp_path / "w")
    data = payload.build(sweep)
    assert not data["details"] and len(data["notes"]) == 1
    assert re.search(r"Left out: .* at step 0 cannot be read", data["notes"][0])
    with pytest.raises(KeyError, match=r"no checkpoint of run .* at step 0 cannot be read"):
        sweep.steps(config.runs[0].run_id)


def test_names_cannot_break_out_of_the_page(tmp_path):
    folder = tmp_path / "a<b>{{script}}&"
    synthetic.make(folder)
    text = page.render(payload.build(grokjax.load(folder)))
    assert "<title>a&lt;b&gt;{{script}}&amp; · grokjax</title>" in text
    assert json.loads(PAYLOAD.search(text)[1])["title"] == folder.name
    assert page.as_json({"x": "</script><!--"}) == '{"x":"\\u003c/script>\\u003c!--"}'
    with pytest.raises(ValueError, match="JSON"):
        page.as_json({"x": float("nan")})
