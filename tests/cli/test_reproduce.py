"""`mamlcli reproduce`."""

import json

from mamlcli.studies.claims.decisions import UNDECIDED


def test_smoke_runs_everything_and_decides_only_what_is_exact(tmp_path, cli, with_glyphs):
    done = cli("reproduce", "--scale", "smoke", "--seeds", "1", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [claim["id"] for claim in found["claims"]] == ["C1", "C2", "C3", "C4", "C5", "C6", "C7"]
    assert {claim["verdict"] for claim in found["claims"]} == {UNDECIDED}
    checks = [check for claim in found["claims"] for check in claim["evidence"]["checks"]]
    assert checks
    assert all(check["holds"] for check in checks)
    folder = tmp_path / "runs" / "reproduce-smoke"
    assert "C7" in (folder / "report.md").read_text()
    assert "data:image/png;base64," in (folder / "report.html").read_text()
    # Again: every cell was done, nothing is trained, the result is the same.
    again = cli("reproduce", "--scale", "smoke", "--seeds", "1", "--json")
    assert again.err.count("(was done)") > 10
    assert json.loads(again.out)["claims"] == found["claims"]


def test_unknown_scale_is_refused_with_the_nearest_name(tmp_path, cli):
    done = cli("reproduce", "--scale", "labtop")
    assert done.code == 1
    assert "Did you mean 'laptop'?" in done.err
    assert not (tmp_path / "runs").exists()
