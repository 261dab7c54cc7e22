"""All benchmarks that need no GPU, one after the other: `python -m benchmarks [NAME ...]`; results go to results/.

Takes about half an hour; each one waits up to two minutes for a quiet machine first.
"""

from __future__ import annotations

import subprocess
import sys

QUICK = (
    "warm",
    "coldstart",
    "dispatch",
    "idle",
    "followers",
    "pages",
    "viewers",
    "throughput",
    "manifest",
    "batch",
    "turns",
    "recovery",
)
LONG = ("siege", "failures", "cancels", "resume", "long_idle")
PATIENT = QUICK[:-1]


def main() -> int:
    names = sys.argv[1:] or [*QUICK, *LONG]
    if unknown := sorted(set(names) - {*QUICK, *LONG}):
        raise SystemExit(f"no benchmark {unknown[0]!r}; there are {', '.join((*QUICK, *LONG))}")
    codes = [_run(name) for name in names]
    return max(codes)


def _run(name: str) -> int:
    print(f"--- {name}", flush=True)
    patience = ("--patience", "120") if name in PATIENT else ()
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *patience], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
