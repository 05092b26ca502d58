"""Pictures of a sweep's page in Chromium without a screen: those that README.md shows.

Command: python -m experiments.screenshots work/quick --folder=experiments/results/quick
Needs:   chromium and chromedriver (Debian: apt-get install chromium-driver), pip install .[test]
Makes:   page-overview.png, page-before.png, page-at.png, page-after.png (and with --all the other
         views, dark and as on a phone, to be looked at), at most 256 colours each.
"""

import argparse
import contextlib
import io
import pathlib
import shutil
from collections.abc import Iterator

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

import grokjax
from grokjax.report import summaries

WIDTH, HEIGHT, PHONE = 1280, 900, 390
_DRAWN = """return document.fonts.status === 'loaded' &&
  [...document.querySelectorAll('section:not([hidden]) .plot')].every((own) => own.layout)"""


@contextlib.contextmanager
def chromium(width: int = WIDTH, scheme: str = "light") -> Iterator[webdriver.Chrome]:
    """A browser without a window.

    Args:
        width: of the page in CSS pixels.
        scheme: light or dark.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium-browser"
    # The sandbox needs rights that a container has not; the page is our own.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                     "--hide-scrollbars"):  # fmt: skip
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        resize(driver, width, HEIGHT)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield driver
    finally:
        driver.quit()


def resize(driver: webdriver.Chrome, width: int, height: int) -> None:
    """Sets the size of the visible part of the page in CSS pixels."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wait_until_drawn(driver: webdriver.Chrome) -> None:
    """Returns once every figure of the view that is shown is drawn."""
    WebDriverWait(driver, 60, 0.02).until(lambda own: own.execute_script(_DRAWN))


def picture(
    driver: webdriver.Chrome, page: str, view: str, path: pathlib.Path, whole: bool = False
) -> None:
    """Writes what a view of the page looks like.

    Args:
        driver: as from `chromium`.
        page: its address.
        view: what stands behind the # of the address.
        path: a PNG file.
        whole: down to the end of the view, not only the first screen.
    """
    driver.get("about:blank")
    driver.get(f"{page}#{view}")
    width = driver.execute_script("return innerWidth")
    wait_until_drawn(driver)
    if whole:
        resize(driver, width, driver.execute_script("return document.body.scrollHeight"))
    image = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    resize(driver, width, HEIGHT)
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {image.width} × {image.height}, {path.stat().st_size / 1000:.0f} kB")


def run_views(workdir: pathlib.Path) -> dict[str, str]:
    """Before, at and after generalisation of the clearest run: of greatest rise in H1 max.

    Before: the checkpoint nearest to half of the steps up to generalisation. After: the last.
    """
    sweep = grokjax.load(workdir)
    runs = summaries.outcomes(sweep).dropna(subset="generalisation_step").set_index("run_id")
    run_id = (runs["after"] - runs["before"]).idxmax()
    when = runs["generalisation_step"][run_id]
    steps = sweep.steps(run_id)
    before = min(steps, key=lambda step: abs(step - when / 2))
    at = {"before": before, "at": int(when), "after": steps[-1]}
    return {name: f"run?id={run_id}&step={step}" for name, step in at.items()}


def main() -> None:
    """Takes the pictures of a work directory."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workdir", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path())
    parser.add_argument("--all", action="store_true", help="the other views too")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    page = (arguments.workdir / "report" / "index.html").resolve().as_uri()
    views = run_views(arguments.workdir)
    with chromium() as driver:
        picture(driver, page, "overview", arguments.folder / "page-overview.png")
        for name, view in views.items():
            picture(driver, page, view, arguments.folder / f"page-{name}.png", whole=True)
    if not arguments.all:
        return
    others = ("overview", "phase", "curves", "runs", "data")
    every = {"run": views["after"], **{name: name for name in others}}
    for kind, width, scheme in (
        ("light", WIDTH, "light"),
        ("dark", WIDTH, "dark"),
        ("phone", PHONE, "light"),
    ):
        with chromium(width, scheme) as driver:
            for name, view in every.items():
                picture(driver, page, view, arguments.folder / f"{kind}-{name}.png", whole=True)


if __name__ == "__main__":
    main()
