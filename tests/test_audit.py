"""The audit of dependencies fails on a vulnerability, never for want of a network."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / ".ci" / "audit.py"


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOOD = {"name": "numpy", "version": "2.4.6", "vulns": []}
BAD = {
    "name": "pillow", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1", "2.0"]}],
}  # fmt: skip
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found"}


def test_what_is_said(audit):
    assert audit.verdict([GOOD, SKIPPED], "") == (
        "1 packages audited, no known vulnerability; 1 not looked up.", 0,
    )  # fmt: skip
    text, status = audit.verdict([GOOD, BAD, SKIPPED], "")
    assert status == 1
    assert "pillow 1.0: CVE-1, fixed in 1.1, 2.0" in text
    assert audit.verdict([SKIPPED, SKIPPED], "") == (  # what nobody knows is not called safe
        "Not audited, the data was not reached: it knows none of the 2 packages.", 0,
    )  # fmt: skip


def test_no_program_and_no_report_are_said(audit, tmp_path):
    assert audit.audit(str(tmp_path / "gone"), "x") == ([], "pip-audit could not be installed")
    program = tmp_path / "pip-audit"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no route to host')\n")
    program.chmod(0o755)
    assert audit.audit(str(program), "x") == ([], "no route to host")
