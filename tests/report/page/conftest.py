"""Pages to be opened, and the browser to open them with."""

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests import synthetic
from tests.report import mixed
from tests.report.page.browsing import CHROMIUM, DRIVER, opened, write


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


@pytest.fixture
def page(browser, folder):
    with opened(browser, folder) as own:
        yield own


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
