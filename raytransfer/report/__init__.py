"""The result of a sweep: tables, figures and sentences, which the console, files and a page show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure
from rich.console import RenderableType

__all__ = ["Report"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came out of a sweep.

    Attributes:
        frames: The numbers by name: every table that figures and printed tables are made of.
        main: Name of the frame to start with, and a sentence that says what it holds.
        tables: Tables for the console, in order.
        figures: Figures by name.
        captions: What each figure shows, by its name.
        texts: Further texts by the name of their file.
        notes: Sentences that stand below the tables.
        answer: What came out, in sentences made by rule.
    """

    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    main: tuple[str, str] = ("", "")
    tables: Sequence[RenderableType] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    answer: Sequence[str] = ()
