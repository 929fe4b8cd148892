"""What a plug-in derives the section of its keys from; an entry point of an installed package names the class.

The class is in a module that needs no torch, so that recipes can be checked without it. `code` names what makes the
network, the tasks or the transform of these keys; it is imported when a run needs it. See docs/plugins.md.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mamlcli.common.plugins import NETWORKS, TASKS, TRANSFORMS
from mamlcli.recipe.given_schema import OutsideModel
from mamlcli.recipe.section import Examples, Patterns, Section
from mamlcli.recipe.tasks_schema import ClassKeys


class PluginKeys(Section):
    """The keys of a plug-in, with types, bounds, defaults and descriptions, as pydantic fields.

    Attributes:
        code: "module:function" of what makes the object.
        plugin_group: the group of entry points.
        plugin_tag: the key that holds the name of the plug-in.
    """

    code: ClassVar[str] = ""
    plugin_group: ClassVar[str] = ""
    plugin_tag: ClassVar[str] = ""

    @property
    def plugin_name(self) -> str:
        """The name that a recipe has for the plug-in."""
        return str(getattr(self, self.plugin_tag))


class NetworkKeys(OutsideModel, PluginKeys):
    """Keys of a network, `model.kind`. `code` is called with (keys, input_shape, num_outputs), returns an nn.Module.

    Attributes:
        norm: "batch" where the network normalises by statistics of the batch at hand.
    """

    plugin_group: ClassVar[str] = NETWORKS
    plugin_tag: ClassVar[str] = "kind"
    norm: ClassVar[Literal["batch", "none"]] = "none"

    kind: str


class SourceKeys(PluginKeys):
    """Keys that all tasks of plug-ins have."""

    plugin_group: ClassVar[str] = TASKS
    plugin_tag: ClassVar[str] = "source"

    source: str


class TasksKeys(SourceKeys):
    """Keys of a task distribution, `tasks.source`. `code` is called with (keys), returns an object with `sample`.

    Attributes:
        num_classes: of a task; None for regression.
    """

    num_classes: ClassVar[int | None] = None

    shots: Examples = Field(10, description="support examples of a task")
    queries: Examples = Field(10, description="query examples of a task")

    @property
    def is_classification(self) -> bool:
        return self.num_classes is not None


class FewShotKeys(ClassKeys, SourceKeys):
    """Keys of N-way K-shot tasks, `tasks.source`. `code` is called with (keys).

    It returns what `mamlcli.few_shot_tasks` returns, or an object whose `sample` draws tasks of these sizes.
    """

    is_classification: ClassVar[bool] = True


class TransformKeys(PluginKeys):
    """Keys of a gradient transform, `inner.transform`. `code` is called with (keys), returns init and apply."""

    plugin_group: ClassVar[str] = TRANSFORMS
    plugin_tag: ClassVar[str] = "name"

    name: str
    parameters: Patterns = Field(["*"], description="patterns of the parameter names that are transformed")
    adapted: bool = Field(
        False,
        description="whether the meta-parameters xi take a gradient step of their own from the second inner step on",
    )


# The class that the keys of a group are derived from, and what messages call it.
BASES: dict[str, tuple[type[PluginKeys], ...]] = {
    NETWORKS: (NetworkKeys,),
    TASKS: (TasksKeys, FewShotKeys),
    TRANSFORMS: (TransformKeys,),
}
