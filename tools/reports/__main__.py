"""`make reports`: what others ran into, posted to a running Relay; a line each says what it did."""

from __future__ import annotations

import argparse
import re
import sys
import time
import unicodedata

from tools.reports.inputs import Input, inputs
from tools.reports.stage import Stage, running

LONGEST = 230  # characters of what Relay did


def main() -> int:
    """Post each of them, and say what came of it; 1 where anything was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tools.reports", description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, help="only these rows of reports, as in 1 17")
    chosen = parser.parse_args().rows
    wanted = [one for one in inputs() if not chosen or one.row in chosen]
    started = time.monotonic()
    with running() as stage:
        wrong = sum(not posted(stage, one) for one in wanted)
    took = time.monotonic() - started
    print(f"{len(wanted)} inputs in {took:.0f} s, {wrong} wrong")
    return min(wrong, 1)


def posted(stage: Stage, one: Input) -> bool:
    """Post one, and print its line; whether Relay did what it has to."""
    try:
        did = one.act(stage)
    except Exception as error:  # whatever it is, the others are posted too
        did = f"{type(error).__name__}: {error}"
    pattern = ".*".join(re.escape(part.strip()) for part in one.right.split("…"))
    is_right = re.search(pattern, did, re.DOTALL) is not None
    told = seen(did) if len(did) <= LONGEST or not is_right else seen(did[:LONGEST]) + "…"
    line = f"{'ok   ' if is_right else 'WRONG'} {one.row:>2}  {seen(one.put)}: {told}"
    print(line if is_right else f"{line}\n          expected: {seen(one.right)}", flush=True)
    return is_right


def seen(text: str) -> str:
    """The text on one line, with what nobody sees by its number."""
    return "".join(
        char if char == " " or unicodedata.category(char)[0] in "LNPS" else f"\\u{ord(char):04x}"
        for char in text
    )


if __name__ == "__main__":
    sys.exit(main())
