"""Makes a virtual environment and installs into it: `tools/install.py STAMP WHAT ARGUMENTS…`.

make calls it, with any Python that is new enough and before anything is installed. STAMP is the
file that says that all is there; WHAT names it for people; ARGUMENTS are pip's.
"""

from __future__ import annotations

import fcntl
import importlib.util
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path

PIP = ("-m", "pip", "--disable-pip-version-check")
NO_ENSUREPIP = """This Python cannot make a virtual environment: it has no ensurepip. Type
    sudo apt install python3-venv
(Debian and Ubuntu), or name another Python, as in: make demo PYTHON=python3.13"""
READ_ONLY = """Relay cannot write to {folder}. Where this folder is read-only, name another one:
    make demo VENV=/tmp/relay-venv"""
NOT_INSTALLED = """pip could not install {what}; the lines above say why.
Where they say that there is no network, or no such version: pip has to reach PyPI, or a mirror of
it, this once. After that `make demo` needs no network."""


def main(stamp: Path, what: str, arguments: list[str]) -> int:
    """Install, one at a time; a second call waits for the first."""
    begun = stamp.with_name(".installing")
    try:
        with Path(__file__).open("rb") as lock:
            wait_for_others(lock.fileno())
            if not is_whole(stamp.parent, begun):
                make_anew(stamp.parent)
            begun.touch()
            if not install(stamp.parent / "bin" / "python", what, arguments):
                print(NOT_INSTALLED.format(what=what), file=sys.stderr)
                return 1
            begun.replace(stamp)
    except KeyboardInterrupt:
        print("\nStopped. The next `make` begins again.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"{error}\n{READ_ONLY.format(folder=stamp.parent)}", file=sys.stderr)
        return 1
    return 0


def wait_for_others(lock: int) -> None:
    """Hold the lock until this process ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Another `make` installs; waiting for it …")
        fcntl.flock(lock, fcntl.LOCK_EX)


def is_whole(venv: Path, begun: Path) -> bool:
    """Whether a virtual environment is there, has pip, and no installation was cut short in it."""
    python = venv / "bin" / "python"
    if begun.exists() or not python.exists():
        return False
    asked = subprocess.run([python, *PIP, "--version"], capture_output=True, check=False)
    return asked.returncode == 0


def make_anew(venv: Path) -> None:
    """Make an empty virtual environment, in place of one that is half made."""
    if importlib.util.find_spec("ensurepip") is None:
        raise SystemExit(NO_ENSUREPIP)
    say(f"Making {venv} …")
    if venv.is_symlink():
        venv.unlink()
    elif venv.exists():
        shutil.rmtree(venv)
    venv.mkdir(parents=True)  # says why it cannot, in fewer words than venv
    command = [sys.executable, "-m", "venv", venv]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise SystemExit(made.stdout + made.stderr)


def install(python: Path, what: str, arguments: list[str]) -> bool:
    """Run pip, and count the packages on a terminal; print its last lines if it fails."""
    say(f"Installing {what}. Later starts skip this …")
    # What is imported is compiled then; compiling all of it takes longer than the rest.
    command = [python, *PIP, "install", "--no-compile", "--progress-bar", "off", *arguments]
    last: deque[str] = deque(maxlen=12)
    packages = 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        for line in pip.stdout or ():
            last.append(line)
            if line.startswith("Collecting "):
                packages += 1
                count(f"  {packages} packages found, {line.split()[1].partition('==')[0]}")
            elif line.startswith("Installing collected"):
                count(f"  installing {packages} packages")
    count("")
    if pip.returncode:
        print("".join(last), file=sys.stderr, end="")
    return pip.returncode == 0


def say(words: str) -> None:
    """Print a line now."""
    print(words, flush=True)


def count(words: str) -> None:
    """Show words in place of the last ones; nothing where nobody watches."""
    if sys.stdout.isatty():
        print(f"\r{words:<60.60}", end="" if words else "\r", flush=True)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
