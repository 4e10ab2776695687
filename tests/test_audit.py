"""The audit of dependencies fails on a vulnerability, never because the network is missing."""

import runpy
import sys
from pathlib import Path

AUDIT = runpy.run_path(str(Path(__file__).parents[1] / ".ci" / "audit.py"))
GOOD = {"name": "numpy", "version": "2.4.6", "vulns": []}
BAD = {
    "name": "pillow", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1", "2.0"]}],
}  # fmt: skip
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found"}


def test_the_message_and_the_exit_status():
    verdict = AUDIT["verdict"]
    assert verdict([GOOD, SKIPPED], "") == (
        "1 packages audited, no known vulnerability; 1 not looked up.", 0,
    )  # fmt: skip
    text, status = verdict([GOOD, BAD, SKIPPED], "")
    assert status == 1
    assert "pillow 1.0: CVE-1, fixed in 1.1, 2.0" in text
    assert verdict([SKIPPED, SKIPPED], "") == (  # unknown packages are not called safe
        "Not audited: pip-audit has data on none of the 2 packages.", 0,
    )  # fmt: skip


def test_a_missing_program_and_a_missing_report_are_named(tmp_path):
    audit = AUDIT["audit"]
    assert audit(str(tmp_path / "gone"), "x") == ([], "pip-audit could not be installed")
    program = tmp_path / "pip-audit"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no route to host')\n")
    program.chmod(0o755)
    assert audit(str(program), "x") == ([], "no route to host")
