"""The studies of each scale of `mamlcli reproduce` are listed here: smoke, laptop, paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

# (depth, appended linear layers, transform)
CellValue = tuple[int, int, str]


@dataclass(frozen=True)
class Family:
    """A family is one sweep of a reproduction: a source of tasks under one algorithm.

    Attributes:
        key: of its study, as in "glyphs-maml".
        words: for tables.
        recipe: name of the shipped recipe.
        changes: dotted overrides, as on the command line.
        values: (depth, appended linear layers, transform) of each cell.
        inner_lrs: candidates for the inner learning rate.
        pack: that must be there, or None.
        more: further dotted keys that go with a depth.
        adapts: whether transforms are adapted in the inner loop.
    """

    key: str
    words: str
    recipe: str
    changes: tuple[str, ...]
    values: tuple[CellValue, ...]
    inner_lrs: tuple[float, ...]
    pack: str | None = None
    more: Mapping[int, Mapping[str, object]] = field(default_factory=dict)
    adapts: bool = False


@dataclass(frozen=True)
class Scale:
    """A scale says how much of everything a reproduction runs.

    Attributes:
        name: "smoke", "laptop" or "paper".
        words: what it is, one sentence.
        num_seeds: of every cell.
        families: what is run.
        depths: of C2, C5 and C6.
        layers: appended, of C3.
        anil_layers: appended, of C6.
        optimizers: of C4.
        deeper: for each synthetic study the deeper value of C1.
        needs_packs: whether a missing pack is an error; otherwise its family is left out, and the report says so.
    """

    name: str
    words: str
    num_seeds: int
    families: tuple[Family, ...]
    depths: tuple[int, ...]
    layers: tuple[int, ...]
    anil_layers: tuple[int, ...]
    optimizers: tuple[str, ...]
    deeper: Mapping[str, int]
    needs_packs: bool = False


# One transform is looked at over depths and under ANIL; all are at depth 1.
OPTIMIZER = "kfo"
_GLYPHS = ("glyphs-5way-1shot", "glyphs-5way-1shot")
_OMNIGLOT = ("omniglot-5way-1shot", "omniglot-5way-1shot")
_LINREG_VALUES = ((1, 0, "none"), (2, 0, "none"), (1, 0, "dense"), (1, 0, "kfo"))


def _maml_values(depths: Sequence[int], layers: Sequence[int], optimizers: Sequence[str]) -> tuple[CellValue, ...]:
    values = [
        *((depth, 0, "none") for depth in depths),
        *((1, n, "none") for n in layers),
        *((1, 0, name) for name in optimizers),
        *((depth, 0, OPTIMIZER) for depth in depths),
    ]
    return tuple(dict.fromkeys(values))


def _image_families(
    source: str,
    recipes: tuple[str, str],
    changes: Sequence[str],
    lrs: tuple[float, ...],
    *,
    maml: tuple[CellValue, ...],
    anil: tuple[CellValue, ...],
    pack: str | None,
    more: Mapping[int, Mapping[str, object]] | None = None,
    adapts: bool = False,
) -> list[Family]:
    """Return the families of one image source under MAML and ANIL, each with its recipe."""
    both = (("maml", "MAML", maml, recipes[0]), ("anil", "ANIL", anil, recipes[1]))
    return [
        Family(
            f"{source}-{key}",
            f"{source}, {name}",
            recipe,
            (*changes, "validation.metric=loss", f"inner.algorithm={key}"),
            values,
            lrs,
            pack,
            more or {},
            adapts,
        )
        for key, name, values, recipe in both
    ]


def _synthetic_families(
    linreg: int, logistic: int, tasks: int, linreg_lrs: tuple[float, ...], logistic_lrs: tuple[float, ...]
) -> list[Family]:
    amounts = (f"evaluation.tasks={tasks}", f"validation.tasks={min(tasks, 200)}", "validation.metric=loss")
    return [
        Family(
            "linear-regression",
            "linear regression",
            "linear-regression",
            (f"outer.iterations={linreg}", f"validation.every={linreg}", *amounts),
            _LINREG_VALUES,
            linreg_lrs,
        ),
        Family(
            "logistic",
            "logistic regression",
            "logistic",
            (f"outer.iterations={logistic}", f"validation.every={logistic}", *amounts),
            ((1, 0, "none"), (3, 0, "none")),
            logistic_lrs,
        ),
    ]


def smoke() -> Scale:
    """Return the smallest scale: it shows that everything runs, and decides only what is exact."""
    depths, layers, optimizers = (1, 2), (1,), ("meta-sgd",)
    changes = ("outer.iterations=2", "outer.tasks=2", "validation.every=2", "validation.tasks=4", "evaluation.tasks=8")
    values, anil = _maml_values(depths, layers, optimizers), _maml_values(depths, layers, ())
    return Scale(
        "smoke",
        "a few meta-iterations, two seeds: shows that everything runs; decides only what is exact",
        num_seeds=2,
        families=(
            *_synthetic_families(4, 4, 40, (0.2,), (0.5,)),
            *_image_families("glyphs", _GLYPHS, (*changes, "model.width=8"), (0.4,), maml=values, anil=anil, pack=None),
        ),
        depths=depths,
        layers=layers,
        anil_layers=layers,
        optimizers=(*optimizers, OPTIMIZER),
        deeper={"linear-regression": 2, "logistic": 3},
    )


def laptop() -> Scale:
    """Return the scale of bare `make reproduce`: two cores, under 25 minutes, no download."""
    depths, layers, anil_layers = (1, 2, 4), (1, 2), (1,)
    optimizers = ("meta-sgd", "meta-curvature", "kfo-mlp")
    changes = ("outer.iterations=150", "outer.tasks=4", "validation.every=150", "evaluation.tasks=200")
    maml, anil = _maml_values(depths, layers, optimizers), _maml_values(depths, anil_layers, ())
    lrs = (0.1, 0.4)
    return Scale(
        "laptop",
        "short meta-training of small networks, three seeds, two cores",
        num_seeds=3,
        families=(
            *_synthetic_families(1000, 300, 400, (0.2, 0.5, 1.2), (0.5, 2.0, 8.0)),
            *_image_families("glyphs", _GLYPHS, changes, lrs, maml=maml, anil=anil, pack=None),
            # At the recipe's own rate alone: with both rates the whole would take longer than a scale for laptops may.
            *_image_families("omniglot", _OMNIGLOT, changes, (0.4,), maml=maml, anil=anil, pack="omniglot"),
        ),
        depths=depths,
        layers=layers,
        anil_layers=anil_layers,
        optimizers=(*optimizers, OPTIMIZER),
        deeper={"linear-regression": 2, "logistic": 3},
    )


def paper() -> Scale:
    """Return the scale of the release's settings: 5 ways, 5 shots, 5 queries, 5 inner steps, 16 tasks, for a GPU.

    Networks and lengths are the release's (paper's code, one commit, 2021), transforms are adapted in the inner loop.
    Differs from it: inputs in [0, 1] for mini-ImageNet too, so inner rates are chosen from candidates; its heads use
    the global mean, because a Kronecker factor of its flattened 14,112 features would have 200 million entries;
    Omniglot has Vinyals' split.
    """
    depths, layers = (1, 2, 3, 4), (1, 2, 3)
    values = _maml_values(depths, layers, ("meta-sgd", "meta-curvature", "kfo-mlp"))
    anil = _maml_values(depths, layers, ())
    return Scale(
        "paper",
        "the release's protocol and lengths (differences are named in the documentation of this scale), five "
        "seeds, for a GPU",
        num_seeds=5,
        families=(
            *_synthetic_families(5000, 3000, 600, (0.1, 0.2, 0.5, 1.0, 1.2, 1.3), (0.5, 1.0, 2.0, 4.0, 8.0)),
            *_paper_images(values, anil, depths),
        ),
        depths=depths,
        layers=layers,
        anil_layers=layers,
        optimizers=("meta-sgd", "meta-curvature", "kfo-mlp", OPTIMIZER),
        deeper={"linear-regression": 2, "logistic": 3},
        needs_packs=True,
    )


def _paper_images(
    maml: tuple[CellValue, ...], anil: tuple[CellValue, ...], depths: Sequence[int]
) -> tuple[Family, ...]:
    """Return the families of the paper's three data sets."""
    omniglot = _image_families(
        "omniglot",
        ("omniglot-5way-1shot-full", "omniglot-5way-1shot-full"),
        ("tasks.shots=5", "tasks.queries=5", "inner.steps=5", "outer.tasks=16", "outer.iterations=20000"),
        (0.1, 0.4),
        maml=maml,
        anil=anil,
        pack="omniglot",
        adapts=True,
    )
    cifar = _image_families(
        "cifar-fs",
        ("cifar-fs-5way-5shot", "cifar-fs-5way-5shot-anil"),
        (),
        (0.03, 0.1, 0.3),
        maml=maml,
        anil=anil,
        pack="cifar-fs",
        adapts=True,
    )
    mini_imagenet = _image_families(
        "mini-imagenet",
        ("mini-imagenet-5way-5shot", "mini-imagenet-5way-5shot"),
        ("tasks.queries=5", "model.head=mean", "outer.lr=0.0005", "outer.iterations=20000", "outer.tasks=16"),
        (0.01, 0.05, 0.2),
        maml=maml,
        anil=anil,
        pack="mini-imagenet",
        more={depth: {"model.pool": max(4 // depth, 1)} for depth in depths},
        adapts=True,
    )
    return (*omniglot, *cifar, *mini_imagenet)


SCALES: dict[str, Callable[[], Scale]] = {"smoke": smoke, "laptop": laptop, "paper": paper}
