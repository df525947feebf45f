import json
import math
import re
import shutil
import subprocess

import pandas as pd
import pytest
from rich.console import Group
from rich.table import Table
from rich.text import Text

from raytransfer.analysis import READINGS, boosts, readings, treatment_means
from raytransfer.experiments.yosinski.figures import lines_figure, points_figure, readings_figure
from raytransfer.experiments.yosinski.sentences import sentences
from raytransfer.experiments.yosinski.tables import boosts_table, means_table, readings_table
from raytransfer.report import Report
from raytransfer.report.curves import pickable
from raytransfer.report.grids import Grid, markdown, parts_of
from raytransfer.report.page import page
from raytransfer.store.schema import PLACES
from tests.analysis.test_transfer import grid
from tests.helpers import Page, asked

ODD = "<script>alert('1')</script> & \"two\" $x_1$ </svg>"
PROVENANCE = pd.DataFrame(
    {
        "id": ["a", "b"],
        "wall_time_s": [3600.0, 61.4],
        "device": ["CPU", "NVIDIA <H100>"],
        "finished_at": pd.to_datetime(["2026-01-02 10:00", "2026-01-03 10:00"], utc=True),
        "versions": [json.dumps({"torch": "2.11", "ray": "2.50"})] * 2,
        "commit": [None, None],
    }
)
NOWHERE = dict.fromkeys(column.name for column in PLACES)
CURVES = (
    [
        {"id": trial, **NOWHERE, "treatment": treatment, "halves": ODD, "n_layers": n, "seed": seed}
        for trial, treatment, n, seed in (
            ("b", "baseB", None, 0),
            ("c", "AnB", 10, 0),
            ("d", "AnB", 2, 0),
            ("d", "AnB+", 2, 0),
            ("e", "AnB", 2, 1),
            ("f", "AnB", 2, 2),
        )
    ],
    pd.DataFrame(
        {
            "id": ["d", "d", "x", "b", "b", "b", "c", "c", "f", "f"],
            "step": [10, 20, 1, 10, 20, 30, 10, 20, 20, 10],
            "top1": [0.25, 0.123456, 0.9, 0.5, 0.25, 0.75, 0.2, 0.3, 0.6, 0.4],
            "loss_nats": [1.0, 0.5, 9.0, 1.0, 0.5, 0.25, 1.0, 123456.0, 0.3, 0.9],
            "train_loss_nats": [math.nan, 0.5, 9.0, 1.0, 0.5, 0.25, 1.0, 0.1, 0.2, 0.8],
        }
    ),
)
COLUMNS = ["reading", "halves", "n_layers", "estimate", "low", "high", "units", "random_units", "method", "detectable"]


def report_of(results, **more):
    """The report of a grid, without its store."""
    means, paired, averaged = treatment_means(results), readings(results), boosts(results)
    figures = {
        "readings": readings_figure(paired, title="t", subtitle="s"),
        "lines": lines_figure(means, title="t", subtitle="s"),
        "points": points_figure(results, title="t", subtitle="s"),
    }
    return Report(
        frames={"results": results, "means": means, "readings": paired},
        main=("results", "Every trial"),
        tables=[means_table(means), readings_table(paired), boosts_table(averaged)],
        figures=figures,
        captions=dict.fromkeys(figures, ODD),
        answer=sentences(paired),
        **more,
    )


def written(report, curves=None, **given):
    return page(
        report, asked(**given), trials=3, provenance=PROVENANCE, reading="import pandas as pd", curves=curves or {}
    )


@pytest.fixture(scope="module")
def odd():
    """A page in which every name is odd: its text, and what it is of."""
    results = grid(seeds=3)
    results["halves"] = results["halves"].replace("animals/vehicles", ODD)
    results["split"] = results["split"].replace("animals/vehicles", ODD)
    report = report_of(results, notes=[ODD])
    texts = {"title": ODD, "question": ODD, "command": ODD, "config": ODD}
    return written(report, pickable(*CURVES), **texts, data=[ODD], changed=[(ODD, ODD, ODD)]), report


def test_the_page_is_whole_and_needs_no_network(odd):
    parsed = Page(odd[0])
    assert parsed.faults == []
    assert odd[0].count("<svg") == 3 + 1  # and the one in which trials are drawn
    for part in ("Answer", "Figures", "Tables", "What was asked and run", "The rows"):
        assert part in parsed.text


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ("<p id=a></p><p id=a></p>", "a is there twice"),
        ("<a href='#b'></a>", "b leads nowhere"),
        ("<table><tr><td>1</td></tr></table>", "a table has no headings"),
        ("<svg></svg>", "a picture has no words"),
        ("<img src='https://x.y/z.png'></img>", "img fetches https://x.y/z.png"),
        ("<style>@import 'x'</style>", "it fetches something"),
        ("<p><b></p>", "p is closed and was not open"),
    ],
)
def test_a_fault_of_a_page_is_seen(html, fault):
    assert fault in Page(html).faults


def test_names_are_shown_as_they_stand_whatever_they_hold(odd):
    html, report = odd
    assert html.count("<script") == html.count("</script>") == 2  # the page's own, and the values of curves
    text = " ".join(Page(html).text.split())
    assert text.count(" ".join(ODD.split())) > 10
    for sentence in report.answer:
        assert " ".join(sentence.split()) in text
    assert any(ODD in told for told in Page(html).titles)


def test_every_mark_tells_its_values(odd):
    html, report = odd
    means, titles = report.frames["means"], Page(html).titles
    row = means[(means["treatment"] == "AnB") & (means["halves"] == "random") & (means["n_layers"] == 2)].iloc[0]
    told = f"AnB, random halves, n = 2: {100 * row['mean']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]%, "
    assert titles.count(f"{told}{row['units']} units") == 2  # of both panels that show it
    drawn = {"AnB", "random halves", "baseB"}
    assert all(f'data-series="{name}"' in html for name in drawn)
    assert all(f'value="{name}" checked' in html for name in drawn)
    lines = html[html.index('id="figure2"') : html.index('id="figure3"')]
    assert re.findall('value="(.*?)" checked', lines) == [
        "baseB",
        "baseB-2x",
        "BnB",
        "BnB+",
        "AnB",
        "AnB+",
        "RnB",
    ]  # as in the legend
    assert "fieldset hidden" in html  # until a script runs
    assert len([title for title in titles if title.startswith("specificity drop, random halves")]) == len(
        report.frames["readings"].query("reading == 'specificity drop' and halves == 'random'")
    )


def test_whiskers_bands_and_joining_lines_leave_the_pointer_to_the_marks_below_them(odd):
    lines = odd[0][odd[0].index('id="figure2"') : odd[0].index('id="figure3"')]
    groups = re.findall(r'<g ([^>]*data-series="AnB\+?"[^>]*)>(.*?)(?=<g [^>]*data-series|</svg>)', lines, re.DOTALL)
    joined = [content for of, content in groups if "<title>" in content]
    alone = [of for of, content in groups if "<title>" not in content]
    assert joined
    assert alone
    assert all('pointer-events="none"' in of for of in alone)
    for content in joined:
        assert re.search(r'^\s*<path [^>]*pointer-events="none"', content)
        assert not re.search(r"<use [^>]*pointer-events", content)


def test_every_figure_is_one_stop_of_the_keyboard_and_what_keys_show_is_not_printed(odd):
    html = odd[0]
    assert html.count('<div class="scroll plot" role="region" tabindex="0"') == html.count("<svg")
    assert 'plot.addEventListener("keydown"' in html
    assert re.search(r"@media print {.*?nav, fieldset, \.told, \.ring, \.tip { display: none; }", html, re.DOTALL)


def test_facts_say_what_ran_and_how_long(odd):
    text = Page(odd[0]).text
    assert "2 of 3 finished" in text
    assert "1:01:01" in text
    assert "2026-01-02 to 2026-01-03" in text
    assert "NVIDIA <H100> (1 of 2 trials)" in text
    assert "torch 2.11, ray 2.50" in text
    assert "Commit" not in text  # of none is known


def test_facts_of_one_trial_are_in_the_singular_and_of_one_day():
    one = PROVENANCE.iloc[:1].assign(commit="0a1b2c")
    html = page(Report(notes=["Nothing."]), asked(), trials=1, provenance=one, reading="", curves={})
    facts = re.findall(r"<dt>([^<]*)</dt>\s*<dd>([^<]*)</dd>", html)
    assert [fact for fact in facts if fact[0] not in ("Versions", "Time")][-4:] == [
        ("Trials", "1 of 1 finished"),
        ("Finished", "2026-01-02"),
        ("Device", "CPU (1 of 1 trial)"),
        ("Commit", "0a1b2c (1 of 1 trial)"),
    ]


def test_the_page_says_what_its_frames_hold_and_its_notes_once(odd):
    html, report = odd
    text = " ".join(Page(html).text.split())
    assert "Every trial, in pandas:" in text
    assert text.count(f"{ODD} t; s.") == len(report.figures) == 3
    assert f"results ({len(report.frames['results'])} rows), means ({len(report.frames['means'])} rows)" in text
    noted = " ".join(Page(written(Report(notes=["A note."], answer=["An answer."]))).text.split())
    assert (noted.count("A note."), noted.count("An answer.")) == (1, 1)
    assert " ".join(Page(written(Report(notes=["A note."]))).text.split()).count("A note.") == 1


def test_nothing_finished_is_a_page_too():
    html = page(Report(notes=["Nothing."]), asked(), trials=3, provenance=PROVENANCE.iloc[:0], reading="", curves={})
    assert Page(html).faults == []
    assert "0 of 3 finished" in html
    assert "Nothing." in html


def test_failures_are_shown_with_their_traceback():
    failed = pd.DataFrame({"id": ["a"], "seed": [None], "traceback": ["Traceback:\n  <odd>\nValueError: no"]})
    html = written(Report(frames={"failures": failed}))
    assert Page(html).faults == []
    assert "<summary>ValueError: no</summary>" in html
    assert "&lt;odd&gt;" in html
    assert not re.search(r">\s*(None|nan|<NA>)\s*<", html)


def test_thousands_of_points_are_pixels():
    results = pd.concat(
        [grid(seeds=5).assign(split=f"random{i}", halves="random") for i in range(30)], ignore_index=True
    ).drop_duplicates(["treatment", "split", "direction", "seed", "n_layers"])
    many = results.assign(top1=results.index % 100 / 100)
    assert len(many) > 2000
    html = written(Report(figures={"points": points_figure(many, title="t")}))
    assert len(html) < 500_000
    assert "data:image/png;base64" in html
    assert Page(html).titles == []
    assert Page(html).faults == []


def of(reading, estimate, low, high, n=7, halves="random", units=8, random_units=None):
    return (reading, halves, n, estimate, low, high, units, random_units, "paired t", 0.036)


def said(*rows):
    return sentences(pd.DataFrame(rows, columns=COLUMNS).astype({"random_units": "Int64"}))


def test_a_reading_is_said_with_its_interval_and_units():
    assert said(of("specificity drop", 0.2338, 0.1811, 0.2864)) == [
        "At n = 7, frozen layers of the other task (AnB) lose 23.4 [18.1, 28.6] points against the network's own "
        "(BnB): 8 units."
    ]


def test_a_negative_reading_is_said_the_other_way_round():
    (drop,) = said(of("specificity drop", -0.02, -0.03, -0.01))
    assert "(AnB) gain 2.0 [1.0, 3.0] points over the network's own (BnB)" in drop
    (boost,) = said(of("generalisation boost", -0.02, -0.03, -0.01))
    assert "(AnB+), lose 2.0 [1.0, 3.0] points against training from scratch (baseB)" in boost


def test_what_is_not_significant_says_how_large_an_effect_would_have_been_seen():
    assert said(of("specificity drop", 0.004, -0.02, 0.029))[0].endswith(
        "lose 0.4 [−2.0, 2.9] points against the network's own (BnB): 8 units. Not significant; detectable in 4 "
        "studies of 5: 3.6 points."
    )


@pytest.mark.parametrize(
    ("units", "why"), [(1, "1 unit, too few for an interval"), (2, "2 units, too few"), (3, "3 units, all equal, so")]
)
def test_without_an_interval_nothing_is_concluded(units, why):
    (sentence,) = said(of("recovery", 0.5, float("nan"), float("nan"), units=units))
    assert "(BnB+), gain 50.0 points over" in sentence
    assert why in sentence
    assert sentence.endswith("nothing is concluded.")
    assert "[" not in sentence


def test_the_largest_n_is_said_first_then_how_far_all_go_then_other_halves():
    (sentence,) = said(
        of("co-adaptation drop", -0.02, -0.03, -0.01, n=2),
        of("co-adaptation drop", 0.05, 0.04, 0.06, n=7),
        of("co-adaptation drop", 0.01, 0.0, 0.02, n=5),
        of("co-adaptation drop", 0.07, 0.03, 0.11, halves="pets", units=4),
    )
    assert sentence == (
        "At n = 7 on random halves, the network's own layers, frozen (BnB), lose 5.0 [4.0, 6.0] points against "
        "training from scratch (baseB): 8 units. Over all n it goes from 2.0 gained at n = 2 to 5.0 lost at n = 7. "
        "At n = 7 on pets they lose 7.0 [3.0, 11.0] points: 4 units."
    )


def test_every_reading_has_words_and_the_distance_effect_both_groups():
    found = said(*(of(name, 0.1, 0.05, 0.15, random_units=None) for name in READINGS))
    assert len(found) == len(READINGS)
    (sentence,) = said(of("distance effect", 0.1, 0.05, 0.15, halves="pets", units=4, random_units=2))
    assert "4 units against 2 units of random" not in sentence
    assert "4 units against 2 of random halves" in sentence
    (sentence,) = said(of("distance effect", 0.1, float("nan"), float("nan"), halves="pets", units=4, random_units=2))
    assert "too few for an interval" in sentence


def test_under_three_units_a_reading_is_drawn_without_an_interval():
    two = grid(seeds=1).query("split == 'random0'")
    figure = readings_figure(readings(two), title="t")
    assert not any(len(lines.get_segments()) for axes in figure.axes for lines in axes.collections)
    assert "95%" not in " ".join(text.get_text() for text in figure.legends[0].get_texts())
    assert any(len(line.get_xdata()) for axes in figure.axes for line in axes.lines)


def test_a_readings_figure_has_a_panel_a_reading_in_points_and_a_whisker_an_interval():
    found = readings(grid(seeds=3))
    figure = readings_figure(found, title="t")
    panels = {axes.get_title("left").splitlines()[0]: axes for axes in figure.axes}
    assert list(panels) == [name for name in READINGS if name in set(found["reading"])]
    for name, axes in panels.items():
        rows = found[found["reading"] == name]
        drawn = [y for line in axes.lines if line.get_linestyle() == "None" for y in line.get_ydata()]
        assert sorted(drawn) == pytest.approx(sorted(100 * rows["estimate"]))
        whiskers = [segment for lines in axes.collections for segment in lines.get_segments()]
        assert len(whiskers) == rows["low"].notna().sum() > 0


def test_no_reading_is_nothing_to_draw():
    with pytest.raises(ValueError, match="nothing to draw: no row is of co-adaptation drop"):
        readings_figure(pd.DataFrame(columns=COLUMNS), title="t")


def table(*rows, headings=("a", "b")):
    made = Table(headings[0])
    made.add_column(headings[1], justify="right")
    for row in rows:
        made.add_row(*row)
    return made


def test_a_caption_is_no_wider_than_the_screen_where_its_table_is():
    html = page(Report(notes=["Nothing."]), asked(), trials=3, provenance=PROVENANCE.iloc[:0], reading="", curves={})
    assert re.search(r"\ncaption {[^}]*max-width: calc\(100vw", html)


def test_a_long_name_of_a_series_breaks_and_is_no_wider_than_the_screen():
    html = page(Report(notes=["Nothing."]), asked(), trials=3, provenance=PROVENANCE.iloc[:0], reading="", curves={})
    assert "\nlabel { overflow-wrap: anywhere; max-width: 100%; }" in html


def test_a_text_right_before_a_table_is_its_caption_and_others_stand_alone():
    parts = parts_of([Group(Text("one"), table(("x", Text("1"))), table(("y", "2")), Text("a\nnote")), Text("end")])
    assert parts_of([Group("by itself", "two", table(("x", "1")))])[0] == "by itself"
    captions = [part.caption if isinstance(part, Grid) else part for part in parts]
    assert captions == ["one", "one", "a note", "end"]
    assert parts[0] == Grid(caption="one", columns=["a", "b"], numeric=[False, True], rows=[("x", "1")])


def test_what_is_no_table_is_refused_by_name():
    with pytest.raises(TypeError, match="int is neither text nor table"):
        parts_of([Group(7)])


def test_markdown_has_every_table_and_nothing_that_it_would_read():
    report = Report(
        tables=[Group(Text("Top *1*"), table(("a|b", "1\n2"), ("<b>$x$", "0.5*")), Text("note"))],
        notes=["n_1"],
        answer=["It is_so."],
    )
    assert markdown(report) == (
        "- It is\\_so.\n\n**Top \\*1\\***\n\n| a | b |\n| --- | ---: |\n| a\\|b | 1<br>2 |\n"
        "| \\<b\\>\\$x\\$ | 0.5\\* |\n\nnote\n\nn\\_1"
    )


def test_curves_have_their_places_and_their_values():
    found = pickable(*CURVES)
    assert found["picks"] == [("treatment", ["baseB", "AnB", "AnB+"]), ("n_layers", [2, 10]), ("seed", [0, 2])]
    of_b, of_c, of_d, of_f = 0, 1, 2, 3  # e has no curve, x no place
    assert found["places"] == [[of_b, 0, -1, 0], [of_c, 1, 1, 0], [of_d, 1, 0, 0], [of_d, 2, 0, 0], [of_f, 1, 0, 1]]
    assert found["curves"][of_c] == [[10, 20], [20, 30], [1, 123500], [1, 0.1]]
    assert found["curves"][of_d] == [[10, 20], [25, 12.35], [1, 0.5], [None, 0.5]]
    assert found["curves"][of_f][0] == [10, 20]
    assert found["every"] == 1
    json.dumps(found, allow_nan=False)


def test_of_very_many_evaluations_some_are_left_with_the_last(monkeypatch):
    monkeypatch.setattr("raytransfer.report.curves._MOST_EVALUATIONS", 9)
    assert pickable(*CURVES)["every"] == 1
    monkeypatch.setattr("raytransfer.report.curves._MOST_EVALUATIONS", 5)
    found = pickable(*CURVES)
    assert found["every"] == 2
    assert [curve[0] for curve in found["curves"]] == [[10, 30], [20], [20], [20]]


@pytest.mark.parametrize("places", [CURVES[0][4:5], [CURVES[0][4] | {"id": "x"}], []])  # x has a curve of one
def test_without_a_curve_of_two_evaluations_the_page_has_no_such_part(odd, places):
    assert pickable(places, CURVES[1]) == {}
    assert "single trials" in odd[0]
    assert "top-1 accuracy on the test images, %" in Page(odd[0]).text
    assert "single trials" not in written(odd[1], pickable(places, CURVES[1]))


def test_markdown_of_a_grid_has_its_numbers(odd):
    lines = markdown(odd[1]).splitlines()
    assert "| n | baseB | baseB-2x | BnB | BnB+ | AnB | AnB+ | RnB |" in lines
    assert all(line.count("|") >= 3 for line in lines if line.startswith("|"))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to look at the page with")
def test_a_browser_shows_it_without_errors_switches_series_off_and_steps_through_marks(odd, tmp_path):
    act = """<script>
      const box = document.querySelector("#figure2").parentElement.querySelector("input[value=AnB]");
      box.click();
      const drawn = [...box.closest("figure").querySelectorAll("[data-series=AnB]")];
      document.querySelector("use > title").parentElement.dispatchEvent(new MouseEvent("click", {bubbles: true}));
      const trials = document.querySelector(".trials"), [treatment, layers] = trials.querySelectorAll("[name=pick]");
      const lines = [trials.querySelectorAll(".thin").length];
      for (const [select, value] of [[treatment, "all"], [layers, "0"]]) {
        select.value = value;
        select.dispatchEvent(new Event("change", {bubbles: true}));
        lines.push(trials.querySelectorAll(".thin").length);
      }
      const [, second] = trials.querySelectorAll("title");
      lines.push(trials.hidden, trials.querySelector(".told").textContent, second.textContent);
      document.querySelector("#answer").textContent = "picked: " + lines.join("; ");
      const plot = box.closest("figure").querySelector(".plot"), tip = plot.querySelector(".tip");
      const told = [plot.querySelector(".ring").hidden && !tip.textContent];
      const press = (key, more) => plot.dispatchEvent(new KeyboardEvent("keydown", { key, ...more }));
      const marks = [...plot.querySelectorAll("title")].filter(title => !title.closest("[data-series=AnB]"));
      for (const mark of marks) { press("ArrowRight"); told.push(tip.textContent === mark.textContent); }
      const line = text => text.replace(/, n = .*/, "");
      press("ArrowRight"), told.push(tip.textContent === marks.at(-1).textContent);
      press("ArrowUp"), told.push(line(tip.textContent) !== line(marks.at(-1).textContent));
      const before = tip.textContent, frame = plot.getBoundingClientRect(), shown = tip.getBoundingClientRect();
      press("ArrowRight", { altKey: true }), told.push(tip.textContent === before, !plot.querySelector(".ring").hidden);
      told.push(shown.height > 0, shown.left >= frame.left, shown.right <= frame.right, shown.bottom <= frame.bottom);
      press("ArrowDown"), told.push(tip.textContent !== before);
      marks.at(-1).parentElement.dispatchEvent(new MouseEvent("click", { bubbles: true })), told.push(!tip.textContent);
      press("ArrowLeft"), told.push(tip.textContent === marks.at(-2).textContent);
      press("Escape"), told.push(!tip.textContent, plot.querySelector(".ring").hidden);
      document.querySelector("#figures").textContent = `stepped: ${marks.length} ${told.length} ${told.every(Boolean)}`;
      layers.add(new Option("n".repeat(240)));
      document.title = [box.closest("fieldset").hidden, drawn.length, drawn.filter(d => d.style.display).length,
        document.querySelector(".told").textContent, document.documentElement.scrollWidth <= innerWidth].join("; ");
    </script>"""
    (tmp_path / "report.html").write_text(odd[0] + act)
    for width in (1280, 500):
        shown = subprocess.run(
            [
                *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"),
                *(f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"),
                f"file://{tmp_path / 'report.html'}",
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "CONSOLE" not in shown.stderr
        (title,) = [line for line in shown.stdout.splitlines() if line.startswith("<title>")]
        hidden, drawn, off, told, fits = title.removeprefix("<title>").removesuffix("</title>").split("; ")
        assert (hidden, fits) == ("false", "true")
        assert drawn == off != "0"
        assert told.startswith("co-adaptation drop, ")
        marks, steps, right = re.search(r"stepped: (\d+) (\d+) (\w+)<", shown.stdout).groups()
        assert (int(steps), right) == (int(marks) + 14, "true")
        assert int(marks) > 20
        picked = re.search("picked: (.*?)</h2>", shown.stdout).group(1).split("; ")
        assert picked[:5] == ["1", "5", "3", "false", "3 trials: 12.35 to 60% at the end."]
        assert picked[5] == "AnB+, n_layers=2, seed=0: 12.35% at the end"
