"""Judge from outside: Taplo, by which editors read config.toml and its JSON Schema.

`make judges` brings it from npm, and names its folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_config import EXAMPLE
from tests.test_config_broken import IN_CONFIG, SYNTAX

FOLDER = os.environ.get("PROVIDER_FILES", "")
NO_TOML = {"syntax errors found", "semantic errors found"}

pytestmark = pytest.mark.skipif(not FOLDER, reason="make judges brings Taplo")


@pytest.fixture(scope="module")
def taplo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Taplo's program, for node."""
    folder = tmp_path_factory.mktemp("taplo")
    (found,) = Path(FOLDER).glob("taplo-cli-*.tgz")
    with tarfile.open(found) as files:
        files.extractall(folder, filter="data")
    return folder / "package" / "dist" / "cli.js"


def refused(taplo: Path, *files: Path) -> dict[str, str]:
    """What Taplo has against each file that it refuses, by the file's name. The schema is the one
    that the file's first line names.
    """
    command = ["node", taplo, "lint", "--no-auto-config", "--colors", "never", *files]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    found = re.findall(r'invalid file error=(.+) path="(.+)"', run.stderr)
    assert run.returncode == bool(found), run.stderr
    return {Path(path).name: error for error, path in found}


def test_the_shipped_config_is_as_its_schema_has_it(taplo: Path) -> None:
    """An editor marks nothing in config.toml as it is shipped."""
    assert refused(taplo, ROOT / "config.toml") == {}


def test_what_is_no_toml_is_none_for_taplo_either(taplo: Path, tmp_path: Path) -> None:
    """Each mistake in writing that Relay refuses is one for Taplo, and no mistake in meaning is."""
    shutil.copy(ROOT / "config.schema.json", tmp_path)
    for number, one in enumerate(IN_CONFIG):
        text = EXAMPLE.replace(one.old, one.new, 1)
        (tmp_path / f"{number}.toml").write_text(text, "utf-8")
    found = refused(taplo, *tmp_path.glob("*.toml"))
    no_toml = {name for name, why in found.items() if why in NO_TOML}
    differs = no_toml ^ {f"{number}.toml" for number, one in enumerate(IN_CONFIG) if one in SYNTAX}
    assert [IN_CONFIG[int(Path(name).stem)].kind for name in differs] == []
    assert {*found.values()} - NO_TOML == {"schema validation failed"}
