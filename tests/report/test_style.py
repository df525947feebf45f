"""What figures have in common."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from raytransfer.report.style import new_figure


@pytest.mark.parametrize("width", [4.0, 7.0, 14.0])
def test_a_title_fits_its_figure(width):
    title = "convnet8 on cifar10, fashion_mnist, mnist, digits, 200 steps: 4 targets, 24 pairs, 2 seeds"
    figure = new_figure((width, 3), title, "a line below")
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    (text,) = figure.texts
    drawn = text.get_window_extent()
    assert drawn.x0 >= 0
    assert drawn.x1 <= figure.bbox.width
    assert text.get_text() == f"{title}\na line below"
    assert (text.get_fontsize() == 12) == (width == 14.0)
