"""The page in a real browser: no network requests, errors or overflow; sorting and the theme button work.

HEADSTART_PAGE names an existing page to test instead, such as data/reports/demo/index.html.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_pages import SCHEMES, sources_of, write_store
from small_runs import write_run

from pipeline.report.page.content import render_page
from pipeline.report.table import COMPARISON_PAGE
from pipeline.runs.result import read_run
from pipeline.storage.fingerprint import key_of
from pipeline.storage.publishing import publish_text

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
        read_run(write_run(folder / str(number), scheme=name, fingerprint=prepared, **more))
        for number, (name, more) in enumerate(SCHEMES.items())
    ]
    test = runs[0].split("test")
    store = write_store(folder / "set", test.index, test.labels, list(test.class_names))
    page = render_page(sources_of(runs, stores={key_of(prepared["dataset"]): store}))
    publish_text(folder / COMPARISON_PAGE, page)
    return folder / COMPARISON_PAGE


@pytest.fixture(scope="module")
def browser():
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, page_file):
    """Return a function that opens the page; errors and outside requests are collected and fail the test."""
    problems, contexts = [], []

    def open_page(width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: problems.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: problems.append(f"error: {error}"))
        tab.on("request", lambda request: problems.append(request.url) if _is_outside(request.url) else None)
        tab.goto(page_file.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


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


def test_no_column_is_cut_off_on_a_desk(opened):
    cut = opened(1280).evaluate(
        """() => [...document.querySelectorAll('.scroll')]
            .filter(one => one.scrollWidth > one.clientWidth + 1)
            .map(one => one.getAttribute('aria-label') + ': ' + one.scrollWidth + ' > ' + one.clientWidth)"""
    )
    assert cut == []


def test_charts_fit_a_phone_and_what_scrolls_there_has_a_shadow(opened):
    tab = opened(390)
    charts = tab.evaluate(
        """() => [...document.querySelectorAll('svg')].map(one => one.getBoundingClientRect())
            .filter(box => box.width > 0).map(box => [box.left, box.right])"""
    )
    assert charts and all(left >= -1 and right <= 391 for left, right in charts)
    shadows = tab.evaluate(
        """() => [...document.querySelectorAll('.scroll')]
            .filter(one => one.scrollWidth > one.clientWidth + 1)
            .map(one => getComputedStyle(one).backgroundImage.split('linear-gradient').length - 1)"""
    )
    assert shadows and set(shadows) == {4}  # two shadows and their covers


@pytest.mark.parametrize("width", WIDTHS)
def test_every_text_of_a_chart_is_inside_of_it(opened, width):
    outside = opened(width).evaluate(
        """() => [...document.querySelectorAll('svg text')].filter(one => {
            const text = one.getBoundingClientRect();
            const box = one.ownerSVGElement.getBoundingClientRect();
            return text.width > 0 && (text.left < box.left - 2 || text.right > box.right + 2
                || text.top < box.top - 2 || text.bottom > box.bottom + 2);
        }).map(one => one.textContent)"""
    )
    assert outside == []


def test_a_caption_stands_once(opened):
    captions = opened().evaluate(
        "() => [...document.querySelectorAll('.caption')].map(one => one.textContent.trim())"
    )
    assert len(captions) == len(set(captions))


def test_a_heading_sorts_the_table_by_mouse_and_keyboard(opened):
    tab = opened()
    column = tab.locator(".sortable thead th").filter(has_text="total time")
    position = tab.evaluate("one => one.cellIndex", column.element_handle())

    def seconds():
        return tab.eval_on_selector_all(
            ".sortable >> nth=0 >> tbody tr",
            f"rows => rows.map(row => Number(row.children[{position}].dataset.value))",
        )

    before = seconds()
    column.get_by_role("button").click()
    assert seconds() == sorted(before, reverse=True) != sorted(before)
    assert column.get_attribute("aria-sort") == "descending"
    column.get_by_role("button").press("Enter")
    assert seconds() == sorted(before)
    assert column.get_attribute("aria-sort") == "ascending"
    assert tab.locator(".sortable >> nth=0 >> th[aria-sort]").count() == 1


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


def test_text_has_enough_contrast_in_both_themes(opened):
    for scheme in ("light", "dark"):
        tab = opened(scheme=scheme)
        for ink in ("ink", "muted", "link", "good"):
            for background in ("paper", "card"):
                pair = tab.evaluate(
                    """names => names.map(name => {
                        const one = document.body.appendChild(document.createElement('i'));
                        one.style.color = `var(--${name})`;
                        const color = getComputedStyle(one).color;
                        one.remove();
                        return color.match(/[\\d.]+/g).slice(0, 3).map(Number);
                    })""",
                    [ink, background],
                )
                assert _contrast(*pair) >= CONTRAST, (scheme, ink, background)


def test_charts_use_the_text_color_of_the_theme(opened):
    colors = {
        scheme: opened(scheme=scheme).evaluate("getComputedStyle(document.querySelector('svg text')).fill")
        for scheme in ("light", "dark")
    }
    assert colors["light"] != colors["dark"]


def test_printing_opens_all_details(opened):
    tab = opened(scheme="dark")
    assert tab.locator("details:not([open])").count() > 0
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.locator("details:not([open])").count() == 0
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.locator("details:not([open])").count() > 0


def test_scrolling_regions_have_a_name_and_keyboard_focus(opened):
    tab = opened(390)
    inaccessible = tab.evaluate(
        """() => [...document.querySelectorAll('.scroll')].filter(one =>
            one.tabIndex !== 0 || !one.getAttribute('aria-label')).length"""
    )
    assert inaccessible == 0
    assert tab.evaluate("[...document.images].every(one => one.alt && one.naturalWidth > 0)")


def _contrast(one: list[float], other: list[float]) -> float:
    """Return the contrast of two sRGB colors in 0..255 (WCAG 2)."""
    luminances = []
    for color in (one, other):
        c = np.array(color) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        luminances.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)
