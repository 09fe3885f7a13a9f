"""`python tools/model.py`: searches docs/protocol/message.pml whole, and each of its mutants.

It needs Spin and a C compiler, and of Python the standard library alone. It ends with 1 unless the
model keeps its promises and each mutant breaks one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

MODEL = Path(__file__).parent.parent / "docs" / "protocol" / "message.pml"
WHOLE = "two attempts, with staff, a STOP and a fallback"
# What is searched, and how much of it: all at once would take some hundred million states.
SIZES = {
    WHOLE: ("TRIES=2", "ACTS=1", "STOPS=1", "FALLBACKS=1"),
    "three attempts, with none of these": ("TRIES=3", "ACTS=0", "STOPS=0", "FALLBACKS=0"),
}
IN_THE_WHOLE = ("STOP_AT_CLAIM", "UNBEGUN_COUNTS")  # mutants that the three attempts do not show


class Search(NamedTuple):
    """A search of the model: what it is called, what is defined in it, and whether it must fail."""

    name: str
    defined: tuple[str, ...]
    is_mutant: bool


def searches() -> list[Search]:
    """The model in each size, then its mutants as its first lines have them."""
    whole, three = SIZES.values()
    head = MODEL.read_text("utf-8").partition("#ifndef")[0]
    planted = re.findall(r"^#define (\w+) +(\d+) +/\* (.+) \*/$", head, re.MULTILINE)
    return [Search(name, size, is_mutant=False) for name, size in SIZES.items()] + [
        Search(f"{name}: {what}", (*size, f"MUTANT={number}"), is_mutant=True)
        for name, number, what in planted
        for size in [whole if name in IN_THE_WHOLE else three]
    ]


def run(search: Search) -> bool:
    """Search, and print what came of it in a line; whether that is as it should be."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:

        def call(*command: str) -> str:
            ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if ran.returncode:
                raise SystemExit(f"{command[0]} failed:\n{ran.stdout}{ran.stderr}")
            return ran.stdout

        call("spin", *(f"-D{one}" for one in search.defined), "-a", str(MODEL))
        optimised = "-O0" if search.is_mutant else "-O2"  # most mutants are found at once
        call("gcc", optimised, "-w", "-DSAFETY", "-DNOFAIR", "-o", "pan", "pan.c")
        said = call("./pan", "-E", "-m10000")
    states = int(re.findall(r"(\d+) states, stored", said)[0])
    is_broken = "errors: 0" not in said
    is_whole = "max search depth too small" not in said
    word = "broken" if is_broken else "holds" if is_whole else "not searched whole"
    seconds = time.monotonic() - began
    print(f"{word:7} {states:>10,} states {seconds:>5.1f} s  {search.name}", flush=True)
    return is_broken == search.is_mutant and is_whole


def main() -> int:
    """Run all searches, as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return 0 if all([*pool.map(run, searches())]) else 1


if __name__ == "__main__":
    sys.exit(main())
