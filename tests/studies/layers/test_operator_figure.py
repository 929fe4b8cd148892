"""The figure of head operators: a panel a value, a line a seed."""

import numpy as np

from mamlcli.common.figures import LAYER_SERIES, TRANSFORM_SERIES, figure_bytes
from mamlcli.studies.layers.image_operators import HeadOperator
from mamlcli.studies.layers.operator_figure import head_operators_figure


def test_each_seed_is_a_thin_line_and_their_mean_a_thick_one():
    def operator(name, seed, scale):
        return HeadOperator(name, seed, ((np.diag([1.0, scale]), np.eye(3)),))

    stacks = [operator("1 linear layer", seed, 0.5 + 0.1 * seed) for seed in range(3)]
    kfo = [operator("kfo", seed, 0.0) for seed in range(3)]
    looks = {"depth 1, 1 linear layer": LAYER_SERIES[1], "depth 1, kfo": TRANSFORM_SERIES["kfo"]}
    figure = head_operators_figure(dict(zip(looks, (stacks, kfo), strict=True)), "glyphs, MAML", looks)
    left, right = figure.axes
    widths = [line.get_linewidth() for line in left.lines]
    assert widths == [1.0, 0.6, 0.6, 0.6, 1.8]
    spectra = np.array([stack.spectrum for stack in stacks])
    np.testing.assert_allclose(left.lines[2].get_ydata(), spectra[1])
    np.testing.assert_allclose(left.lines[-1].get_ydata(), spectra.mean(axis=0))
    # Three of six directions are zero: they are not on a logarithmic axis.
    np.testing.assert_allclose(right.lines[1].get_ydata(), [2, 2, 2, np.nan, np.nan, np.nan])
    assert left.get_title(loc="left").startswith("1 linear layer\n")
    assert right.get_title(loc="left").startswith("KFO\n")
    assert [axes.lines[-1].get_color() for axes in (left, right)] == [look.color for look in looks.values()]
    assert figure_bytes(figure, "png")
