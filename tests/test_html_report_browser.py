"""The report in a real Chromium without a window: an empty console, values on hover and by key, sorted tables."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from results_fixtures import make_results

pytest.importorskip("altair", reason="needs cram-hf[report]")
pytest.importorskip("vl_convert", reason="needs cram-hf[report]")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, to steer a browser")

from cram_hf.html_report import Heat, page, read_run  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium, or no chromedriver, on this machine"),
]
MARKUP = "</script><script>document.title = 'taken'</script>"
TIP = "return document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent"
FOCUS = "return document.activeElement.getAttribute('aria-label')"


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A page on two runs, the label of one of which holds markup."""
    folder = tmp_path_factory.mktemp("runs")
    log = [{"step": 10 * i, "loss": 4.0 / i, "loss_compressed": 5.0 / i} for i in range(1, 6)]
    for name, label in (("a", "AdamW"), ("b", MARKUP)):
        (folder / name).mkdir()
        make_results(label=label).save(folder / name / "results.json")
        (folder / name / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    shares = {f"layer.{i}.{kind}.weight": 0.5 + i / 10 for i in range(3) for kind in ("query", "output.dense")}
    runs = [read_run(str(folder / name)) for name in "ab"]
    (folder / "report.html").write_text(page(runs, [Heat("AdamW", "topk:0.8", shares)]), encoding="utf-8")
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium refuses to start for root with it
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def opened(browser, address: str, width: int = 1100, scheme: str = "light"):
    """Opens the page anew at a width in pixels, in the colours that the reader's system asks for."""
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    wanted = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})
    browser.get(address)
    return browser


@pytest.mark.parametrize("width", [320, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_its_window_and_the_console_stays_empty(browser, address, width, scheme):
    opened(browser, address, width, scheme)
    assert browser.get_log("browser") == []
    assert browser.title == "tiny-bert on squad"
    wide, page_width = browser.execute_script(
        "const e = document.documentElement; return [e.clientWidth, e.scrollWidth]"
    )
    assert page_width <= wide
    shown = browser.execute_script(
        "return [...document.querySelectorAll('figure > div')].filter(d => d.offsetWidth > 0).map(d => d.className)"
    )
    assert shown == ["narrow" if width < 600 else "wide"] * 3
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(21, 23, 27)")


def test_nothing_is_fetched(browser, address):
    opened(browser, address)
    assert browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []


def test_a_table_is_sorted_by_numbers_when_its_head_is_pressed(browser, address):
    opened(browser, address)
    head = "document.querySelectorAll('table')[1].tHead.rows[0].cells[2]"
    column = "return [...document.querySelectorAll('table')[1].tBodies[0].rows].map(r => r.cells[2].textContent)"
    scores = ["40.00", "40.00", "70.00", "70.00", "72.00", "72.00", "76.00", "76.00", "80.00", "80.00"]
    for order, expected in (("ascending", scores), ("descending", scores[::-1])):
        browser.execute_script(f"{head}.querySelector('button').click()")
        assert browser.execute_script(column) == expected
        assert browser.execute_script(f"return {head}.getAttribute('aria-sort')") == order
    assert len(browser.find_elements("css selector", "[aria-sort]")) == 1


def test_values_show_under_the_pointer(browser, address):
    opened(browser, address)
    mark = browser.find_element("css selector", ".wide [aria-label^='AdamW, topk:0.8: F1 40.00']")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", mark)
    webdriver.ActionChains(browser).move_to_element(mark).perform()
    assert browser.execute_script(TIP).endswith("topk:0.8: F1 40.00, 50.0 % of dense, at 80.0 % zeros")
    webdriver.ActionChains(browser).move_by_offset(0, -60).perform()
    assert browser.execute_script(TIP) == ""


def test_a_figure_is_one_stop_of_tab_and_arrows_go_through_its_marks(browser, address):
    opened(browser, address)
    stops = (
        "return [...document.querySelectorAll('.wide svg')].map(s => s.querySelectorAll('[tabindex=\"0\"]').length)"
    )
    assert browser.execute_script(stops) == [1, 1, 1]
    browser.execute_script("document.querySelector('.wide svg [tabindex=\"0\"]').focus()")
    assert browser.execute_script(FOCUS).startswith("AdamW, dense: F1 80.00")
    for key, said in (("ARROW_RIGHT", "AdamW, topk:0.5: F1 76.00"), ("END", f"{MARKUP}, nm:2:4: F1 70.00")):
        webdriver.ActionChains(browser).send_keys(getattr(webdriver.Keys, key)).perform()
        assert browser.execute_script(FOCUS).startswith(said)
        assert browser.execute_script(TIP).startswith(said)
    assert browser.execute_script(stops) == [1, 1, 1]
    webdriver.ActionChains(browser).send_keys(webdriver.Keys.ESCAPE).perform()
    assert browser.execute_script(TIP) == ""
