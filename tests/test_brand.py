"""The clinic's own look: its logo, colour and short name, in emails and on the desk."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import colours
from relay.config.colours import READABLE, WHITE, contrast
from relay.config.fields import picture
from relay.config.schema import Clinic
from relay.config.settings import Settings
from relay.web.desk.brand import style
from tests.conftest import one_database
from tests.test_desk import log_in

LOGO = "https://www.example.org/logo.png?v=2"
BRAND = f'short_name = "Ex & Co"\nlogo = "{LOGO}"\naccent = "#7A1FA2"\n'


@given(st.integers(0, 0xFFFFFF))
def test_what_is_made_of_a_colour_can_be_read(number: int) -> None:
    """A colour is refused, with a darker one to write instead, or is readable wherever emails and
    the desk put it, in light and dark.
    """
    written = f"#{number:06x}"
    try:
        accent = colours.accent(written)
    except ValueError as error:
        (better,) = re.findall(r'"(#[0-9a-f]{6})"', str(error))
        accent = colours.accent(better)
    else:
        assert contrast(accent, WHITE) >= READABLE
    clinic = Clinic("Clinic", "020", None, {}, accent=accent).record()  # type: ignore[arg-type]
    for ground in ("#ffffff", "#f2f1ec", "#edf3f1"):
        assert contrast(clinic.accent, ground) >= READABLE
    for ground in ("#182122", "#101718", "#223232"):
        assert contrast(clinic.accent_in_dark, ground) >= READABLE
    assert contrast(clinic.accent_in_dark, "#0e2422") >= READABLE  # the words of a button
    light, tint, dark, dark_tint = re.findall("#[0-9a-f]{6}", style(accent))
    for ground in (tint, "#f5f6f4", "#ffffff"):
        assert contrast(light, ground) >= READABLE
    for ground in (dark_tint, "#192124", "#111719"):
        assert contrast(dark, ground) >= READABLE
    assert contrast(dark, "#0c1c1a") >= READABLE


@one_database
def test_the_desk_and_emails_look_like_the_clinic(
    settings: Settings, make_client: Callable[[Settings], Any], config_file: Path
) -> None:
    """Its colour, its logo by its own site alone, and its short name, on the desk and in emails;
    the login has the colour too. Without the keys nothing of it is there.
    """
    plain = make_client(settings)
    log_in(plain)
    assert plain.get("/accent/7a1fa2.css").status_code == 404
    page, email = plain.get("/rules"), plain.get("/rule/email?name=results-ready")
    for answer in (page, email):
        assert "/accent/" not in answer.text
        assert "<img" not in answer.text
        assert "example.org" not in answer.headers["Content-Security-Policy"]
    text = config_file.read_text("utf-8")
    config_file.write_text(text.replace("\n[clinic]", f"\n[clinic]\n{BRAND}", 1), "utf-8")
    desk = make_client(settings)
    assert 'href="/accent/7a1fa2.css"' in desk.get("/login").text
    log_in(desk)
    css = desk.get("/accent/7a1fa2.css")
    assert (css.mimetype, css.text.count("--accent: ")) == ("text/css", 2)
    assert "immutable" in css.headers["Cache-Control"]
    page, email = desk.get("/rules"), desk.get("/rule/email?name=results-ready&scheme=dark")
    assert f'<img src="{LOGO}" alt="">' in page.text
    assert "for Ex &amp; Co" in page.text
    assert "img-src 'self' https://www.example.org;" in page.headers["Content-Security-Policy"]
    assert f'src="{LOGO}" alt="Example Clinic"' in email.text
    assert email.headers["Content-Security-Policy"].endswith("img-src https://www.example.org")
    assert email.text.count("#7a1fa2") > 3
    assert "#1d5a55" not in email.text


@pytest.mark.parametrize("logo", ["http://a.example/l.png", "logo.png", "https://a.example/;l.png"])
def test_an_address_that_no_policy_can_name_is_none(logo: str) -> None:
    """A logo is on an https:// site, and nothing in its address ends a policy's word."""
    with pytest.raises(ValueError, match="https:// address"):
        picture(logo)
