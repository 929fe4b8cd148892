"""`mamlcli doctor`: what this installation has, what would not work, and what mends it."""

from __future__ import annotations

from mamlcli.cli import console
from mamlcli.cli.common import JsonOption
from mamlcli.errors import MamlError


def doctor(as_json: JsonOption = False) -> None:
    """Look at this installation: versions, device, data, disk; what would not work, and what mends it.

    The exit code is 1 if something is broken that the bare commands need, such as a package that cannot be imported
    or a folder that cannot be written; data sets and extras that are not here are listed, and are no error.

    Examples:

      mamlcli doctor

      mamlcli doctor --json
    """
    from mamlcli.diagnosis import broken, diagnose, diagnosis_to_json
    from mamlcli.diagnosis_tables import diagnosis_parts

    findings = diagnose()
    if as_json:
        console.result_json(diagnosis_to_json(findings))
    else:
        for part in diagnosis_parts(findings):
            console.result(part)
    if bad := broken(findings):
        raise MamlError("this installation", expected="all that the bare commands need",
                        got=f"{', '.join(finding.name for finding in bad)} broken",
                        next_step=bad[0].remedy)  # fmt: skip
