"""The page renders the stored results, in one self-contained file."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from small_pages import SCHEMES, sources_of, write_store
from small_runs import write_run

from pipeline.datasets.store import ImageStore
from pipeline.errors import DamagedFile
from pipeline.report.drawing import new_figure
from pipeline.report.page.charts import svg
from pipeline.report.page.content import content, render_page
from pipeline.report.page.mistakes import examples
from pipeline.results.comparison import headline
from pipeline.results.scores import calibration_error, reliability
from pipeline.runs.result import Predictions, read_run
from pipeline.storage.fingerprint import key_of


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        read_run(write_run(folder / str(number), scheme=name, **more))
        for number, (name, more) in enumerate(SCHEMES.items())
    ]


@pytest.fixture(scope="module")
def text(runs):
    """The rendered page of those runs."""
    return render_page(sources_of(runs))


def test_page_opens_with_what_the_cached_features_cost_and_reach(runs, text):
    line = headline(sources_of(runs).comparison)
    assert re.match(
        r"Features were extracted once, in 12\.0 s\. Each head then trains in 1\.0 s; tuned-head:linear · "
        r"imagenet · 32 px reaches \d\d\.\d % on CIFAR-10\. fine-tune:whole · imagenet · 32 px reaches "
        r"\d\d\.\d % in ",
        line,
    )
    first = text.split('class="headline">')[1]
    assert first.replace("\u00a0", " ").startswith(line.replace("'", "&#39;"))


def test_page_refers_to_nothing_outside_itself(text):
    targets = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert targets and all(target.startswith(("#", "data:")) for target in targets)
    assert not re.search(r"url\((?!#)|@import|<link(?! rel=\"icon\" href=\"data:)", text)


def test_same_results_give_the_same_text(runs, text):
    assert render_page(sources_of(runs)) == text


def test_ids_are_unique_and_every_reference_has_a_target(text):
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    references = re.findall(r'url\(#([^)]*)\)|href="#([^"]+)"|aria-labelledby="([^"]*)"', text)
    assert {name for names in references for name in names if name} <= set(ids)


def test_every_chart_and_table_has_a_text_alternative(text):
    charts = re.findall(r"<svg[^>]*>", text)
    assert charts and all('role="img"' in chart and "aria-labelledby" in chart for chart in charts)
    assert text.count("<svg") == text.count("<title id=")
    assert text.count("<table") == text.count("<caption>")
    assert "Test accuracy over total time of 5 runs; the best is fine-tune:whole" in text


def test_names_of_classes_and_schemes_cannot_inject_markup(make_run):
    evil = "<script>alert(1)</script>"
    run = make_run("evil", scheme=f"head:{evil}", class_names=[evil, "b\"'>", "{{ 7 * 7 }}"])
    text = render_page(sources_of([run]))
    assert evil not in text and "b\"'>" not in text
    assert "&lt;script&gt;alert(1)" in text and "{{ 7 * 7 }}" in text


def test_charts_use_the_colors_of_the_page():
    def draw():
        figure, axes = new_figure("a caption")
        axes.plot([0, 1], [0, 1], color="#000000")
        axes.set_title("a title")
        return figure

    text = svg("chart", "alternative", draw)
    assert "var(--ink)" in text and "var(--grid)" in text
    assert not re.search(r"#000000|#ffffff", text)
    assert "a title" not in text and "a caption" not in text
    assert "<title" in text and "alternative" in text


def test_break_even_is_computed_from_the_stored_rates(runs):
    text = content(sources_of(runs))["break_even"]["text"]
    # head:linear took 12 epochs in 1.2 s. At the rate of extraction, 2,000 images take 1.5 s, 1,600 1.2 s.
    assert "extracting the features took 1.5 s, once" in text and "takes 1.2 s" in text
    assert f"would take {12 * 1.2 + 1.2:.1f} s" in text
    assert "pays off in epoch 2 of the first head" in text


def test_without_a_head_on_cached_features_there_is_no_break_even(make_run):
    run = make_run("alone", scheme="from-scratch:fast", weights="none")
    assert content(sources_of([run]))["break_even"] is None
    assert 'id="break-even"' not in render_page(sources_of([run]))


def test_page_supports_a_single_run_fitted_in_one_step_without_val(make_run):
    text = render_page(sources_of([make_run("one", stages={}, n_val=0, epochs=0)]))
    assert "fitted in one step" in text and "there are no differences to test" in text


def test_many_classes_are_reduced_to_the_hardest_and_the_most_confused_pairs(make_run):
    names = [f"class {number}" for number in range(30)]
    values = content(sources_of([make_run("many", class_names=names, n_test=900)]))
    assert len(values["classes"]["names"]) == 20 and values["classes"]["left_out"] == 10
    (confusion,) = values["confusions"]
    counts = [count for *_, count in confusion["worst"]]
    assert not confusion["rows"] and counts == sorted(counts, reverse=True) and len(counts) == 15


def test_confusion_matrices_add_up_over_seeds(make_run):
    runs = [make_run(f"seed{seed}", seed=seed) for seed in (0, 1)]
    (confusion,) = content(sources_of(runs))["confusions"]
    assert sum(count for row in confusion["rows"] for count, _ in row["cells"]) == 600


def test_reliability_has_the_bins_of_the_calibration_error(make_run):
    test = make_run("one").split("test")
    bins = reliability(test)
    assert bins["images"].sum() == len(test) and (bins["images"] > 0).all()
    gaps = bins["images"] / len(test) * (bins["accuracy"] - bins["confidence"]).abs()
    assert gaps.sum() == pytest.approx(calibration_error(test.probabilities, test.labels))


def with_predictions(run, predicted):
    """Return run with these predicted classes on test, each with probability 1."""
    test = run.split("test")
    table = np.eye(len(test.class_names), dtype=np.float32)[np.array(predicted)]
    fields = {"index": test.index[: len(predicted)], "names": test.names[: len(predicted)]}
    rows = Predictions(
        **fields, labels=np.zeros(len(predicted), int), probabilities=table, class_names=test.class_names
    )
    return dataclasses.replace(run, predictions={**run.predictions, "test": rows})


def test_examples_are_the_images_on_which_schemes_disagree(make_run, tmp_path):
    # by image: all right, all wrong in the same way, only the best right, three different classes
    predicted = ([0, 1, 0, 0], [0, 1, 2, 1], [0, 1, 2, 2])
    runs = [with_predictions(make_run(f"run{n}", scheme=f"head:{n}"), one) for n, one in enumerate(predicted)]
    index = runs[0].split("test").index
    folder = write_store(tmp_path / "set", index[::-1], np.zeros(4), list(runs[0].recipe["class_names"]))
    split, only_best, all_wrong = examples(runs, ImageStore(folder))
    names = [[card["name"] for card in group["cards"]] for group in (split, only_best, all_wrong)]
    file_names = list(runs[0].split("test").names)
    assert names == [[file_names[3], file_names[2]], [file_names[3], file_names[2]], [file_names[1]]]
    votes = [(vote["class"], vote["right"], vote["count"]) for vote in only_best["cards"][1]["votes"]]
    assert votes == [("bird", False, 2), ("airplane", True, 1)]
    assert only_best["title"] == "Only head:0 · imagenet · 32 px is right"


def test_images_of_another_data_set_raise_an_error(make_run, tmp_path):
    run = make_run("run")
    folder = write_store(tmp_path / "set", np.arange(4) + 10_000, np.zeros(4), ["a", "b"])
    with pytest.raises(DamagedFile, match="the runs were tested on other images"):
        examples([run], ImageStore(folder))


def test_page_explains_why_there_are_no_examples(make_run):
    prepared = {"name": "cifar10"}
    run = make_run("run", fingerprint={"dataset": prepared})
    assert "the prepared images are missing" in render_page(sources_of([run]))
    text = render_page(sources_of([run], stores={key_of({"name": "another"}): "nowhere"}))
    assert "the prepared images are missing" in text
