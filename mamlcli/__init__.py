"""mamlcli: meta-train, adapt and study MAML, from the command line or from Python.

The functions of `mamlcli.api` are here by name (`mamlcli.train`, `load`, `adapt`, `score`, `compare`, `sweep`).
They are imported when they are first used: `import mamlcli` by itself loads no torch.
"""

# Nothing is imported here, be it `__future__` or typing: `python -m mamlcli` might take it from the current folder.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from mamlcli.api import (
        Interrupted,
        MamlError,
        Prediction,
        Run,
        adapt,
        compare,
        few_shot_tasks,
        load,
        predict,
        reproduce,
        score,
        sweep,
        train,
        with_batch_statistics,
    )
    from mamlcli.recipe.plugin_schema import FewShotKeys, NetworkKeys, TasksKeys, TransformKeys

__version__ = "0.1.0"
__all__ = [
    "FewShotKeys",
    "Interrupted",
    "MamlError",
    "NetworkKeys",
    "Prediction",
    "Run",
    "TasksKeys",
    "TransformKeys",
    "__version__",
    "adapt",
    "compare",
    "few_shot_tasks",
    "load",
    "predict",
    "reproduce",
    "score",
    "sweep",
    "train",
    "with_batch_statistics",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'mamlcli' has no attribute {name!r}")
    if name.endswith("Keys"):  # the module of a plug-in's keys needs no torch
        from mamlcli.recipe import plugin_schema

        return vars(plugin_schema)[name]
    from mamlcli import api

    return vars(api)[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
