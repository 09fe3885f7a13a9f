"""From a clone to the first message: what installs, and what starts web and worker together."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from relay.dev import demo
from relay.errors import RelayError
from tools import install


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a virtual environment is to be; pip itself is left out, since it takes seconds."""
    monkeypatch.setattr(install, "PIP", ("-c", "pass"))
    return tmp_path / "a folder" / "venv"


def test_a_half_made_environment_is_made_anew(
    venv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An environment without pip, or whose installation was cut short, is thrown away; one that is
    whole is kept.
    """
    stamp, begun, python = venv / ".runs", venv / ".installing", venv / "bin/python"
    made: list[Path] = []

    def make_anew(folder: Path) -> None:
        made.append(folder)
        python.unlink(missing_ok=True)
        real_python(folder)

    monkeypatch.setattr(install, "make_anew", make_anew)
    for so_far, spoil in enumerate((lambda: None, python.unlink, begun.touch), 1):
        spoil()
        assert install.main(stamp, "what Relay runs on", []) == 0
        assert (len(made), stamp.exists(), begun.exists()) == (so_far, True, False)
    assert install.main(stamp, "what Relay runs on", []) == 0
    assert len(made) == 3
    assert "Installing what Relay runs on" in capsys.readouterr().out


def real_python(venv: Path) -> None:
    """Something that runs Python, where a virtual environment has it."""
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    (venv / "bin/python").symlink_to(sys.executable)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no ensurepip", "sudo apt install python3-venv"),
        ("no place", "make demo VENV=/tmp/relay-venv"),
        ("no pip", "pip has to reach PyPI"),
    ],
)
def test_what_stops_an_installation_is_named_with_what_to_type(
    fault: str,
    said: str,
    venv: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No ensurepip, a folder that cannot be written, and pip's failure each say what to do; what
    was cut short leaves no stamp.
    """
    stamp = venv / ".runs"
    if fault == "no ensurepip":
        monkeypatch.setattr(install.importlib.util, "find_spec", lambda _name: None)
    elif fault == "no place":
        venv.parent.write_text("a file", "utf-8")
    else:
        real_python(venv)
        monkeypatch.setattr(
            install, "PIP", ("-c", "import sys; sys.exit('--version' not in sys.argv)")
        )
    try:
        assert install.main(stamp, "what Relay runs on", []) == 1
        told = capsys.readouterr().err
    except SystemExit as stopped:
        told = str(stopped)
    assert said in told
    assert not stamp.exists()


def test_a_port_that_another_relay_has_is_refused() -> None:
    """`PORT` of another program is named, with what to do; without PORT another is taken, and
    nobody else can have it from then on.
    """
    with demo.listening("127.0.0.1", "") as first:
        taken = str(first.getsockname()[1])
        for port in (taken, "no port", "70000"):
            with pytest.raises(RelayError, match=rf"on port {port}:.*choose another port"):
                demo.listening("127.0.0.1", port)
        with demo.listening("127.0.0.1", "") as second:
            assert second.getsockname()[1] != int(taken)
            with pytest.raises(OSError, match="in use"), socket.socket() as thief:
                thief.bind(second.getsockname())


def test_a_process_that_has_ended_ends_the_run() -> None:
    """A web or worker that dies is noticed and named; the others are stopped."""
    with ExitStack() as stack:
        alive = stack.enter_context(demo.child_process(("sleep", "60"), {}))
        dead = subprocess.Popen((sys.executable, "-c", "raise SystemExit(3)"))
        dead.wait()
        with pytest.raises(RelayError, match="worker has ended with 3"):
            demo.fail_if_ended({"web": alive, "worker": dead})
