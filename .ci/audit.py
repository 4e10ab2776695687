"""Looks up known vulnerabilities of installed packages: `python .ci/audit.py PIP-AUDIT SITE`.

A known vulnerability gives exit status 1. Being offline is no failure: one line says how many
packages were looked up. pip-audit reports "none found" even for packages that its database does
not know, so this script counts those separately.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def audit(program: str, site: str) -> tuple[list[dict[str, Any]], str]:
    """Returns the packages that pip-audit lists for a folder, or the reason for having none."""
    command = [program, "--path", site, "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        return json.loads(done.stdout)["dependencies"], ""
    except FileNotFoundError:
        return [], "pip-audit could not be installed"
    except subprocess.TimeoutExpired:
        return [], "no answer in ten minutes"
    except ValueError:  # no report, because the database was unreachable
        words = done.stderr.strip().splitlines() or ["no report"]
        return [], words[-1][:200]


def verdict(packages: list[dict[str, Any]], reason: str) -> tuple[str, int]:
    """Returns the text to print and the exit status."""
    asked = [package for package in packages if "vulns" in package]
    known = [
        f"{package['name']} {package['version']}: {flaw['id']}, fixed in "
        f"{', '.join(flaw.get('fix_versions') or ['no version yet'])}"
        for package in asked
        for flaw in package["vulns"]
    ]
    if known:
        return "\n".join(["Known vulnerabilities:", *known]), 1
    if not asked:
        reason = reason or f"the vulnerability database has none of the {len(packages)} packages"
        return f"Not audited: {reason}.", 0
    rest = len(packages) - len(asked)
    return f"{len(asked)} packages audited, no known vulnerability; {rest} not looked up.", 0


if __name__ == "__main__":
    text, status = verdict(*audit(*sys.argv[1:3]))
    sys.stdout.write(f"{text}\n")
    sys.exit(status)
