"""A figure as SVG within a page: marks have tooltips, and belong to series that can be switched off."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from xml.etree import ElementTree

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_DPI = 150
_MOST_MARKERS = 800  # of a figure that are drawn one by one
_LEAST_SHARE = 0.6  # of its width to which a figure is shrunk; on a narrower screen it is moved sideways
_REFERENCE = re.compile(r"(url\(#|^#)([^)]+)")
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)


def tell(artist: Artist, series: str, texts: Sequence[str] = ()) -> None:
    """Give an artist its series, and the tooltips of its marks on a page.

    Args:
        artist: What is drawn.
        series: The name under which a reader can switch it off.
        texts: Tooltips: one for each of its markers that has a place, in order; one for a line without markers, or for
            a text.
    """
    artist.set_gid(json.dumps([series, *texts]))


@contextmanager
def untitled(figure: Figure) -> Iterator[None]:
    """A block in which a figure has no title and no room for one; it is laid out once, however often it is drawn."""
    titles = [text for text in figure.texts if text.get_text() == figure.get_suptitle()]
    engine = figure.get_layout_engine()
    for title in titles:
        title.set(visible=False, in_layout=False)
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    try:
        yield
    finally:
        figure.set_layout_engine(engine)
        for title in titles:
            title.set(visible=True, in_layout=True)


@contextmanager
def at_150_dpi(figure: Figure) -> Iterator[None]:
    """A block in which a figure's pixels are drawn at 150 dots per inch, and new labels of axes without TeX.

    ``Figure.savefig`` sets the dots by itself, but draws each figure twice, once to nowhere. A ``matplotlibrc`` may ask
    for TeX, which need not be installed.
    """
    before = figure.dpi
    figure.set_dpi(_DPI)
    try:
        with rc_context({"text.usetex": False}):
            yield
    finally:
        figure.set_dpi(before)


def inline_svg(figure: Figure, *, key: str, alternative: str) -> tuple[str, list[str]]:
    """Draw a figure as an SVG element, without its title.

    In a figure with more than 800 markers, those that no line joins are drawn as pixels, without tooltips.

    Args:
        figure: The figure.
        key: Prefix of every identifier in it, unique among the figures of the page.
        alternative: A description for readers who cannot see it.

    Returns:
        The element, and the series in it, in the order of the legend.
    """
    lines = [line for axes in figure.axes for line in axes.lines if line.get_marker() not in ("None", "", " ")]
    if sum(np.size(line.get_xdata()) for line in lines) > _MOST_MARKERS:
        for line in lines:
            line.set_rasterized(line.get_linestyle() == "None")
    root = ElementTree.fromstring(_drawn(figure, key))
    for gone in ("metadata", "defs"):  # who made it, and a style that would be the whole page's
        root.remove(root.find(f"{{{_SVG}}}{gone}"))  # type: ignore[arg-type]  # every file of matplotlib's has both
    series = _told(root)
    _name_apart(root, key)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    del root.attrib["height"]  # follows from the width and the view box
    root.set("style", f"max-width: {width:.0f}pt; min-width: {_LEAST_SHARE * width:.0f}pt")
    root.set("role", "img")
    root.set("aria-label", alternative)
    entries = [*_legend(figure), *series]
    return ElementTree.tostring(root, encoding="unicode"), sorted(series, key=entries.index)


def described(figure: Figure, caption: str) -> str:
    """A figure in words: what it shows, its panels, axes and legend."""
    panels = [axes.get_title(loc) for axes in figure.axes for loc in ("left", "center") if axes.get_title(loc)]
    across = [figure.get_supxlabel(), *(axes.get_xlabel() for axes in figure.axes)]
    up = [figure.get_supylabel(), *(axes.get_ylabel() for axes in figure.axes)]
    parts = [caption.rstrip(".")]
    for name, texts in (("Panels", panels), ("Across", across), ("Up", up), ("Legend", _legend(figure))):
        listed = [" ".join(text.split()) for text in dict.fromkeys(texts) if text.strip()]
        parts += [f"{name}: {'; '.join(listed)}"] if listed else []
    return ". ".join(parts) + "."


def _legend(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def _drawn(figure: Figure, key: str) -> str:
    buffer = io.StringIO()
    with at_150_dpi(figure), untitled(figure), rc_context({"svg.fonttype": "none", "svg.hashsalt": key}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _told(root: ElementTree.Element) -> list[str]:
    """Move tooltips to where browsers look for them, and return the series."""
    found: list[str] = []
    for group in root.iter(f"{{{_SVG}}}g"):
        if not group.get("id", "").startswith("["):
            continue
        series, *texts = json.loads(group.attrib.pop("id"))
        group.set("data-series", series)
        found.append(series)
        markers = list(group.iter(f"{{{_SVG}}}use"))
        # Markers that lie beyond the figure are not drawn: which one is whose would be a guess then.
        told = markers if len(markers) == len(texts) else [group] if not markers and len(texts) == 1 else []
        for element, text in zip(told, texts, strict=False):
            title = ElementTree.Element(f"{{{_SVG}}}title")
            title.text = text
            element.insert(0, title)
        # Whiskers and bands, and the lines that join markers, lie over marks, and would take the pointer from them.
        for element in group.findall(f"{{{_SVG}}}path") if markers and told else [group] * (not told):
            element.set("pointer-events", "none")
    return list(dict.fromkeys(found))


def _name_apart(root: ElementTree.Element, key: str) -> None:
    """Prefix the identifiers that something refers to with the key, and drop the others."""
    referred: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name in ("clip-path", f"{{{_XLINK}}}href"):
                referred.update(found for _, found in _REFERENCE.findall(value))
                element.set(name, _REFERENCE.sub(rf"\g<1>{key}-\g<2>", value))
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity in referred:
            element.set("id", f"{key}-{identity}")
        if element.tag == f"{{{_SVG}}}text":  # of the fonts, those that a reader may have
            style = re.sub(r"px [^;]*", "px 'DejaVu Sans', Verdana, sans-serif", element.get("style", ""), count=1)
            element.set("style", style)
