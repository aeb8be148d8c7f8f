"""The page in a real browser: choose, generate, look, measure, download, and all of it by keyboard too."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browsing import Page, needs_browser, served
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from ecgforge.facts import FACTS
from ecgforge.formats import read_record
from ecgforge.generate import Generator
from ecgforge.serving.rest import make_app

TOKEN = "a-token-for-tests"

pytestmark = needs_browser


@pytest.fixture(scope="module")
def site(generator: Generator) -> Iterator[str]:
    yield from served(make_app(generator))


@pytest.fixture(scope="module")
def guarded_site(generator: Generator) -> Iterator[str]:
    yield from served(make_app(generator, token=TOKEN))


@pytest.fixture(scope="module")
def knowing_site(knowing: Generator) -> Iterator[str]:
    """Of a model that knows facts."""
    yield from served(make_app(knowing))


class OrderPage(Page):
    """The page on which ECGs are ordered."""

    def ready(self) -> "OrderPage":
        self.until(lambda: self.all("#statements li"))
        return self

    def generate(self, state: str = "Done") -> None:
        self["generate"].click()
        self.until(lambda: self["state"].text.startswith(state))

    def sent(self) -> dict[str, object]:
        """The last order as the service gets it."""
        return self.browser.execute_script("return window.sent.at(-1)")

    def watch(self) -> None:
        """Keep what is sent."""
        self.browser.execute_script("""
            window.sent = [];
            const { fetch } = window;
            window.fetch = (path, options) => {
              if (path === "/jobs") window.sent.push(JSON.parse(options.body));
              return fetch(path, options);
            };
        """)

    def trace(self, number: int = 0) -> np.ndarray:
        """A trace's points in mm, (samples, 2)."""
        points = self.all("#paper polyline")[number].get_attribute("points") or ""
        return np.array([[float(value) for value in pair.split(",")] for pair in points.split()])


@pytest.fixture
def page(browser: webdriver.Chrome, site: str) -> OrderPage:
    return OrderPage(browser, site).ready()


@pytest.fixture
def drawn(page: OrderPage) -> OrderPage:
    """A page with two ECGs."""
    page.set(number=2, seed=3, steps=2)
    page.generate()
    return page


def test_statements_are_found_and_graded(page: OrderPage) -> None:
    page["search"].send_keys("atrial fib")
    assert page["found"].text == "1 of 71 statements"
    page["search"].send_keys(Keys.ARROW_DOWN, Keys.TAB)
    (box,) = [box for box in page.all("#statements input") if box.is_displayed()]
    box.send_keys(Keys.SPACE)
    rows = [row.get_attribute("data-code") for row in page.all("#choice-a li")]
    assert rows == ["NORM", "SR", "AFIB"]
    page.all("#choice-a input")[2].send_keys(*[Keys.ARROW_LEFT] * 10)
    assert page.all("#choice-a output")[2].text == "50 %"
    page.all("#choice-a button")[0].click()
    page.set(number=1, steps=1)
    page.generate()
    assert "asked for SR, AFIB 50 %; seed 0, record 0" in page["caption"].text


def test_the_paper_is_calibrated(drawn: OrderPage, generator: Generator) -> None:
    job = drawn.browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    (address_of_record,) = [name for name in job if name.endswith("/records/0")]
    record = drawn.browser.execute_script("return fetch(arguments[0]).then(answer => answer.json())", address_of_record)
    points = drawn.trace(len(drawn.all("#paper polyline")) - 1)  # the rhythm strip
    signal = np.array(record["signal_mv"][record["leads"].index("II")])
    np.testing.assert_allclose(np.diff(points[:, 0]), 0.25, atol=0.011)  # 10 ms at 25 mm/s
    baseline = np.median(points[:, 1])
    expected = np.clip(10 * (signal - np.median(signal)), -40, 40)
    np.testing.assert_allclose(baseline - points[:, 1], expected, atol=0.02)  # 10 mm/mV
    assert drawn.all("#paper .small.mark")[0].get_attribute("textContent") == "SYNTHETIC ECG"
    drawn["true-size"].click()
    width = float(drawn.all("#paper svg")[0].get_attribute("width") or 0)
    assert width == pytest.approx(270 * 96 / 25.4)  # 15 mm of pulse, 10 s, a box; CSS pixels


def test_layouts_and_leads(drawn: OrderPage) -> None:
    def leads() -> list[str | None]:
        return [trace.get_attribute("data-lead") for trace in drawn.all("#paper polyline")]

    assert leads() == ["I", "aVR", "V1", "V4", "II", "aVL", "V2", "V5", "III", "aVF", "V3", "V6", "II"]
    Select(drawn["layout"]).select_by_value("12x1")
    assert leads() == ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    Select(drawn["layout"]).select_by_value("single")
    Select(drawn["lead"]).select_by_value("V3")
    assert leads() == ["V3"]


def test_calipers_measure_what_is_dragged(drawn: OrderPage) -> None:
    drawn["true-size"].click()
    paper = drawn.all("#paper svg")[0]
    drawn.browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", paper)
    pixels = 96 / 25.4
    right, down = round(20 * pixels), round(-15 * pixels)  # 20 mm are 800 ms, 15 mm upwards are 1.5 mV
    ActionChains(drawn.browser).move_to_element(paper).click_and_hold().move_by_offset(right, down).release().perform()
    ms, rate, mv = drawn["measured"].text.replace("(", "").replace(" ms", "").replace("/min),", "").split()[:3]
    assert float(ms) == pytest.approx(800, abs=12)  # a pixel is 10.6 ms
    assert float(rate) == pytest.approx(75, abs=2)
    assert float(mv) == pytest.approx(1.5, abs=0.03)


def test_calipers_by_keyboard(drawn: OrderPage) -> None:
    paper = drawn["paper"]
    paper.send_keys(*[Keys.ARROW_RIGHT] * 4)
    assert drawn["measured"].text == "40 ms, 0.00 mV"
    paper.send_keys(Keys.SHIFT + Keys.ARROW_RIGHT * 4 + Keys.ARROW_UP * 8)
    assert drawn["measured"].text == "240 ms (250/min), 1.00 mV"
    paper.send_keys(" " + Keys.ARROW_LEFT)
    assert drawn["measured"].text == "250 ms (240/min), −1.00 mV"
    paper.send_keys("m" + Keys.ARROW_LEFT + Keys.ARROW_DOWN)
    assert drawn["measured"].text == "250 ms (240/min), −1.00 mV"
    paper.send_keys(Keys.ESCAPE)
    assert drawn["measured"].text == ""


def test_variants_are_told_apart_and_reached_by_arrow_keys(drawn: OrderPage) -> None:
    buttons = drawn.all("#variants button")
    assert [button.text for button in buttons] == ["ECG 1", "ECG 2"]
    assert [button.get_attribute("tabindex") for button in buttons] == ["0", "-1"]
    first = drawn.trace()
    buttons[0].send_keys(Keys.ARROW_RIGHT)
    assert "seed 3, record 1" in drawn["caption"].text
    assert buttons[1].get_attribute("aria-current") == "true"
    assert np.abs(drawn.trace()[:, 1] - first[:, 1]).max() > 0.1


def test_between_two_choices(page: OrderPage) -> None:
    page.all("input[value=interpolation]")[0].click()
    page.all("#target input[value=b]")[0].click()
    assert [box.get_attribute("value") for box in page.all("#statements input:checked")] == ["CLBBB", "SR"]
    page.set(steps=2)
    page.generate()
    assert [button.text.split(",")[0] for button in page.all("#variants button")] == [
        *("A 100 %", "A 75 %", "A 50 %", "A 25 %", "A 0 %")
    ]
    page["share"].send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page["share-text"].text == "A 50 %, B 50 %"
    assert "asked for NORM 50 %, SR, CLBBB 50 %; seed 0, record 0" in page["caption"].text
    assert page["share"].get_attribute("aria-valuetext") == "A 50 %, B 50 %"


def test_what_is_not_chosen_is_not_sent(page: OrderPage) -> None:
    assert Select(page["sampler"]).first_selected_option.text == "model’s own"
    assert page["steps"].get_attribute("placeholder") == "model’s own"
    page.watch()
    page.set(number=1)
    page.generate()
    assert page.sent() == {"kind": "samples", "statements": {"NORM": 1, "SR": 1}, "n": 1, "seed": 0}
    Select(page["sampler"]).select_by_value("ddim")
    assert page["steps"].get_attribute("placeholder") == "20"
    page.set(steps=2)
    page["generate"].click()
    page.until(lambda: "sampler" in page.sent())
    assert (page.sent()["sampler"], page.sent()["steps"]) == ("ddim", 2)


def test_age_sex_and_heart_rate_are_asked_for(browser: webdriver.Chrome, knowing_site: str) -> None:
    page = OrderPage(browser, knowing_site).ready()
    assert page["facts-hint"].text == "Optional: what is left empty stays open."
    page.watch()
    page.set(number=1, steps=2)
    page["age"].click()
    ActionChains(browser).send_keys("63", Keys.TAB, Keys.ARROW_DOWN, Keys.TAB, "110").perform()
    page.generate()
    assert {name: page.sent()[name] for name in FACTS} == {"age": 63, "sex": "female", "heart_rate": 110}
    assert "asked for NORM, SR, 63 years, female, 110 beats per minute; seed 0" in page["caption"].text
    page["age"].clear()
    Select(page["sex"]).select_by_value("")
    page.all("input[value=interpolation]")[0].click()
    page["generate"].click()
    page.until(lambda: len(page.all("#variants button")) == 5)
    assert [name for name in FACTS if name in page.sent()] == ["heart_rate"]
    assert "asked for NORM, SR, 110 beats per minute; seed 0" in page["caption"].text


def test_facts_of_nobody_are_not_sent(browser: webdriver.Chrome, knowing_site: str) -> None:
    page = OrderPage(browser, knowing_site).ready()
    page.watch()
    for name, value in (("age", 121), ("heart-rate", 19)):
        page.set(**{name: value})
        page["generate"].click()
        assert page[name].get_attribute("validationMessage")
        page[name].clear()
    assert browser.execute_script("return window.sent") == []


def test_a_model_without_facts_cannot_be_asked_for_them(page: OrderPage) -> None:
    for name in ("age", "sex", "heart-rate"):
        assert not page[name].is_enabled()
        assert page[name].get_attribute("aria-describedby") == "facts-hint"
    assert page["facts-hint"].text == "This model knows statements only, no age, sex or heart rate."


def test_a_job_is_cancelled(page: OrderPage) -> None:
    page.set(number=64, steps=200)
    page.generate("Sampling")
    page.until(lambda: float(page["progress"].get_attribute("value") or 0) > 0)
    page["cancel"].click()
    page.until(lambda: page["state"].text.startswith("Cancelled"))
    assert page["generate"].is_enabled()
    assert not page["progress"].is_displayed()


def test_refusals_are_shown(page: OrderPage) -> None:
    for button in page.all("#choice-a button")[::-1]:
        button.click()
    page["generate"].click()
    page.until(lambda: page["problem"].text == "Choose at least one statement from the list.")
    page.all("#statements input")[0].click()
    page.set(steps=201)
    page["generate"].click()
    page.until(lambda: "200 sampling steps" in page["problem"].text)
    assert page["problem"].get_attribute("role") == "alert"


def test_downloads(drawn: OrderPage, downloads: Path) -> None:
    Select(drawn["format"]).select_by_value("edf")
    drawn.all("#downloads button")[0].click()
    drawn.until(lambda: drawn["state"].text.startswith("Saved"))
    path = downloads / drawn["state"].text.removeprefix("Saved ").removesuffix(".")
    drawn.until(path.exists)
    record = read_record(path)
    assert record.provenance.synthetic
    assert (record.provenance.seed, record.provenance.index) == (3, 0)
    assert path.name.startswith("synthetic-3-00000-")

    drawn["conversion"].find_element(By.TAG_NAME, "summary").click()
    drawn["files"].send_keys(str(path))
    Select(drawn["convert-format"]).select_by_value("csv")
    drawn.all("#convert button")[0].click()
    converted = path.with_suffix(".csv")
    drawn.until(converted.exists)
    np.testing.assert_allclose(read_record(converted).signal, record.signal, atol=1e-4)


def test_a_guarded_service_asks_for_its_token(browser: webdriver.Chrome, guarded_site: str) -> None:
    page = OrderPage(browser, guarded_site)
    page.until(lambda: page["token-dialog"].is_displayed())
    for token in ("wrong", TOKEN):
        page.until(lambda: page["token"].is_displayed())
        page.set(token=token)
        page["token"].send_keys(Keys.ENTER)
    page.ready()
    page.set(number=1, steps=1)
    page.generate()
    assert len(page.all("#variants button")) == 1


def tab_stops(page: OrderPage) -> list[str | None]:
    """Ids of what the Tab key reaches, one after the other."""
    names = []
    page.browser.execute_script("document.querySelector('.skip').focus()")
    for _ in range(60):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        active = page.browser.switch_to.active_element
        if active.tag_name == "body":
            break
        assert active.accessible_name, active.get_attribute("outerHTML")
        names.append(active.get_attribute("id"))
    return names


def test_everything_can_be_reached_by_tab_and_has_a_name(drawn: OrderPage) -> None:
    wanted = ["search", "number", "seed", "sampler", "steps", "generate", "layout", "calipers", "paper", "format"]
    assert [name for name in tab_stops(drawn) if name in wanted] == wanted


def test_facts_can_be_reached_by_tab(browser: webdriver.Chrome, knowing_site: str) -> None:
    page = OrderPage(browser, knowing_site).ready()
    wanted = ["search", "age", "sex", "heart-rate", "number", "generate"]
    assert [name for name in tab_stops(page) if name in wanted] == wanted
    names = [page[name].accessible_name for name in ("age", "sex", "heart-rate")]
    assert names == ["Age (years)", "Sex", "Heart rate (beats per minute)"]


@pytest.mark.parametrize("width", [768, 1024])
def test_a_tablet_shows_the_page_without_scrolling_sideways(drawn: OrderPage, width: int) -> None:
    drawn.browser.set_window_size(width, 1024)
    drawn.until(lambda: drawn.browser.execute_script("return window.innerWidth") <= width)
    wide = drawn.browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    drawn.browser.set_window_size(1280, 1400)
    assert wide <= 0


def test_the_routes_can_be_read_without_a_network(browser: webdriver.Chrome, site: str) -> None:
    page = OrderPage(browser, f"{site}/docs")
    page.until(lambda: len(page.all("#routes article")) >= 8)
    assert "POST /jobs" in [heading.text for heading in page.all("#routes h2")]


def test_nothing_was_complained_about_and_nothing_came_from_elsewhere(drawn: OrderPage, site: str) -> None:
    loaded = drawn.browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert loaded
    assert all(name.startswith((site, "blob:")) for name in loaded)
    refused = ("401 (Unauthorized)", "422 (Unprocessable")  # those the tests above provoke
    entries = [json.dumps(entry) for entry in drawn.browser.get_log("browser")]
    assert [entry for entry in entries if not any(words in entry for words in refused)] == []
