"""The treatments' colours, as people see them who lack one kind of cone."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from raytransfer.specs.treatments import TREATMENTS

GRID = ("baseB", "baseB-2x", "BnB", "BnB+", "AnB", "AnB+", "RnB")
SEEN = {  # Machado, Oliveira and Fernandes 2009, table of severity 1; on linear RGB
    "all cones": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(color, seen):
    """CIE 1976 L*a*b* of a colour, white D65."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(seen) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("seen", SEEN)
def test_the_grid_s_treatments_are_told_apart_by_everyone(seen):
    for one, other in itertools.combinations(GRID, 2):
        first, second = TREATMENTS[one], TREATMENTS[other]
        apart = np.linalg.norm(lab(first.color, SEEN[seen]) - lab(second.color, SEEN[seen]))
        assert apart > 20, (one, other, apart)  # a difference of 2 is just seen side by side
        assert first.marker != second.marker


def test_no_two_treatments_look_the_same():
    looks = [(treatment.color, treatment.marker) for treatment in TREATMENTS.values()]
    assert len(set(looks)) == len(looks)
