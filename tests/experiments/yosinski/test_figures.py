import itertools
import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from raytransfer.analysis import readings, treatment_means, yosinski2014
from raytransfer.experiments.yosinski.figures import curves_figure, lines_figure, points_figure, readings_figure
from raytransfer.experiments.yosinski.images import images_figure
from raytransfer.specs.treatments import TREATMENTS
from tests.helpers import legend, overlaps, titles

COPIES = ("BnB", "BnB+", "AnB", "AnB+", "RnB")
COLORS = {name: to_hex(TREATMENTS[name].color) for name in ("baseB", "baseB-2x", *COPIES)}


def grid(halves: tuple[str, ...] = ("random", "animals/vehicles"), seeds: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    cells = [("baseB", 0), ("baseB-2x", 0), *itertools.product(COPIES, (1, 2, 3))]
    rows = [
        (treatment, kind, f"{kind}0", direction, seed, n, rng.uniform(0.1, 0.2) if treatment == "RnB" else 0.7)
        for kind, direction, seed in itertools.product(halves, ("A->B", "B->A"), range(seeds))
        for treatment, n in cells
    ]
    columns = ["treatment", "halves", "split", "direction", "seed", "n_layers", "top1"]
    return pd.DataFrame(rows, columns=columns)


def test_every_run_is_one_point_at_its_percent():
    figure = points_figure(grid(), title="t")
    random, pair, below = figure.axes
    assert titles(figure) == ["random halves", "animals/vehicles", "baseB, AnB and RnB on one scale"]
    # Four units: two bases and 4 treatments at 3 n above; a base and AnB and RnB at 3 n of both halves below.
    assert [sum(len(line.get_xdata()) for line in axes.lines) for axes in (random, pair, below)] == [56, 56, 56]
    heights = np.concatenate([line.get_ydata() for line in random.lines])
    assert heights == pytest.approx(70)
    assert all(line.get_markerfacecolor() == "none" for line in pair.lines)


def varied(**given) -> pd.DataFrame:
    """A grid in which no two runs are alike, of three splits where halves are random."""
    runs = grid(**given)
    random = runs[runs["halves"] == "random"]
    runs = pd.concat([runs, random.assign(split="random1"), random.assign(split="random2")], ignore_index=True)
    return runs.assign(top1=np.random.default_rng(7).uniform(0.3, 0.6, len(runs)))


def markers(axes) -> dict[str, list[tuple[float, float]]]:
    """The points of every colour, from left to right."""
    found = {}
    for line in axes.lines:
        if line.get_marker() not in ("None", ""):
            found.setdefault(to_hex(line.get_markeredgecolor()), []).extend(zip(*line.get_data(), strict=True))
    return {color: sorted(places) for color, places in found.items()}


def whiskers(axes) -> dict[str, list[tuple[float, float, float]]]:
    """The place and ends of the whiskers of every colour."""
    found = {}
    for lines in axes.collections:
        for (x, low), (_, high) in lines.get_segments():
            found.setdefault(to_hex(lines.get_color()[0]), []).append((x, low, high))
    return {color: sorted(ends) for color, ends in found.items()}


def test_every_point_is_the_run_of_its_colour_and_n_and_treatments_stand_in_the_legend_s_order():
    runs = varied()
    figure = points_figure(runs, title="t")
    for axes, halves in zip(figure.axes[:2], ("random", "animals/vehicles"), strict=True):
        drawn = {color: [(round(x), y) for x, y in places] for color, places in markers(axes).items()}
        for treatment in set(COLORS) - {"RnB"}:
            rows = runs[(runs["treatment"] == treatment) & (runs["halves"] == halves)]
            expected = sorted(zip(rows["n_layers"], 100 * rows["top1"], strict=True))
            np.testing.assert_allclose(sorted(drawn.pop(COLORS[treatment])), expected)
        assert drawn == {}
    first = next(line for line in figure.axes[0].lines if to_hex(line.get_markeredgecolor()) == COLORS["AnB"])
    series, *told = json.loads(first.get_gid())
    assert (series, len(told)) == ("AnB", 36)
    assert [float(text.partition(": ")[2].partition("%")[0]) for text in told] == pytest.approx(
        first.get_ydata().tolist(), abs=0.0501
    )
    assert told[0].startswith("AnB, n = 1: ")
    assert told[0].endswith("% (random0, A->B, seed 0)")
    for axes in figure.axes:
        at_two = {x: color for color, places in markers(axes).items() for x, _ in places if round(x) == 2}
        shown = [name for name in COPIES if COLORS[name] in at_two.values()]
        assert [at_two[x] for x in sorted(at_two)] == [COLORS[name] for name in shown]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == (
        "number of copied layers n",
        "top-1 accuracy on the target, %",
    )


def test_every_mean_has_its_whisker_at_its_place_and_treatments_stand_in_the_legend_s_order():
    means = treatment_means(varied(halves=("random",)))
    figure = lines_figure(means, title="t")
    (axes,) = [axes for axes in figure.axes if axes.get_title("left") == "random halves"]
    drawn, ends = markers(axes), whiskers(axes)
    assert list(drawn) == [COLORS[name] for name in ("AnB", "AnB+", "BnB", "BnB+")]
    for name in COPIES[:-1]:
        rows = means[means["treatment"] == name]
        np.testing.assert_allclose([y for _, y in drawn[COLORS[name]]], 100 * rows["mean"])
        assert [round(x) for x, _ in drawn[COLORS[name]]] == [1, 2, 3]
        expected = zip(
            (x for x, _ in drawn[COLORS[name]]),
            100 * rows["low"].clip(0, 1),
            100 * rows["high"].clip(0, 1),
            strict=True,
        )
        np.testing.assert_allclose(ends[COLORS[name]], list(expected))
    assert sorted(COPIES[:-1], key=lambda name: drawn[COLORS[name]][0]) == list(COPIES[:-1])
    bases = {to_hex(line.get_color()): line.get_ydata() for line in axes.lines if line.get_marker() == "None"}
    for name in ("baseB", "baseB-2x"):
        (mean,) = means.loc[means["treatment"] == name, "mean"]
        assert bases[COLORS[name]] == pytest.approx([100 * mean] * 2)
    assert (figure.get_supxlabel(), figure.get_supylabel()) == (
        "number of copied layers n",
        "top-1 accuracy on the target, %",
    )


def test_every_reading_has_its_whisker_at_its_place_and_the_look_of_its_halves():
    found = readings(varied(seeds=3))
    figure = readings_figure(found, title="t")
    halves = ["random", "animals/vehicles"]
    looks = [(to_hex(handle.get_color()), handle.get_marker()) for handle in figure.legends[0].legend_handles[:2]]
    assert legend(figure) == ["random halves", "animals/vehicles", "whiskers:\n95% intervals"]
    assert [handle.get_markerfacecolor() for handle in figure.legends[0].legend_handles[1:2]] == ["none"]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == (
        "number of copied layers n",
        "difference of top-1 accuracy, percentage points",
    )
    headings = dict(title.split("\n") for title in titles(figure))
    assert headings["specificity drop"] == "BnB − AnB"
    assert headings["distance effect"] == "(baseB − AnB) less random's"
    for axes, reading in zip(figure.axes, headings, strict=True):
        drawn, ends = markers(axes), whiskers(axes)
        for of_halves, (color, _), side in zip(halves, looks, (-1, 1), strict=True):
            rows = found[(found["reading"] == reading) & (found["halves"] == of_halves)]
            if rows.empty:
                assert color not in drawn
                continue
            x, y = zip(*drawn[color], strict=True)
            np.testing.assert_allclose(x, rows["n_layers"] + 0.07 * side)
            np.testing.assert_allclose(y, 100 * rows["estimate"])
            expected = [(a, 100 * b, 100 * c) for a, b, c in zip(x, rows["low"], rows["high"], strict=True)]
            np.testing.assert_allclose(ends[color], expected)


def test_of_many_halves_no_two_look_alike():
    runs = varied(halves=("random", *"abcdef"), seeds=3)
    handles = readings_figure(readings(runs), title="t").legends[0].legend_handles[:7]
    assert len({(handle.get_color(), handle.get_marker()) for handle in handles}) == 7
    handles = lines_figure(treatment_means(runs), title="t").legends[0].legend_handles[-8:-1]
    assert len({str(handle._unscaled_dash_pattern) for handle in handles}) == 7


def test_of_many_n_the_readings_stand_beside_their_numbers_of_images():
    found = readings(grid(("random",), seeds=3)).query("reading == 'recovery'").iloc[:1]
    rows = pd.concat([found.assign(n_layers=n, train_per_class=number) for n in range(1, 41) for number in (10, 20)])
    (axes,) = images_figure(rows, title="t").axes
    lines = [line.get_xdata() for line in axes.lines if line.get_marker() != "None"]
    assert len(lines) == 40
    assert np.diff(lines, axis=0).min() > 0
    np.testing.assert_allclose(lines, np.broadcast_to([10, 20], (40, 2)), rtol=0.25)


def test_treatments_at_one_n_stand_apart_and_bases_at_zero():
    figure = points_figure(grid(), title="t")
    places = [set(np.round(line.get_xdata(), 6)) for line in figure.axes[0].lines]
    assert all(not a & b for a, b in itertools.combinations(places, 2))
    assert [max(np.abs(list(p))) for p in places if len(p) == 1] == pytest.approx([0.07, 0.07])


@pytest.mark.parametrize(("draw", "told"), [(points_figure, [0, 1, 4, 7]), (lines_figure, [1, 4, 7])])
def test_the_axis_tells_the_n_that_ran(draw, told):
    runs = grid().replace({"n_layers": {2: 4, 3: 7}})
    for axes in draw(runs if draw is points_figure else treatment_means(runs), title="t").axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == told


def test_lines_join_the_means_with_whiskers_and_the_base_as_a_band():
    means = treatment_means(yosinski2014(), "top1_best10")
    figure = lines_figure(means, title="t")
    zoom, below = figure.axes
    transfer = next(line for line in zoom.lines if to_hex(line.get_color()) == "#b2182b")
    assert transfer.get_ydata() == pytest.approx([62.82, 62.39, 61.89, 59.98, 57.80, 58.06, 54.25], abs=0.0051)
    assert [line.get_ydata()[0] for line in zoom.lines if to_hex(line.get_color()) == "#000000"] == pytest.approx(
        [62.51], abs=0.0051
    )
    whiskers = [len(collection.get_segments()) for collection in zoom.collections]
    assert sorted(whiskers) == [0, 0, 7, 7]  # fine-tuned runs are one or two networks at each n
    (band,) = zoom.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((62.35, 62.67), abs=0.0051)
    low, high = zoom.get_ylim()
    assert low > 50
    assert high < 69
    assert below.get_ylim()[0] < 1


def test_dissimilar_halves_are_dashed_and_without_whiskers():
    figure = lines_figure(treatment_means(grid()), title="t")
    random, pair, _ = figure.axes
    assert {line.get_linestyle() for line in random.lines} == {"-"}
    assert {line.get_linestyle() for line in pair.lines} == {"--"}
    assert not any(len(collection.get_segments()) for collection in pair.collections)


def test_one_scale_is_enough_for_copied_layers_on_random_halves():
    results = grid(("random",))
    results = results[results["treatment"] != "RnB"]
    figure = points_figure(results, title="t")
    assert titles(figure) == ["random halves"]
    assert legend(figure) == ["baseB", "baseB-2x", "BnB", "BnB+", "AnB", "AnB+"]


def test_the_legend_names_what_is_drawn_and_nothing_else():
    entries = legend(lines_figure(treatment_means(yosinski2014()), title="t"))
    assert entries == [
        *("baseB", "BnB", "BnB+", "AnB", "AnB+", "RnB"),
        *("random halves", "all", "natural/man-made"),
        "whiskers, band:\n95% intervals",
    ]
    assert legend(points_figure(yosinski2014(), title="t"))[-1] == "natural/man-made"


def test_one_unit_has_lines_without_whiskers():
    one = grid(("random",), seeds=1).query("direction == 'A->B'")
    figure = lines_figure(treatment_means(one), title="t")
    assert "whiskers" not in " ".join(legend(figure))
    assert not figure.axes[0].patches


@pytest.mark.parametrize("treatment", ["baseB", "baseB-2x", *COPIES])
@pytest.mark.parametrize("halves", [("random",), ("animals/vehicles",), ("random", "animals/vehicles")])
def test_what_a_sweep_has_so_far_can_be_drawn(treatment, halves):
    so_far = grid(halves).query(f"treatment == '{treatment}'")
    assert legend(points_figure(so_far, title="t"))[0] == treatment
    assert legend(lines_figure(treatment_means(so_far), title="t"))[0] == treatment


@pytest.mark.parametrize("results", [yosinski2014(), grid(), grid(("random",))], ids=["2014", "two halves", "random"])
def test_no_text_lies_on_another_or_leaves_the_page(results):
    words = {"title": "convnet8 on cifar10", "subtitle": "8 units = 2 splits x 2 directions x 2 seeds"}
    assert overlaps(points_figure(results, **words)) == []
    figure = lines_figure(treatment_means(results), **words)
    assert overlaps(figure) == []
    assert "number of copied layers n" in [t.get_text() for t in figure.findobj(Text)]


def test_nothing_to_draw_names_the_treatments():
    with pytest.raises(ValueError, match=r"nothing to draw: no row is of baseB, .*RnB"):
        points_figure(grid().iloc[:0], title="t")


def test_what_came_out_in_2014_is_a_line_behind_ours_at_the_n_that_ran():
    ours, published = readings(grid(("random",), seeds=3)), readings(yosinski2014(), metric="top1_best10")
    figure = readings_figure(ours, title="t", published=published)
    panel = next(axes for axes in figure.axes if axes.get_title("left").startswith("specificity drop"))
    (line,) = [line for line in panel.lines if line.get_linewidth() == 2]
    drop = published[(published["reading"] == "specificity drop") & published["n_layers"].isin([1, 2, 3])]
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata() == pytest.approx(100 * drop["estimate"].to_numpy())
    assert "2014, ILSVRC12" in legend(figure)
    assert "2014, ILSVRC12" not in legend(readings_figure(ours, title="t"))
    assert overlaps(figure) == []


def test_of_one_n_what_came_out_in_2014_is_a_dash():
    ours, published = readings(grid(("random",), seeds=3)), readings(yosinski2014(), metric="top1_best10")
    figure = readings_figure(ours[ours["n_layers"] == 2], title="t", published=published)
    lines = [line for axes in figure.axes for line in axes.lines if line.get_linewidth() == 2]
    assert {(line.get_marker(), len(line.get_xdata())) for line in lines} == {("_", 1)}


def test_the_panel_below_is_called_after_what_it_shows():
    for treatments, heading in ((["AnB"], "AnB"), (["AnB", "RnB"], "AnB and RnB on one scale")):
        rows = grid(("random",)).query(f"treatment in {treatments}")
        assert titles(points_figure(rows, title="t")) == [heading]
        assert titles(lines_figure(treatment_means(rows), title="t")) == [heading]


def test_a_learning_curve_is_the_mean_of_the_runs_on_random_halves():
    runs = grid()
    steps = pd.DataFrame({"step": [10, 20, 30], "gain": [-0.2, -0.1, 0.0]})
    rng = np.random.default_rng(1)
    curves = runs.merge(steps, how="cross")
    curves["top1"] += curves["gain"] + rng.uniform(0, 0.05, len(curves))
    figure = curves_figure(curves, title="t")
    assert titles(figure) == list(COPIES)
    panel = figure.axes[COPIES.index("AnB")]
    base, *lines = panel.lines
    assert [line.get_xdata().tolist() for line in panel.lines] == [[10, 20, 30]] * 4
    of_random = curves[curves["halves"] == "random"].groupby(["treatment", "n_layers", "step"])["top1"].mean()
    assert base.get_ydata() == pytest.approx(100 * of_random["baseB"][0].to_numpy())
    for n, line in enumerate(lines, 1):
        assert line.get_ydata() == pytest.approx(100 * of_random["AnB"][n].to_numpy())
    assert legend(figure) == ["baseB", "n = 1", "n = 2", "n = 3"]
    assert overlaps(figure) == []
