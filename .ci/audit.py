"""Looks up known vulnerabilities of the installed packages: `python .ci/audit.py PIP-AUDIT SITE`.

Prints one line with the number of packages looked up. A known vulnerability gives exit status 1;
being offline does not. pip-audit reports "none found" for packages that are missing from its
database, so they are counted here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def audit(program: str, site: str) -> tuple[list[dict[str, Any]], str]:
    """Returns the packages that pip-audit found in a folder, and the reason if it found none."""
    command = [program, "--path", site, "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        return json.loads(done.stdout)["dependencies"], ""
    except FileNotFoundError:
        return [], "pip-audit could not be installed"
    except subprocess.TimeoutExpired:
        return [], "pip-audit did not answer within ten minutes"
    except ValueError:  # no report: the database was not reached
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
        reason = reason or f"pip-audit has data on none of the {len(packages)} packages"
        return f"Not audited: {reason}.", 0
    rest = len(packages) - len(asked)
    return f"{len(asked)} packages audited, no known vulnerability; {rest} not looked up.", 0


if __name__ == "__main__":
    text, status = verdict(*audit(*sys.argv[1:3]))
    sys.stdout.write(f"{text}\n")
    sys.exit(status)
