"""The page in a real browser: nothing from a network, no error, no overflow; it sorts, and changes its theme.

HEADSTART_PAGE names a page to open instead of one of synthetic runs, such as data/reports/demo/index.html.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_pages import SCHEMES, sources_of, write_store
from small_runs import write_run

from pipeline.report.page.render import publish_page
from pipeline.report.table import PAGE
from pipeline.runs.result import read_run
from pipeline.storage.fingerprint import key_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (390, 1280)  # pixels: a phone, a desk
CONTRAST = 4.5  # WCAG 2, AA, for text


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    if "HEADSTART_PAGE" in os.environ:
        return Path(os.environ["HEADSTART_PAGE"]).resolve()
    folder = tmp_path_factory.mktemp("page")
    prepared = {"dataset": {"name": "cifar10"}}
    runs = [
        read_run(write_run(folder / str(place), scheme=name, fingerprint=prepared, **more))
        for place, (name, more) in enumerate(SCHEMES.items())
    ]
    test = runs[0].split("test")
    store = write_store(folder / "set", test.index, test.labels, list(test.class_names))
    publish_page(folder / PAGE, sources_of(runs, stores={key_of(prepared["dataset"]): store}))
    return folder / PAGE


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, page_file):
    """Return a function that opens the page; what went wrong in it is collected and must be nothing."""
    faults, contexts = [], []

    def open_page(width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda said: faults.append(f"console: {said.text}"))
        tab.on("pageerror", lambda error: faults.append(f"error: {error}"))
        tab.on("request", lambda asked: faults.append(asked.url) if _is_outside(asked.url) else None)
        tab.goto(page_file.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def _is_outside(url: str) -> bool:
    return not url.startswith(("file:", "data:"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_page_fits_its_window(opened, width, scheme):
    tab = opened(width, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    outside = tab.evaluate(
        """width => [...document.querySelectorAll('body *')].filter(one => {
            if (one.closest('.scroll, pre, .hidden, .skip, details:not([open])')) return false;
            const box = one.getBoundingClientRect();
            return box.width > 0 && box.right > width + 1;
        }).map(one => one.outerHTML.slice(0, 100))""",
        width,
    )
    assert outside == []


def test_heading_sorts_the_table_by_mouse_and_keyboard(opened):
    tab = opened()
    column = tab.locator(".sortable thead th").filter(has_text="total time")
    place = tab.evaluate("one => one.cellIndex", column.element_handle())

    def seconds():
        return tab.eval_on_selector_all(
            ".sortable tbody tr", f"rows => rows.map(row => Number(row.children[{place}].dataset.value))"
        )

    before = seconds()
    column.get_by_role("button").click()
    assert seconds() == sorted(before, reverse=True) != sorted(before)
    assert column.get_attribute("aria-sort") == "descending"
    column.get_by_role("button").press("Enter")
    assert seconds() == sorted(before)
    assert column.get_attribute("aria-sort") == "ascending"
    assert tab.locator(".sortable th[aria-sort]").count() == 1


def test_button_switches_the_theme_and_the_page_remembers_it(opened):
    tab = opened(scheme="light")

    def paper():
        return tab.evaluate("getComputedStyle(document.body).backgroundColor")

    light = paper()
    tab.get_by_role("button", name="Switch to the dark theme").click()
    dark = paper()
    assert dark != light
    tab.reload()
    assert paper() == dark
    tab.get_by_role("button", name="Switch to the light theme").click()
    assert paper() == light


def test_text_stands_out_from_its_ground_in_both_themes(opened):
    for scheme in ("light", "dark"):
        tab = opened(scheme=scheme)
        for ink in ("ink", "muted", "link", "good"):
            for ground in ("paper", "card"):
                pair = tab.evaluate(
                    """names => names.map(name => {
                        const one = document.body.appendChild(document.createElement('i'));
                        one.style.color = `var(--${name})`;
                        const found = getComputedStyle(one).color;
                        one.remove();
                        return found.match(/[\\d.]+/g).slice(0, 3).map(Number);
                    })""",
                    [ink, ground],
                )
                assert _contrast(*pair) >= CONTRAST, (scheme, ink, ground)


def test_charts_are_drawn_in_the_ink_of_the_theme(opened):
    colours = {
        scheme: opened(scheme=scheme).evaluate("getComputedStyle(document.querySelector('svg text')).fill")
        for scheme in ("light", "dark")
    }
    assert colours["light"] != colours["dark"]


def test_paper_shows_what_is_folded_away(opened):
    tab = opened(scheme="dark")
    assert tab.locator("details:not([open])").count() > 0
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details:not([open])").count() > 0


def test_everything_that_scrolls_can_be_reached_by_keyboard_and_has_a_name(opened):
    tab = opened(390)
    bare = tab.evaluate(
        """() => [...document.querySelectorAll('.scroll')].filter(one =>
            one.tabIndex !== 0 || !one.getAttribute('aria-label')).length"""
    )
    assert bare == 0
    assert tab.evaluate("[...document.images].every(one => one.alt && one.naturalWidth > 0)")


def _contrast(one: list[float], other: list[float]) -> float:
    """Return the contrast of two sRGB colours in 0..255 (WCAG 2)."""
    lights = []
    for colour in (one, other):
        c = np.array(colour) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(lights) + 0.05) / (min(lights) + 0.05)
