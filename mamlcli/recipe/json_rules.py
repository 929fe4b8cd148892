"""Rules between keys become JSON Schema here: where some keys have certain values, another key may have a few only.

Each rule of `rules` stands in `FORMS` by its key; None where JSON Schema cannot say it, since it compares numbers of
several keys.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue

from mamlcli.common.names import CLASS_SPLITS, GREY_SOURCES, SPLITS
from mamlcli.recipe.keys import known_keys
from mamlcli.recipe.network_rules import SENTENCES
from mamlcli.recipe.reading import value_of
from mamlcli.recipe.rules import RULES, Rule
from mamlcli.recipe.schema import Recipe
from mamlcli.recipe.section import Section
from mamlcli.recipe.tasks_schema import ClassKeys, SyntheticKeys

# Words of YAML 1.1 for true and false, which recipes may have; editors read all but true and false as texts.
TRUE_WORDS = ("yes", "Yes", "YES", "on", "On", "ON")

FALSE_WORDS = ("no", "No", "NO", "off", "Off", "OFF")


# A key is completed by what the section says of it; the YAML language server would offer a rule's beside it.
_UNSUGGESTED = {"doNotSuggest": True}


def one_of(*values: object) -> JsonSchemaValue:
    """Return the schema of a value that is one of these."""
    return {"enum": list(values)}


TRUE, FALSE, NULL = one_of(True, *TRUE_WORDS), one_of(False, *FALSE_WORDS), one_of(None)


@dataclass(frozen=True)
class Form:
    """Says a rule, or one case of it, in JSON Schema.

    Attributes:
        then: what the rule's key may hold.
        when: dotted keys with what they hold where that is so, as written or by default.
        is_of_written: whether the key may also be left out, whatever its default is.
    """

    then: JsonSchemaValue
    when: Mapping[str, JsonSchemaValue]
    is_of_written: bool = False

    def schema(self, key: str, sentence: str) -> JsonSchemaValue:
        """Return the rule about a key; editors show the sentence where it is broken."""
        cases = [_holds(name, value, self.when) for name, value in self.when.items()]
        then = {**self.then, "errorMessage": sentence, **_UNSUGGESTED}
        may_lack = self.is_of_written or _takes(then, key, {})
        return {
            "if": cases[0] if len(cases) == 1 else {"allOf": cases},
            "then": _at(key, then, may_lack=may_lack, words={"errorMessage": sentence, **_UNSUGGESTED}),
        }


def only(then: JsonSchemaValue, *when: Mapping[str, JsonSchemaValue], is_of_written: bool = False) -> tuple[Form, ...]:
    """Return that a key may hold this only, in any of the cases; the attributes are those of `Form`."""
    return tuple(Form(then, case, is_of_written) for case in when)


def _holds(key: str, wanted: JsonSchemaValue, case: Mapping[str, JsonSchemaValue]) -> JsonSchemaValue:
    """Return the schema of recipes in which a key holds what is wanted, as written or by default."""
    kinds = case.get("model.kind", {}).get("enum", ())
    return _at(key, wanted, may_lack=_takes(wanted, key, {"model": kinds[0]} if len(kinds) == 1 else {}))


def _at(key: str, wanted: JsonSchemaValue, *, may_lack: bool, words: JsonSchemaValue | None = None) -> JsonSchemaValue:
    """Return the schema of recipes whose key holds what is wanted; or that lack it, where they may.

    Args:
        key, wanted: dotted, and the schema of its value.
        may_lack: whether the key may be left out.
        words: what editors are told of every level.
    """
    for name in reversed(key.split(".")):
        needed = {} if may_lack else {"type": "object", "required": [name]}
        wanted = {"properties": {name: wanted}, **needed, **(words or {})}
    return wanted


def _takes(wanted: JsonSchemaValue, key: str, tags: Mapping[str, str]) -> bool:
    """Return whether a key's default is what is wanted."""
    default = known_keys(tags)[key].default
    if default is None:
        return False
    value = value_of(default, tuple(key.split(".")))
    if "enum" in wanted:
        return any(value == known for known in wanted["enum"])
    if not isinstance(value, int | float):
        return False
    is_above = value > wanted.get("exclusiveMinimum", float("-inf")) and value >= wanted.get("minimum", float("-inf"))
    return bool(is_above and value <= wanted.get("maximum", float("inf")))


def _sources(is_wanted: Callable[[type[Section]], bool]) -> JsonSchemaValue:
    """Return the schema of the values of tasks.source whose tasks are as wanted."""
    kinds = typing.get_args(Recipe.model_fields["tasks"].annotation)
    return one_of(*(name for kind in kinds if is_wanted(kind) for name in names_of(kind.model_fields["source"])))


def names_of(field: FieldInfo) -> tuple[str, ...]:
    """Return the names that a key of a closed set may have."""
    return typing.get_args(field.annotation)


_WITHOUT_CLASSES = _sources(lambda tasks: not issubclass(tasks, ClassKeys))

_NUMBERS = _sources(lambda tasks: issubclass(tasks, SyntheticKeys))

_OF_CLASSES = _sources(lambda tasks: getattr(tasks, "is_classification", False) is True)

_OF_NUMBERS = _sources(lambda tasks: getattr(tasks, "is_classification", False) is False)

_NOT_ANIL = one_of("maml", "fomaml", "boil")

# With one inner step of an output layer that starts the same for all classes, nothing below it has a gradient.
_IDLE = {"inner.head": one_of("zero", "shared"), "inner.steps": one_of(1), "inner.adapt": NULL}

_WITHOUT_BATCH_NORM = ({"model.kind": one_of("mlp", "linear")}, {"model.norm": one_of("none", "group", "layer")})

# By the keys of `RULES`, in their order there.
FORMS: dict[str, list[tuple[Form, ...] | None]] = {
    "model.kind": [only({"not": one_of("cnn")}, {"tasks.source": _NUMBERS})],
    "inner.joint_features": [
        only(FALSE, {"inner.algorithm": _NOT_ANIL}),
        only(FALSE, {"model.kind": one_of("python")}),
    ],
    "inner.first_order": [only(TRUE, {"inner.algorithm": one_of("fomaml")}, is_of_written=True)],
    "inner.algorithm": [only(one_of("maml", "fomaml", "anil"), {"model.kind": one_of("linear")})],
    "inner.head": [
        only(one_of("learned"), {"inner.algorithm": one_of("boil")}),
        only(one_of("learned", "zero"), {"tasks.source": _OF_NUMBERS}),
    ],
    "inner.transform.adapted": [only(FALSE, {"inner.transform.name": one_of("none")})],
    "inner.rates": [
        only(one_of("fixed"), {"inner.transform.adapted": TRUE}),
        only(
            one_of("fixed", "step"),
            {**_IDLE, "model.linear_layers": {"minimum": 1}},
            {**_IDLE, "model.kind": one_of("linear"), "model.depth": {"minimum": 2}},
            {**_IDLE, "model.kind": one_of("cnn", "mlp"), "inner.algorithm": _NOT_ANIL},
        ),
    ],
    "outer.schedule": [only(one_of("cosine"), {"outer.lr_min": {"exclusiveMinimum": 0}})],
    "outer.lr_min": [None],
    "outer.weight_decay": [None],
    "outer.multi_step_loss": [only(NULL, {"inner.steps": one_of(1)})],
    "execution.path": [only(one_of("auto", "explicit", "loop"), {"inner.memory": one_of("constant")})],
    "execution.compile": [only(one_of("auto", *FALSE["enum"]), {"execution.path": one_of("loop", "batched")})],
    "execution.cuda_graphs": [only(one_of("auto", "off"), {"execution.path": one_of("loop", "batched")})],
    "execution.chunk": [None],
    "reference.metric": [
        only(one_of("accuracy"), {"tasks.source": _OF_CLASSES}, is_of_written=True)
        + only(one_of("squared-error"), {"tasks.source": _OF_NUMBERS}, is_of_written=True)
    ],
    "reference.value": [only({"maximum": 100}, {"reference.metric": one_of("accuracy")}, is_of_written=True)],
    "reference.steps": [None],
    "validation.metric": [only(one_of("loss", None), {"tasks.source": _OF_NUMBERS})],
    "tasks.class_split": [
        tuple(Form(one_of(*names, None), {"tasks.source": one_of(source)}) for source, names in CLASS_SPLITS.items())
    ],
    "tasks.held_back": [None],
    "evaluation.split": [only(one_of(*SPLITS), {"tasks.held_back": one_of(0)})],
    "evaluation.ways": [only(NULL, {"tasks.source": _WITHOUT_CLASSES}), None],
    "evaluation.shots": [only(NULL, {"tasks.source": one_of("python")})],
    "evaluation.queries": [only(NULL, {"tasks.source": one_of("python")})],
    "evaluation.batch_norm": [
        only(one_of("joint"), *_WITHOUT_BATCH_NORM),
        only(one_of("joint"), {"inner.joint_features": TRUE}),
    ],
    "tasks.augment": [only(one_of([]), {"tasks.source": one_of(*GREY_SOURCES)}, {"tasks.channels": one_of(1)})],
}

# Of the rules of `network_rules`, the one that does not depend on sizes.
_ONE_LAYER = {"model.kind": one_of("linear"), "model.depth": one_of(1), "model.linear_layers": one_of(0)}


def rule_forms() -> list[JsonSchemaValue]:
    """Return all rules between keys that JSON Schema can say."""
    found = [
        form.schema(rule.key, _plain(rule.sentence))
        for rule, forms in zip(RULES, _forms(), strict=True)
        for form in forms or ()
    ]
    return [*found, Form(one_of("learned"), _ONE_LAYER).schema("inner.head", _plain(SENTENCES[-1]))]


def unsaid_rules() -> list[Rule]:
    """Return the rules that JSON Schema cannot say."""
    return [rule for rule, forms in zip(RULES, _forms(), strict=True) if forms is None]


def _forms() -> list[tuple[Form, ...] | None]:
    """Return the forms of each rule of `RULES`, in their order."""
    of_key = {key: iter(forms) for key, forms in FORMS.items()}
    return [next(of_key[rule.key]) for rule in RULES]


def _plain(sentence: str) -> str:
    """Return a sentence of Markdown as text of one line."""
    first, *entries = sentence.replace("`", "").split("\n  - ")
    return f"{first} {'; '.join(entries)}".strip()
