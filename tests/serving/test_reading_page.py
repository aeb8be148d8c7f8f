"""The reading room in a real browser: by keyboard, by mouse, on a tablet, and with the service failing in between."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Page, needs_browser, served
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys

from ecgforge.evaluation.reading_kit import Key, Kit
from ecgforge.generate import Generator
from ecgforge.serving.rest import make_app
from ecgforge.serving.service.reading import ReadingRoom

FINGER_PX = 44

pytestmark = needs_browser


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("room") / "answers"


@pytest.fixture(scope="module")
def site(generator: Generator, kit: Kit, answers: Path) -> Iterator[str]:
    """A room with the key."""
    room = ReadingRoom(kit.folder, answers=answers, key_file=kit.key_file)
    yield from served(make_app(generator, room=room))


@pytest.fixture(scope="module")
def keyless_site(generator: Generator, kit: Kit, answers: Path) -> Iterator[str]:
    """A room without the key, behind a token; its answers go to the same folder."""
    room = ReadingRoom(kit.folder, answers=answers)
    yield from served(make_app(generator, room=room, token="a-token-for-tests"))


class Desk(Page):
    """The reading room as a reader has it."""

    def __init__(self, browser: webdriver.Chrome, site: str) -> None:
        super().__init__(browser, f"{site}/page/icon.svg")  # no script: nothing writes after the clearing
        browser.execute_script("sessionStorage.clear()")
        browser.get(f"{site}/reading")

    def reopen(self) -> "Desk":
        self.browser.refresh()
        return self

    def begin(self, name: str) -> "Desk":
        self.until(self["name"].is_displayed)
        self["name"].send_keys(name, Keys.ENTER)
        return self

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    def at(self, number: int) -> "Desk":
        """Wait until this sheet is shown, with its picture."""
        self.until(lambda: self["sheet-title"].text == f"ECG 0{number}")
        self.until(lambda: f"ECG 0{number} " in (self["picture"].get_attribute("alt") or ""))
        self.until(lambda: self.browser.execute_script("return document.images[0].naturalWidth") == 2970)
        return self

    def pressed(self) -> list[str]:
        """What is chosen on this sheet."""
        return [button.text.split("\n")[0] for button in self.all("#questions [aria-pressed=true]")]

    def focused(self) -> str:
        return self.browser.switch_to.active_element.get_attribute("id") or ""


def said(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row[3:] for row in csv.reader(file)][1:]


def test_a_reading_by_keyboard(browser: webdriver.Chrome, site: str, answers: Path, kit: Kit) -> None:
    desk = Desk(browser, site).begin("Anna").at(1)
    statements = Key.read(kit.key_file).trials[0].statements.split(",")
    assert [item.text.split()[0] for item in desk.all("#shown-statements li")] == statements
    assert desk["position"].text == "1 of 4"
    desk.press(Keys.ENTER)  # nothing answered: stays
    desk.until(lambda: "Both questions" in desk["saved"].text)
    desk.press("y")
    desk.until(lambda: said(answers / "anna.csv")[:1] == [["yes", "", ""]])  # at once, not at the end of the sheet
    desk.press("s")
    assert desk.pressed() == ["Yes", "Synthetic"]
    assert desk.focused() == "next"
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    desk.press("c", "a remark, with y and n", Keys.ENTER, Keys.ENTER)
    desk.at(2).press("n", "r", Keys.ENTER)
    assert desk.at(3)["position"].text == "3 of 4"
    desk.press("u", "x", Keys.ARROW_LEFT)
    assert desk.at(2).pressed() == ["No", "Real"]
    desk.press("y", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    desk.at(4).press("Y", "S")
    assert desk["answered"].text == "4 answered"
    desk.press(Keys.ENTER)
    desk.until(lambda: desk["finish"].is_displayed())
    remark = "a remark, with y and n"
    given = [["yes", "yes", remark], ["yes", "no", ""], ["?", "?", ""], ["yes", "yes", ""]]
    desk.until(lambda: said(answers / "anna.csv") == given)  # the last answer may be on its way
    assert not (answers / "anna-score.json").exists()
    desk.press(Keys.TAB, Keys.ENTER)
    desk.until(lambda: desk.all("#score table"))
    assert [caption.text for caption in desk.all("#score caption")] == [
        *("Statements correct", "Judged synthetic", "Synthetic told from real")
    ]
    synthetic = [trial.synthetic for trial in Key.read(kit.key_file).trials]
    right = [synthetic[0], not synthetic[1], synthetic[3]].count(True)
    cells = [cell.text for cell in desk.all("#score .table:nth-of-type(3) td")]
    assert cells[:4] == ["anna", str(right), str(3 - right), "1"]
    assert not desk["look-again"].is_displayed()


def test_a_reader_goes_on_where_the_last_time_ended(browser: webdriver.Chrome, site: str) -> None:
    desk = Desk(browser, site).begin("ben").at(1)
    desk.press("n", "s", Keys.ENTER)
    desk.at(2).press("y", Keys.ARROW_RIGHT)
    desk.at(3).press("y", "r")
    desk.until(lambda: desk["saved"].text == "Saved.")
    assert desk.reopen().at(2).pressed() == ["Yes"]  # a reload of the tab
    desk["leave"].click()
    desk.begin("ben")
    desk.until(desk["again"].is_displayed)  # who takes a name that is in use is asked
    assert "ben has answered 2 of 4 sheets" in desk["again-text"].text
    desk["other-name"].click()
    desk.begin("BEN")
    desk.until(desk["go-on"].is_displayed)
    desk["go-on"].click()
    assert desk.at(2).pressed() == ["Yes"]
    for number in (3, 4):
        desk["next"].click()
        desk.at(number)
    desk["next"].click()
    desk.until(lambda: desk["end-title"].text == "2 of 4 sheets lack an answer")
    assert [button.text for button in desk.all("#all-sheets .open")] == ["02", "04"]
    desk.all("#all-sheets .open")[1].click()
    desk.at(4)


def test_readers_in_two_tabs_do_not_mix(browser: webdriver.Chrome, site: str, answers: Path) -> None:
    first = browser.current_window_handle
    carla = Desk(browser, site).begin("carla").at(1)
    browser.switch_to.new_window("tab")
    dan = Desk(browser, site).begin("dan").at(1)
    dan.press("n", "r", Keys.ENTER)
    dan.at(2).press("n", "r")
    dan.until(lambda: said(answers / "dan.csv") == [*[["no", "no", ""]] * 2, *[["", "", ""]] * 2])
    browser.close()
    browser.switch_to.window(first)
    carla.press("y", "s")
    carla.until(lambda: said(answers / "carla.csv") == [["yes", "yes", ""], *[["", "", ""]] * 3])
    assert carla["who"].text == "carla"
    assert said(answers / "dan.csv") == [*[["no", "no", ""]] * 2, *[["", "", ""]] * 2]


def test_what_could_not_be_saved_is_saved_later(browser: webdriver.Chrome, site: str, answers: Path) -> None:
    desk = Desk(browser, site).begin("eve").at(1)
    aside = answers.rename(answers.with_name("aside"))
    answers.touch()
    desk.press("y")
    desk.until(lambda: desk["saved"].text == "Not saved.")
    assert "Not saved yet" in desk["problem"].text
    desk.press("r", Keys.ENTER)  # the reader may go on meanwhile
    desk.at(2)
    answers.unlink()
    aside.rename(answers)
    desk.until(lambda: said(answers / "eve.csv")[:1] == [["yes", "no", ""]])
    desk.until(lambda: not desk["problem"].is_displayed())


def test_the_sheet_is_made_larger_and_moved(browser: webdriver.Chrome, site: str) -> None:
    desk = Desk(browser, site).begin("fay").at(1)

    def seen(what: str) -> float:
        return float(browser.execute_script(f"const holder = document.getElementById('holder'); return {what}"))

    fits = desk["picture"].size["width"]
    assert seen("holder.scrollWidth - holder.clientWidth") <= 0
    desk.press("+", "+", "+")
    assert desk["picture"].size["width"] == pytest.approx(fits * 1.25**3, abs=1)
    assert seen("(holder.scrollLeft + holder.clientWidth / 2) / holder.scrollWidth") == pytest.approx(0.5, abs=0.01)
    left = seen("holder.scrollLeft")
    ActionChains(browser).move_to_element(desk["holder"]).click_and_hold().move_by_offset(-60, 0).release().perform()
    assert seen("holder.scrollLeft") == pytest.approx(left + 60, abs=1)
    desk["holder"].send_keys(Keys.ARROW_RIGHT)  # moves the sheet, not to the next one
    desk.until(lambda: seen("holder.scrollLeft") > left + 60)
    assert desk["position"].text == "1 of 4"
    desk["fit"].click()
    assert desk["picture"].size["width"] == fits


@pytest.mark.parametrize("size", [(768, 1024), (1024, 768), (820, 1180)])
def test_a_tablet_shows_the_sheet_and_the_questions(
    browser: webdriver.Chrome, site: str, size: tuple[int, int]
) -> None:
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        desk = Desk(browser, site).begin(f"gil-{width}").at(1)
        page = "document.documentElement"
        assert browser.execute_script(f"return [{page}.scrollWidth, {page}.scrollHeight]") == [width, height]
        assert desk["picture"].size["width"] > 0.65 * width
        boxes = browser.execute_script(
            "return [...document.querySelectorAll('button, input')].filter(e => e.checkVisibility())"
            ".map(e => e.getBoundingClientRect()).map(b => [b.width, b.height, b.right, b.bottom])"
        )
        assert len(boxes) == 13  # leave, three sizes, six answers, remark, back, next
        for box_width, box_height, right, bottom in boxes:
            assert min(box_width, box_height) >= FINGER_PX
            assert (right <= width, bottom <= height) == (True, True)
        for button in (*desk.all("#questions button")[::5], desk["next"]):
            button.click()
        desk.at(2)["back"].click()
        assert desk.at(1).pressed() == ["Yes", "Cannot say"]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_room_without_key_asks_for_its_token_and_ends_without_score(
    browser: webdriver.Chrome, keyless_site: str
) -> None:
    desk = Desk(browser, keyless_site)
    desk.until(lambda: desk["token"].is_displayed())
    desk["token"].send_keys("a-token-for-tests", Keys.ENTER)
    desk.begin("hal").at(1)
    for number in range(1, 5):
        desk.at(number).press("y", "s", Keys.ENTER)
    desk.until(lambda: "ecgforge turing score kit-key.json answers/hal.csv" in desk["score"].text)
    assert desk["end-title"].text == "All sheets are answered"
    assert not desk["finish"].is_displayed()
    desk.all("#all-sheets button")[2].click()  # nothing is closed
    desk.at(3).press("n")
    desk.until(lambda: desk["saved"].text == "Saved.")


def test_without_a_kit_the_page_says_how_to_open_one(browser: webdriver.Chrome, generator: Generator) -> None:
    service = served(make_app(generator))
    desk = Desk(browser, next(service))
    desk.until(desk["shut"].is_displayed)
    assert "ecgforge serve --kit kit" in desk["shut"].text
    assert not desk["enter"].is_displayed()
    assert list(service) == []


def test_nothing_came_from_elsewhere_and_nothing_failed(browser: webdriver.Chrome, site: str) -> None:
    desk = Desk(browser, site).begin("ida").at(1)
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert loaded and all(name.startswith((site, "blob:")) for name in loaded)
    assert not [name for name in loaded if "result" in name]
    provoked = ("401 (Unauthorized)", "404 (Not Found)", "503 (Service Unavailable)")
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert [message for message in messages if not any(words in message for words in provoked)] == []
    assert desk["who"].text == "ida"
