"""YAML becomes values here, by the type that the schema gives each key: no text is taken for a number or a date.

Numbers are decimal: 010 is ten, and 1:30, 0x10 and dates are no numbers.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Hashable, Mapping
from decimal import Decimal

import yaml

from mamlcli.common.words import brief, first_line
from mamlcli.recipe.keys import tags_of
from mamlcli.recipe.kinds import KeyPath, Kinds, kinds_of

_TAG = "tag:yaml.org,2002:"

_MERGE = f"{_TAG}merge"  # of the key <<, which takes over the keys of another mapping

_NONE_WORD = "!mamlcli-none-word"

_GUESSED = tuple(f"{_TAG}{name}" for name in ("bool", "int", "float", "null"))  # tags of scalars that are no text

_MOST_NODES = 20_000  # of a recipe; aliases of aliases would multiply without end

_NULLS = ("", "~", "null", "Null", "NULL")

_BOOLS = re.compile(r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF")

_WITH_EXPONENT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE]\+?[0-9]{1,2}")  # 1e4, 2.5e3; not 1e-3

_INTEGER = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")

_NUMBER = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class NoneWord:
    """Stands for the word None where null is meant; no key takes it."""

    def __repr__(self) -> str:
        return "'None'"


class _Strict(yaml.constructor.SafeConstructor, yaml.resolver.Resolver):
    """Makes values of YAML safely, with decimal numbers alone, no dates, texts as keys, and no key twice."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (a table of PyYAML, which is a class's own)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.MarkedYAMLError(problem="a key that is no name", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {brief(key)} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        return int(str(self.construct_scalar(node)).replace("_", ""))

    def construct_none_word(self, node: yaml.ScalarNode) -> NoneWord:
        return NoneWord()


for _name, _pattern in {"bool": _BOOLS, "int": _INTEGER, "float": _NUMBER, "merge": re.compile("<<")}.items():
    _Strict.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"(?:{_pattern.pattern})\Z"), None)
_Strict.add_implicit_resolver(f"{_TAG}null", re.compile(r"(?:~|null|Null|NULL|)\Z"), None)
_Strict.add_constructor(f"{_TAG}int", _Strict.construct_decimal)  # type: ignore[type-var]  # of every class of loaders
_Strict.add_constructor(_NONE_WORD, _Strict.construct_none_word)  # type: ignore[type-var]


class _Loader(_Strict, yaml.SafeLoader):
    """Loads any YAML; its messages are those that users see."""


_FAST: type[yaml.SafeLoader | yaml.CSafeLoader] | None = (
    None  # loads the same five times as fast, where PyYAML was built with libyaml
)
if yaml.__with_libyaml__:

    class _FastLoader(_Strict, yaml.CSafeLoader):
        """Loads plain YAML alone: libyaml differs in tabs and in odd characters, and has no bound on levels."""

    _FAST = _FastLoader

_QUOTED = r"""'[ -&(-~]*'|"[ !#-\[\]-~]*\""""
_WORD = rf"(?:[A-Za-z0-9_./][A-Za-z0-9_./+~*-]*|-[A-Za-z0-9_./]+|{_QUOTED})"
_WORDS = r"[A-Za-z][A-Za-z0-9_./+~();,-]*(?: [A-Za-z0-9_./+~();,-]+)+"
_VALUE = rf"(?:{_WORD}|{_WORDS}|\[(?:{_WORD}(?:, {_WORD})*)?\])"

# What is plain: on each line a key with a value, an entry of a list, or a comment, on a few levels, in ASCII.
_PLAIN = re.compile(rf"(?: {{0,12}}(?:#[ -~]*|(?:- {_VALUE}|[a-z_][a-z0-9_]*:(?: {_VALUE})?)(?: +#[ -~]*)?)?\n)*")


def tree_of(text: str, kinds: Kinds | None = None) -> tuple[object, dict[KeyPath, int]]:
    """Return the values of a recipe in YAML, typed as its keys want them, and the line of every key.

    Args:
        text: of the file.
        kinds: what the keys hold, for a file that is no recipe.

    Raises:
        yaml.YAMLError: it is no YAML; ValueError: a value that cannot be read; RecursionError: too many levels.
    """
    return _loaded(text, (), kinds)


def value_of(raw: str, path: KeyPath, tags: Mapping[str, str] | None = None) -> object:
    """Return the value of one key from the command line; raises what `tree_of` does.

    The characters of a text are its own: `no`, `2024-05-01` and `#1` stay what they are. null (or nothing) is none
    where the key may have none, and a text in quotes is what the quotes hold. A list of texts may do without brackets.
    Keys of a plug-in are known by the tags that name it, see `keys.section_at`.
    """
    kinds_here = kinds_of(tags or {})
    kinds = kinds_here.get(path, frozenset())
    if not kinds & {"text", "texts"} or (raw.lstrip().startswith("{") and "section" in kinds):
        return _loaded(raw, path, kinds_here)[0] if raw.strip() else None
    if raw.strip() in _NULLS and (not raw.strip() or "null" in kinds):
        return None
    if raw.strip() == "None" and "null" in kinds:
        return NoneWord()
    if "text" in kinds:
        return _text(raw)
    with contextlib.suppress(ValueError):
        entries = json.loads(raw, strict=False)
        if isinstance(entries, list) and all(isinstance(entry, str) for entry in entries):
            return entries
    inside = raw.strip()[1:-1] if _is_bracketed(raw.strip()) else raw.strip()
    return [_text(part) for part in _split(inside)]


def _text(raw: str) -> object:
    """Return a text as it was typed, or what is in its quotes."""
    word = raw.strip()
    if len(word) > 1 and word[0] == word[-1] == '"':
        with contextlib.suppress(ValueError):
            return json.loads(word, strict=False)  # which, unlike YAML, takes every character
    if len(word) > 1 and word[0] in "'\"":
        with contextlib.suppress(yaml.YAMLError):
            node = yaml.compose(word, Loader=_Loader)
            if isinstance(node, yaml.ScalarNode) and node.style == word[0]:
                return node.value
    return raw


def _is_bracketed(word: str) -> bool:
    """Return whether the first bracket of a word is closed by its last; `[ab]*` and `[a][b]` are patterns."""
    if not (word.startswith("[") and word.endswith("]")):
        return False
    depth = 0
    for position, char in enumerate(word):
        depth += {"[": 1, "]": -1}.get(char, 0)
        if depth == 0:
            return position == len(word) - 1
    return False


def _split(text: str) -> list[str]:
    """Return the parts between the commas that are in neither quotes nor brackets, without space around them."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if char in "'\"" and (quote == char or not (quote or parts[-1].strip())):
            quote = "" if quote else char
        depth += {"[": 1, "]": -1}.get(char, 0) if not quote else 0
        if char == "," and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def syntax_hint(error: yaml.MarkedYAMLError) -> str:
    """Return how a mistake in the form of YAML is usually mended; empty where that is not known."""
    text = f"{error.context} {error.problem}"
    if "\\t" in text:
        return " Indent with spaces; YAML takes no tabs."
    signs = ("cannot start any token", "alias", "anchor", "not allowed here", "for the tag", "a tag")
    if any(sign in text for sign in signs):
        return ' Put a text with characters that YAML uses itself (@ % & * ! : # -) into quotes, as in path: "@data".'
    return ""


# Nodes of YAML -------------------------------------------------------------------------------------------------


def _loaded(text: str, path: KeyPath, kinds: Kinds | None) -> tuple[object, dict[KeyPath, int]]:
    if _FAST is not None and _PLAIN.fullmatch(text):
        with contextlib.suppress(yaml.YAMLError, ValueError):  # of which the other loader says more
            return _loaded_by(_FAST, text, path, kinds)
    return _loaded_by(_Loader, text, path, kinds)


def _loaded_by(
    kind: type[yaml.SafeLoader | yaml.CSafeLoader], text: str, path: KeyPath, kinds: Kinds | None
) -> tuple[object, dict[KeyPath, int]]:
    loader = kind(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        typed = _Typed(kinds_of(tags_of(_names_in(node))) if kinds is None else kinds)
        node = typed.node(node, path)
        return loader.construct_document(node), typed.lines
    except (yaml.YAMLError, ValueError, RecursionError):
        raise
    except Exception as error:  # what PyYAML raises for a value that is not what its tag says, as !!bool maybe
        raise ValueError(f"a value that is not what its tag says ({first_line(error)})") from error
    finally:
        loader.dispose()


def _names_in(node: yaml.Node, levels: int = 3) -> dict[str, object]:
    """Return the texts of the upper levels of a document, to find the names of plug-ins in it."""
    found: dict[str, object] = {}
    for key, below in node.value if isinstance(node, yaml.MappingNode) and levels else ():
        if isinstance(key, yaml.ScalarNode):
            is_text = isinstance(below, yaml.ScalarNode)
            found[str(key.value)] = str(below.value) if is_text else _names_in(below, levels - 1)
    return found


class _Typed:
    """Gives the nodes of a document the types that their keys want, and notes the lines of the keys."""

    def __init__(self, kinds: Kinds) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._kinds = kinds
        self._num_nodes = 0

    def node(self, node: yaml.Node, path: KeyPath) -> yaml.Node:
        """Return a node that stands at a path of keys, with all below it."""
        self._num_nodes += 1
        if self._num_nodes > _MOST_NODES:
            raise ValueError(f"more than {_MOST_NODES:,} values")
        if isinstance(node, yaml.MappingNode):
            value = [entry for key, below in node.value for entry in [self._entry(key, below, path)]]
            return yaml.MappingNode(node.tag, value, node.start_mark, node.end_mark, node.flow_style)
        if isinstance(node, yaml.SequenceNode):
            entries = [self.node(entry, (*path, "")) for entry in node.value]
            return yaml.SequenceNode(node.tag, entries, node.start_mark, node.end_mark, node.flow_style)
        return _typed_scalar(node, self._kinds.get(path, frozenset())) if isinstance(node, yaml.ScalarNode) else node

    def _entry(self, key: yaml.Node, below: yaml.Node, path: KeyPath) -> tuple[yaml.Node, yaml.Node]:
        if key.tag == _MERGE:
            return key, self._merged(below, path)
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key that is no name", problem_mark=key.start_mark)
        if _is_plain(key):
            key = yaml.ScalarNode(f"{_TAG}str", key.value, key.start_mark, key.end_mark)
        inner = (*path, str(key.value))
        self.lines[inner] = key.start_mark.line + 1
        return key, self.node(below, inner)

    def _merged(self, below: yaml.Node, path: KeyPath) -> yaml.Node:
        """Return what << takes over: a mapping, or a list of them, whose keys are those of the path."""
        if isinstance(below, yaml.SequenceNode):
            parts = [self.node(part, path) for part in below.value]
            return yaml.SequenceNode(below.tag, parts, below.start_mark, below.end_mark)
        return self.node(below, path)


def _is_plain(node: yaml.ScalarNode) -> bool:
    """Return whether a scalar is in no quotes; libyaml's has an empty style."""
    return not node.style


def _typed_scalar(node: yaml.ScalarNode, kinds: frozenset[str]) -> yaml.ScalarNode:
    """Return a scalar as its key wants it; one in quotes, or with a tag of its own, says itself what it is."""
    if not _is_plain(node):
        return node
    if kinds & {"text", "texts"} and node.tag in (*_GUESSED, f"{_TAG}str"):
        if node.tag == f"{_TAG}null" and ("null" in kinds or not node.value):
            return node
        is_none_word = node.value == "None" and "null" in kinds
        return yaml.ScalarNode(_NONE_WORD if is_none_word else f"{_TAG}str", node.value, node.start_mark)
    if "integer" in kinds and "number" not in kinds and _WITH_EXPONENT.fullmatch(node.value):
        number = Decimal(node.value)
        if number == number.to_integral_value():
            return yaml.ScalarNode(f"{_TAG}int", str(int(number)), node.start_mark)
    return node
