"""LaTeX read without LaTeX: what it shows for a text, and whether a table is well formed."""

from __future__ import annotations

import re

_COMMANDS = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textquotesingle": "'",
    "textasciigrave": "`",
    "char34": '"',
    "pm": "±",
    "allowbreak": "",
}
_TOKEN = re.compile(r"\\([A-Za-z]+[0-9]*)(?:\{\}|(?=\W))|\\([{}$&#%_])|([{}$])|([^\\{}$&#%_~^])")


def text_of_latex(escaped):
    """Return what LaTeX shows for a text; anything that is special and not escaped is an error."""
    shown, depth, place = [], 0, 0
    while place < len(escaped):
        token = _TOKEN.match(escaped, place)
        assert token, f"not escaped: {escaped[place:]!r}"
        command, symbol, group, char = token.groups()
        if command:
            shown.append(_COMMANDS[command])
        elif group in ("{", "}"):
            depth += 1 if group == "{" else -1
            assert depth >= 0
        elif not group:
            shown.append(symbol or char)
        place = token.end()
    assert depth == 0
    return "".join(shown)


def check_latex(text):
    """Require what any LaTeX requires of a document: balanced environments and braces, cells as many as columns."""
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", code):
        stack.append(name) if kind == "begin" else None
        assert kind == "begin" or stack.pop() == name
    assert not stack
    bare = re.sub(r"\\[\\{}$&#%_]", "", code)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    spec = re.search(r"\\begin\{tabular\}\{((?:[lr]|p\{[0-9.]+\\linewidth\})+)\}\n", code)[1]
    num_columns = len(re.sub(r"\{[^}]*\}", "", spec))
    for line in (
        re.search(r"\\toprule(.*)\\bottomrule", code, re.DOTALL)[1].replace(r"\midrule", "").strip().splitlines()
    ):
        if line.strip():
            assert line.endswith(r" \\")
            assert len(re.findall(r"(?<!\\)&", line)) == num_columns - 1
