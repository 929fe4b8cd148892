"""Words as other programs want them (`--inner.lr=1`, `+inner.lr=1`, `inner.lr 1`) are answered with ours here."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Sequence
from functools import lru_cache

from mamlcli.recipe.keys import known_keys, sections

# A sign of another program, a key, and what joins it with its value: inner.lr=1, ++inner.lr=1, inner.lr: 1
_WORD = re.compile(
    r"(?P<sign>--?|\+{1,2}|~)?(?P<key>[A-Za-z_][\w.-]*)(?:(?P<join>\s*(?:=|:(?!=))\s*)(?P<value>.*))?", re.DOTALL
)


def is_key(word: str) -> bool:
    """Return whether a word begins as a change of a key does, in our form or in that of another program.

    >>> [is_key(word) for word in ("inner.lr", "--inner.lr=1", "seed:", "~inner.lr", "+my.key=1", "my.yaml")]
    [True, True, True, True, True, False]
    """
    match = _WORD.fullmatch(word)
    if match is None:
        return False
    return _is_known(match["key"]) or bool(match["join"] and "=" in match["join"])


def without_habits(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the words of the form key=value, and for each other one that names a key what to type instead.

    A word that names no key is left for the reader of overrides, which refuses it.
    """
    waiting, ours, problems = list(words), [], []
    while waiting:
        word = waiting.pop(0)
        match = _WORD.fullmatch(word)
        if match is None or _is_ours(match) or not (match["sign"] or _is_known(match["key"])):
            ours.append(word)
            continue
        is_removed = match["sign"] == "~"
        if not match["value"] and waiting and waiting[0].startswith(("=", ":")):
            word = f"{word} {waiting.pop(0)}"
        value = match["value"] or word.partition(" ")[2][1:]
        if not (value or is_removed) and waiting and not is_key(waiting[0]):
            value = waiting.pop(0)
            word = f"{word} {value}"
        problems.append(_answer(word, match["key"], value.strip(), is_removed=is_removed))
    return ours, problems


def override_word(key: str, value: str) -> str:
    """Return a change of a key as one word of a shell."""
    return shlex.quote(f"{key}={value}")


def habit_among_options(words: Sequence[str]) -> str | None:
    """Return what to type in place of the first option that is a key of recipes, `--inner.lr=1`; None if there is none.

    Args:
        words: of the command line, the command first.
    """
    for position, word in enumerate(words):
        if word == "--":
            return None
        match = _WORD.fullmatch(word)
        if match and (match["sign"] or "").startswith("-") and _is_no_option(match, words[0]):
            return without_habits(words[position : position + 3])[1][0]
    return None


def _is_no_option(match: re.Match[str], of_command: str) -> bool:
    """Return whether a word is a key, which may be misspelt, and no option of the command: no option has a dot."""
    key = match["key"]
    if "." in key:
        return match["sign"] == "--" or key.partition(".")[0] in {section.path for section in sections()}
    return _is_known(key) and of_command != "data"  # data draws by a --seed of its own


def _answer(typed: str, key: str, value: str, *, is_removed: bool) -> str:
    meant = difflib.get_close_matches(key, known_keys({}), n=1, cutoff=0.8)
    key = meant[0] if meant else key
    known = known_keys({}).get(key)
    is_null_known = known is not None and "`null`" in known.types
    if is_null_known and (is_removed or value == "None"):
        value = "null"
    elif not value and known is not None:
        is_switch = "true or false" in known.types and not is_removed
        value = "true" if is_switch else known.default or ""
    return f"expected key.path=value, got {typed!r}. Type: {override_word(key, value or 'VALUE')}"


def _is_ours(match: re.Match[str]) -> bool:
    return not match["sign"] and "=" in (match["join"] or "")


def _is_known(key: str) -> bool:
    return key in _names()


@lru_cache
def _names() -> frozenset[str]:
    return frozenset(known_keys({}))
