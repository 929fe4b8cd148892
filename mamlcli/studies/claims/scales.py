"""The scales of `mamlcli reproduce` are listed here: smoke, laptop, evening, paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mamlcli.studies.claims.contrasts import EQUAL_TO_KFO, EQUAL_TO_SHALLOW, CellValue
from mamlcli.studies.claims.decisions import UNTIL_DECIDED, Looks, one_look
from mamlcli.studies.claims.plan import FIRST_SEED, Amounts, Family
from mamlcli.studies.claims.predicted import C5_DEPTHS, OPTIMIZER
from mamlcli.studies.claims.rates import RATES, SYNTHETIC_EXCESS


@dataclass(frozen=True)
class Scale:
    """A scale says how much of everything a reproduction runs.

    Attributes:
        name: "smoke", "laptop", "evening" or "paper".
        words: what it is, one sentence.
        looks: at which numbers of seeds the predictions are tested.
        families: what is run; values without a rate get theirs from pilots.
        optional: what `--family NAME` adds, by that name.
        first_seed: of those tested by default. The longer scales have seeds of their own, so that what a shorter one
            showed is tested anew.
        needs_packs: whether a missing pack is an error; otherwise its family is left out, and the report says so.
        amounts: tasks and steps of the controls beside the cells.
    """

    name: str
    words: str
    looks: Looks
    families: tuple[Family, ...]
    optional: Mapping[str, tuple[Family, ...]] = field(default_factory=dict)
    first_seed: int = FIRST_SEED
    needs_packs: bool = False
    amounts: Amounts = field(default_factory=Amounts)


_GLYPHS = ("glyphs-5way-1shot", "glyphs-5way-1shot")
_OMNIGLOT = ("omniglot-5way-1shot", "omniglot-5way-1shot")
_LINREG = (CellValue(1), CellValue(2), CellValue(1, optimizer="dense"), CellValue(1, optimizer=OPTIMIZER))
_LOGISTIC = (CellValue(1), CellValue(3), CellValue(1, optimizer="meta-sgd"), CellValue(1, optimizer=OPTIMIZER))
_ALL_TRANSFORMS = ("meta-sgd", "meta-curvature", "dense")

# Meta-training of the image scales for CPUs. The last weights are scored.
_SHORT = (
    "outer.iterations=1000",
    "outer.tasks=4",
    "outer.schedule=cosine",
    "validation.every=null",
    "evaluation.tasks=1000",
)


def image_values(
    depths: Sequence[int], layers: Sequence[int], transforms: Sequence[str] = (), more: Sequence[CellValue] = ()
) -> tuple[CellValue, ...]:
    """Return plain values of each depth, layers and transforms on depth 1, KFO at depths 1, 2 and 4, and `more`."""
    return (
        *(CellValue(depth) for depth in depths),
        *(CellValue(1, num) for num in layers),
        *(CellValue(1, optimizer=name) for name in transforms),
        *(CellValue(depth, optimizer=OPTIMIZER) for depth in depths if depth in (1, *C5_DEPTHS)),
        *more,
    )


_EQUAL_SIZES = (EQUAL_TO_SHALLOW, EQUAL_TO_KFO)
_LAPTOP_MAML = image_values((1, 2, 4), (2, 3), ("meta-sgd",), (EQUAL_TO_SHALLOW,))
_LAPTOP_ANIL = image_values((1, 4), (2,))
_EVENING_MAML = image_values((1, 2, 4), (1, 2, 3), _ALL_TRANSFORMS, _EQUAL_SIZES)
_EVENING_ANIL = image_values((1, 2, 4), (1, 2))


def _image_families(
    source: str,
    words: str,
    recipes: tuple[str, str],
    changes: Sequence[str],
    values: tuple[tuple[CellValue, ...], tuple[CellValue, ...]],
    *,
    pack: str | None = None,
) -> tuple[Family, Family]:
    """Return the families of one image source under MAML and ANIL; recipes and values are of the one and the other."""
    maml, anil = (
        Family(
            key=f"{source}-{role}",
            words=f"{words}, {role.upper()}",
            role=role,
            recipe=recipe,
            changes=(*changes, f"inner.algorithm={role}"),
            values=of_role,
            pack=pack,
        )
        for role, recipe, of_role in zip(("maml", "anil"), recipes, values, strict=True)
    )
    return maml, anil


def _with_rates(family: Family, table: str | None = None) -> Family:
    """Return the family with the recorded rates of its values, those of the table of its key or of another."""
    rates = RATES[table or family.key]
    return replace(family, rates={value.key: rates[value.key] for value in family.values if value.key in rates})


def _synthetic_families(linreg: int, logistic: int, num_tasks: int) -> tuple[Family, Family]:
    """Return the families of tasks that a linear model solves; arguments: meta-iterations of each, tasks scored."""
    amounts = ("outer.tasks=16", "validation.every=null", f"evaluation.tasks={num_tasks}")
    return (
        Family(
            key="linear-regression",
            words="linear regression",
            role="linear-regression",
            recipe="linear-regression",
            changes=(f"outer.iterations={linreg}", "outer.lr=0.01", *amounts),
            values=_LINREG,
        ),
        Family(
            key="logistic",
            words="logistic regression",
            role="logistic",
            recipe="logistic",
            changes=(f"outer.iterations={logistic}", *amounts),
            values=_LOGISTIC,
        ),
    )


def _short_synthetic() -> list[Family]:
    families = _synthetic_families(1000, 300, 2000)
    return [replace(_with_rates(family), excess=SYNTHETIC_EXCESS[family.key]) for family in families]


def _short_images(source: str, values: tuple[tuple[CellValue, ...], tuple[CellValue, ...]]) -> tuple[Family, Family]:
    if source == "glyphs":
        return _image_families("glyphs", "glyphs", _GLYPHS, _SHORT, values)
    return _image_families("omniglot", "Omniglot", _OMNIGLOT, _SHORT, values, pack="omniglot")


def smoke() -> Scale:
    """Return the smallest scale: it shows that everything runs; its verdicts, but for exact checks, mean nothing."""
    changes = ("outer.iterations=2", "outer.tasks=2", "validation.every=null", "evaluation.tasks=8")
    values = (image_values((1, 2, 4), (1,), more=_EQUAL_SIZES), image_values((1, 4), (1,)))
    families = (*_synthetic_families(4, 4, 40), *_image_families("glyphs", "glyphs", _GLYPHS, changes, values))
    return Scale(
        "smoke",
        "a few meta-iterations, two seeds: shows that everything runs; its verdicts are of untrained networks",
        one_look(2),
        tuple(replace(family, rates={value.key: 0.4 for value in family.values}) for family in families),
        amounts=Amounts(premise_tasks=2, premise_steps=100, control_tasks=8),
    )


def laptop() -> Scale:
    """Return the scale of bare `make reproduce`: two cores, about 20 minutes, no download."""
    return Scale(
        "laptop",
        "1,000 meta-iterations of 4 tasks on glyphs and short synthetic runs, four seeds, two cores",
        one_look(4),
        (*_short_synthetic(), *map(_with_rates, _short_images("glyphs", (_LAPTOP_MAML, _LAPTOP_ANIL)))),
        amounts=Amounts(premise_tasks=6, control_tasks=100),
    )


def evening() -> Scale:
    """Return the scale of an evening on two cores: all transforms, more layers, and real Omniglot with its pack.

    Rates of glyphs are recorded, where the scale laptop has the value; all others come from pilots.
    """
    values = (_EVENING_MAML, _EVENING_ANIL)
    glyphs = _short_images("glyphs", values)
    # Omniglot's pilots start where those of glyphs ended.
    omniglot = [
        replace(family, first_rates=_with_rates(family, f"glyphs-{family.role}").rates)
        for family in _short_images("omniglot", values)
    ]
    return Scale(
        "evening",
        "1,000 meta-iterations of 4 tasks on glyphs and, with its pack, Omniglot; looks at 5, 10 and 20 seeds",
        UNTIL_DECIDED,
        (*_short_synthetic(), *map(_with_rates, glyphs), *omniglot),
        optional=_optional_families(),
        first_seed=FIRST_SEED + 100,
    )


def _optional_families() -> dict[str, tuple[Family, ...]]:
    """Return what `--family` adds to the evening scale."""
    cifar = _image_families(
        "cifar-fs",
        "CIFAR-FS",
        ("cifar-fs-5way-5shot", "cifar-fs-5way-5shot-anil"),
        _SHORT,
        (image_values((1, 2, 4), (2,)), image_values((1, 4), (2,))),
        pack="cifar-fs",
    )
    adapted = _transforms("adapted", "adapted transforms", ("meta-sgd", OPTIMIZER))
    return {
        "cifar-fs": cifar,
        "adapted": (replace(adapted, adapts=True),),
        "kfo-mlp": (_transforms("kfo-mlp", "non-linear KFO", ("kfo-mlp",)),),
    }


def _transforms(name: str, words: str, transforms: Sequence[str]) -> Family:
    """Return a family of transforms on the shallow network on glyphs, whose rows stand beside C4."""
    values = (CellValue(1), *(CellValue(1, optimizer=name) for name in transforms))
    maml, _ = _short_images("glyphs", (values, ()))
    plain = CellValue(1).key
    return replace(
        maml,
        key=f"glyphs-{name}",
        words=f"glyphs, MAML, {words}",
        role="transforms",
        rates={plain: RATES["glyphs-maml"][plain]},
    )


def paper() -> Scale:
    """Return the scale of the release's settings: 5 ways, 5 shots, 5 queries, 5 inner steps, 16 tasks, for a GPU.

    Networks and lengths are the release's (paper's code, one commit, 2021), transforms are adapted in the inner loop.
    Differs from it: inner rates come from pilots, because inputs are in [0, 1] for mini-ImageNet too; Omniglot, of
    which the release has no run, takes the length and outer rate of its CIFAR-FS runs and Vinyals' split; seeds of
    evaluation are those of training; weights are chosen by meta-validation and 1,000 meta-test tasks are scored.
    """
    return Scale(
        "paper",
        "the release's protocol and lengths (differences are named in the documentation of this scale), for a GPU",
        UNTIL_DECIDED,
        (*_synthetic_families(5000, 3000, 2000), *_paper_images()),
        first_seed=FIRST_SEED + 200,
        needs_packs=True,
    )


def _paper_images() -> tuple[Family, ...]:
    """Return the families of the paper's three data sets, scored after as many steps as they are trained for."""
    depths = (1, 2, 3, 4)
    values = (
        image_values(depths, (1, 2, 3), ("meta-sgd", "meta-curvature", "kfo-mlp")),
        image_values(depths, (1, 2, 3)),
    )
    scored = ("validation.metric=loss", "evaluation.tasks=1000")
    release = (
        *scored,
        "tasks.shots=5",
        "tasks.queries=5",
        "inner.adapt=null",
        "inner.steps=5",
        "evaluation.steps=5",
        "outer.tasks=16",
    )
    omniglot = _image_families(
        "omniglot",
        "Omniglot",
        ("omniglot-5way-1shot-full", "omniglot-5way-1shot-full"),
        (*release, "outer.iterations=20000"),
        values,
        pack="omniglot",
    )
    cifar = _image_families(
        "cifar-fs", "CIFAR-FS", ("cifar-fs-5way-5shot", "cifar-fs-5way-5shot-anil"), scored, values, pack="cifar-fs"
    )
    maml, anil = _image_families(
        "mini-imagenet",
        "mini-ImageNet",
        ("mini-imagenet-5way-5shot", "mini-imagenet-5way-5shot"),
        release,
        values,
        pack="mini-imagenet",
    )
    maml = replace(maml, changes=(*maml.changes, "outer.lr=0.0005", "outer.iterations=20000"))
    of_anil = ("model.width=64", "outer.lr=0.001", "outer.iterations=3500", "inner.joint_features=true")
    anil = replace(anil, changes=(*anil.changes, *of_anil))
    mini_imagenet = tuple(
        replace(family, more={value.key: {"model.pool": mini_imagenet_pool(value.depth)} for value in family.values})
        for family in (maml, anil)
    )
    return tuple(replace(family, adapts=True) for family in (*omniglot, *cifar, *mini_imagenet))


def mini_imagenet_pool(depth: int) -> int:
    """Return the side of every block's max-pool: the release's stride 2 * factor, with its factor of 4 // depth."""
    return 2 * max(4 // depth, 1)


SCALES: dict[str, Callable[[], Scale]] = {"smoke": smoke, "laptop": laptop, "evening": evening, "paper": paper}
