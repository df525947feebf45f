"""A report as one page of HTML, which needs nothing beside it: no network, no other file."""

import datetime
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from raytransfer.report import Report
from raytransfer.report.curves import QUANTITIES
from raytransfer.report.grids import Grid, grid_of_frame, parts_of
from raytransfer.report.svg import described, inline_svg
from raytransfer.words import number_of

FAILURES_FRAME = "failures"
"""The frame of what failed, if there is one; its file is written by itself (``raytransfer.store.write_failures``)."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a sweep was asked for.

    Attributes:
        title: The experiment and its data.
        question: What it asks.
        command: The command that makes the report again.
        data: What the data sets hold, and which weights were read, a line each.
        changed: Options that are not the experiment's defaults: name and value, default, meaning.
        config: The resolved configuration, as YAML.
    """

    title: str
    question: str
    command: str
    data: Sequence[str]
    changed: Sequence[tuple[str, str, str]]
    config: str


def page(
    report: Report,
    asked: Asked,
    *,
    trials: int,
    provenance: pd.DataFrame,
    reading: str,
    curves: Mapping[str, Any],
) -> str:
    """Write a report as HTML.

    The answer comes first: the report's, or its notes where it gives none. Then the figures, whose marks tell their
    values where a reader points at them or steps to them with the arrow keys; the tables; learning curves; what failed,
    if the report has a frame of that name; what was asked and run, and what it took. Every text is shown as it stands,
    whatever it holds. Scripts step through marks, switch series on and off, and draw the trials whose learning curves
    are picked; all else is there without them.

    Args:
        report: The report.
        asked: What was asked for.
        trials: How many trials the sweep has.
        provenance: Output of ``raytransfer.report.rows.provenance``: the finished ones.
        reading: Lines of Python that read its main frame.
        curves: Output of ``raytransfer.report.curves.pickable``: the learning curves of its trials.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("raytransfer.report") / "page.html").read_text(encoding="utf-8"))
    failed = report.frames.get(FAILURES_FRAME)
    return template.render(
        asked=asked,
        answer=report.answer or report.notes,
        notes=report.notes if report.answer else (),
        figures=[_figure(report, name, f"figure{number}") for number, name in enumerate(report.figures, 1)],
        parts=[("grid", part) if isinstance(part, Grid) else ("text", part) for part in parts_of(report.tables)],
        failures=None if failed is None else grid_of_frame(failed, "Trials that failed"),
        curves=curves,
        quantities=QUANTITIES,
        facts=_facts(provenance, trials),
        frames={name: len(frame) for name, frame in report.frames.items()},
        meaning=report.main[1],
        reading=textwrap.dedent(reading),
    )


def _figure(report: Report, name: str, key: str) -> dict[str, Any]:
    figure = report.figures[name]
    run = "; ".join(figure.get_suptitle().splitlines())
    caption = f"{report.captions.get(name, '')} {run}.".strip()
    svg, series = inline_svg(figure, key=key, alternative=described(figure, f"{name}: {caption}"))
    return {"name": name, "key": key, "caption": caption, "svg": Markup(svg), "series": series}  # as matplotlib drew it


def _facts(provenance: pd.DataFrame, trials: int) -> list[tuple[str, str]]:
    """How many trials there are, what they took, and what ran them."""
    facts = [("Trials", f"{len(provenance)} of {trials} finished")]
    if provenance.empty:
        return facts
    seconds, days = provenance["wall_time_s"].sum(), provenance["finished_at"].dt.strftime("%Y-%m-%d")
    took = datetime.timedelta(seconds=round(seconds))
    facts.append(("Time", f"{took} (hours:minutes:seconds) of trials, one after the other"))
    facts.append(("Finished", days.min() if days.nunique() == 1 else f"{days.min()} to {days.max()}"))
    of_all = number_of(len(provenance), "trial")
    for name, values in (("Device", provenance["device"]), ("Commit", provenance["commit"])):
        counted = values.dropna().value_counts()
        told = "; ".join(f"{value} ({count} of {of_all})" for value, count in counted.items())
        facts += [(name, told)] * bool(told)
    versions = [json.loads(text) for text in provenance["versions"].dropna().unique()]
    listed = sorted({", ".join(f"{name} {value}" for name, value in each.items()) for each in versions})
    return [*facts, ("Versions", "; ".join(listed))]
