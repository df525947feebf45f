"""Files of a report, whatever its sweep is called."""

import io
import re
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from raytransfer.commands import sweeping
from raytransfer.report import Report
from raytransfer.report.files import _as_wide_as_text, pdf, png, write_files
from raytransfer.report.svg import inline_svg
from raytransfer.store import Store
from tests.helpers import asked

NAMES = ["$\\frac{$", "a$b", "$$", "a_b^c", "\\", "%", "n" * 240, "two words " * 24]


def drawn(name):
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([1, 10, 1000], [1e9, 1.1e9, 1.2e9], label=name)
    axes.set_xscale("log")
    axes.set_yticks([1e9], labels=[name])
    axes.set_title(name)
    figure.suptitle(f"{name}\nbelow")
    figure.legend(loc="outside right center")
    return figure


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_in_a_figure_is_no_formula_and_leaves_space(name):
    figure = drawn(name)
    content = png(figure)
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (1800, 600)
    assert figure.axes[0].get_position().width > 0.2
    if len(name) < 30:
        assert figure.axes[0].get_title() == figure.legends[0].get_texts()[0].get_text() == name


def test_powers_of_ten_stay_formulas():
    figure = drawn("$a$")
    png(figure)
    labels = figure.axes[0].get_xticklabels()
    assert any("mathdefault" in label.get_text() and label.get_parse_math() for label in labels)
    assert not figure.axes[0].get_yticklabels()[0].get_parse_math()


def test_pictures_need_no_tex_where_matplotlibrc_asks_for_it(monkeypatch):
    monkeypatch.setenv("PATH", "")  # where latex would be
    with rc_context({"text.usetex": True}):
        figure = drawn("50%")
        assert png(figure).startswith(b"\x89PNG")
        assert pdf(figure).startswith(b"%PDF")
        assert "50%" in inline_svg(figure, key="key", alternative="a picture")[0]


def test_a_pdf_is_as_wide_as_a_papers_text_and_leaves_the_figure_as_it_was():
    figure = drawn("accuracy")
    shown = figure.dpi
    before = png(figure)
    assert figure.dpi == shown
    with _as_wide_as_text(figure):
        ((line,), label) = figure.axes[0].lines, figure.axes[0].get_yticklabels()[0]
        assert figure.axes[0].title.get_fontsize() == pytest.approx(7)
        assert label.get_fontsize() == pytest.approx(6)  # not 10 * 7 / 12
        assert (line.get_linewidth(), line.get_markersize()) == pytest.approx((0.9, 3.6))
    width, height = map(float, re.search(rb"/MediaBox \[ ?0 0 ([0-9.]+) ([0-9.]+)", pdf(figure)).groups())
    assert (width, height) == pytest.approx((7 * 72, 7 * 72 / 3), abs=0.5)
    assert png(figure) == before
    svg, _ = inline_svg(figure, key="a", alternative="b")
    assert ("accuracy" in svg, "below" in svg) == (True, False)  # without its title
    small = Figure(figsize=(3, 2))
    assert b"/MediaBox [ 0 0 216 144 ]" in pdf(small)


@pytest.mark.parametrize("name", ["n" * 255, "é" * 120, "$x/y"], ids=["n", "é", "$"])
def test_a_long_name_is_cut_where_a_folder_is_named_after_it(tmp_path, name):
    store, plan = Store(str(tmp_path)), SimpleNamespace(data=name.replace("/", "-"), cells=[])
    folder = sweeping._folder(SimpleNamespace(script="grid"), plan)
    report = Report(frames={"rows": pd.DataFrame({"a": [1], "probe": [2]}, index=[7])}, figures={"one": drawn(name)})
    files = write_files(report, store, folder=folder, cells=[], asked=asked(config="a: 1\n"), places=[])
    assert list(files) == ["config.yaml", "rows.parquet", "one.png", "one.pdf", "report.html"]
    assert pq.read_table(files["rows.parquet"]).to_pylist() == [{"a": 1, "probe": 2}]


def test_a_folder_is_named_after_all_of_its_data():
    plan = SimpleNamespace(data="mnist, digits", cells=[])
    assert re.fullmatch("sweeps/grid-mnist-digits-[0-9a-f]{8}", sweeping._folder(SimpleNamespace(script="grid"), plan))


def test_letters_that_no_font_has_are_told_once(tmp_path, caplog):
    report = Report(frames={"rows": pd.DataFrame({"a": [1]})}, figures={"one": drawn("中文"), "two": drawn("文 b")})
    files = write_files(report, Store(str(tmp_path)), folder="sweep", cells=[], asked=asked(config=""), places=[])
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith("Pictures have boxes for 中 文, which no font")
    assert "中文" in (tmp_path / "sweep" / "report.html").read_text(encoding="utf-8")
    assert len(files) == 7
