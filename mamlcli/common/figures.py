"""All figures share this: printed sizes, text of one size, series that differ in grey and to colour-blind readers.

A figure is made at the width it is printed at, one column or two of a page, with text of 8 points. It is written as
PNG and as SVG, whose text stays text; the same result gives the same bytes.
"""

from __future__ import annotations

import atexit
import io
import itertools
import math
import os
import shutil
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypedDict, cast

from mamlcli.common.errors import MamlError
from mamlcli.common.files import atomic_write, cache_dir, can_be_made, home_dir
from mamlcli.common.names import TRANSFORMS
from mamlcli.common.words import one_line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ONE_COLUMN, TWO_COLUMNS = 3.3, 6.8  # inches

POINTS = 8.0  # of all text

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
YELLOW, SKY = "#E69F00", "#56B4E9"

# A name, or where the pattern of dashes begins and the lengths of its dashes and gaps.
LineStyle: TypeAlias = str | tuple[int, tuple[int, ...]]


class Series(NamedTuple):
    """Says how one line looks: no two share a colour, a marker or a pattern of dashes."""

    color: str
    marker: str
    linestyle: LineStyle


class LineLook(TypedDict):
    """Holds the look and the name of a line without markers, as keywords of matplotlib."""

    color: str
    linestyle: LineStyle
    linewidth: float
    label: str


SERIES = (
    Series(BLUE, "o", "-"),
    Series(ORANGE, "s", "--"),
    Series(GREEN, "^", "-."),
    Series(PURPLE, "D", (0, (4, 1, 1, 1))),
    Series(GREY, "v", ":"),
    Series(YELLOW, "P", (0, (6, 1))),
    Series(SKY, "X", (0, (2, 1))),
)

# A gradient transform looks the same in every figure. What most figures have, plain gradients and kfo, looks plainest.
TRANSFORM_SERIES: dict[str, Series] = dict(
    zip(sorted(TRANSFORMS, key=lambda name: name not in ("none", "kfo")), itertools.cycle(SERIES), strict=False)
)


def transform_series(name: str) -> Series:
    """Return how a gradient transform is drawn; those of plug-ins, and ones given from Python, are drawn alike."""
    return TRANSFORM_SERIES.get(name, SERIES[-1])


# Linear layers beyond the first, 0 to 3: shades of the blue of plain gradients, which is that of none.
LAYER_SERIES = (
    SERIES[0],
    Series("#7DB9E8", "<", (0, (5, 1))),
    Series("#3A6EA5", ">", "--"),
    Series("#08306B", "p", ":"),
)

# Floors and baselines: lines without markers.
REFERENCE_STYLES: tuple[tuple[str, LineStyle], ...] = (
    (GREEN, (0, (6, 2))),
    (PURPLE, (0, (4, 1, 1, 1))),
    (GREY, (0, (2, 1))),
)

CHANCE_STYLE: LineLook = {"color": "black", "linestyle": ":", "linewidth": 1.0, "label": "chance"}

_STYLE: dict[str, object] = {
    **dict.fromkeys(
        (
            "font.size",
            "axes.titlesize",
            "axes.labelsize",
            "xtick.labelsize",
            "ytick.labelsize",
            "legend.fontsize",
            "figure.titlesize",
        ),
        POINTS,
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.0,
    "errorbar.capsize": 2.0,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.titlelocation": "left",
    "svg.fonttype": "none",
    "svg.hashsalt": "mamlcli",
}

_LOG_RATIO = 1000.0  # losses that differ by more than this factor cannot be read on a linear axis


_VARIABLE = "MPLCONFIGDIR"


def prepare() -> None:
    """Import matplotlib; where it has no folder to write to, it gets one, and the environment stays as it was."""
    if "matplotlib.font_manager" in sys.modules:
        return
    before = os.environ.get(_VARIABLE)
    try:
        if not has_matplotlib_folder():
            os.environ[_VARIABLE] = str(_folder_of_ours())
        import matplotlib.font_manager  # now it reads the variable, and remembers

        matplotlib.get_configdir()
        matplotlib.get_cachedir()
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before


def has_matplotlib_folder() -> bool:
    """Return whether matplotlib can write where it would: in $MPLCONFIGDIR, else in the user's home."""
    if configured := os.environ.get(_VARIABLE):
        return can_be_made(Path(configured).absolute())
    home = home_dir()
    places = [None if home is None else home / ".matplotlib"]
    if sys.platform.startswith(("linux", "freebsd")):
        named = (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache"))
        above = [os.environ.get(variable) or (home and home / folder) for variable, folder in named]
        places = [Path(folder, "matplotlib").absolute() if folder else None for folder in above]
    return all(place is not None and can_be_made(place) for place in places)


def _folder_of_ours() -> Path:
    """Return a folder in the cache or, where that cannot be written, one that is removed at the end.

    Raises:
        MamlError: none can be written.
    """
    ours = cache_dir() / "matplotlib"
    if can_be_made(ours):
        return ours
    try:
        folder = tempfile.mkdtemp(prefix="mamlcli-matplotlib-")
    except OSError as error:
        remedy = f"Set {_VARIABLE} or TMPDIR to a folder of yours"
        raise MamlError(_VARIABLE, expected="a folder that can be written", got=str(error), next_step=remedy) from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextmanager
def print_style() -> Iterator[None]:
    """Draw in the style of all figures, whatever the user's matplotlib is set to; also used as a decorator."""
    prepare()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # Its type names every key that there is.
        cast("MutableMapping[str, object]", matplotlib.rcParams).update(_STYLE)
        yield


def new_figure(width: float, height: float, *, dpi: int = 150) -> Figure:
    """Return a figure that needs no display and takes nothing from global state."""
    prepare()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def printed_figure(width: float, height: float) -> Figure:
    """Return a figure of a printed size, in inches, with more pixels than a screen needs."""
    figure = new_figure(width, height, dpi=220)
    # Inches, and a share of a panel: labels keep apart.
    figure.set_layout_engine("constrained", w_pad=0.06, wspace=0.03)
    return figure


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """Return a figure as `png` or `svg`; neither holds a date or a random name."""
    buffer = io.BytesIO()
    with print_style(), warnings.catch_warnings():
        # Names may have letters that the font lacks: the PNG shows boxes there, the SVG has the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG beside each other, each whole or not at all; return their paths.

    Args:
        figure: finished.
        path: of either; the suffix is replaced.
    """
    paths = [path.with_suffix(f".{kind}") for kind in ("png", "svg")]
    for target in paths:
        atomic_write(target, figure_bytes(figure, target.suffix[1:]))
    return paths


def set_title(figure: Figure, text: str) -> None:
    """Set the title over all panels, in lines that the figure has room for; names in it are shown as they are."""
    per_line = int(figure.get_figwidth() * 15.5)  # characters of 8 points to an inch
    lines = [part for line in text.split("\n") for part in textwrap.wrap(one_line(line), per_line)]
    figure.suptitle("\n".join(map(plain, lines)), fontsize=POINTS)


def plain(text: str) -> str:
    """Return a text that matplotlib shows as it is: two dollar signs would make a formula of what is between them."""
    return text.replace("$", r"\$")


def legend_below(figure: Figure, panels: Sequence[Axes], *, ncols: int) -> None:
    """Put a legend below the panels that names each series once, however many panels it is in."""
    handles: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(ncols, len(handles)))


def fit_loss_scale(axes: Axes, values: Iterable[float]) -> None:
    """Make the axis of a loss logarithmic where its values differ too much for a linear one."""
    known = [value for value in values if math.isfinite(value) and value > 0]
    if known and max(known) > _LOG_RATIO * min(known):
        axes.set_yscale("log")


def keep_to_percent(axes: Axes) -> None:
    """Cut an axis of accuracies to 0 to 100 % and half a marker, as intervals of few seeds reach far beyond."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -2.0), min(high, 102.0))


def whole_steps(axes: Axes) -> None:
    """Label the horizontal axis as inner steps, in whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.set_xlabel("inner steps")
