"""SMS segments, against smsutil and against the figures that Twilio documents."""

from __future__ import annotations

import pytest
import smsutil
from hypothesis import given
from hypothesis import strategies as st

from relay.messages import sms_segments

# smsutil takes an empty text for UCS-2, and a lone escape for a character.
GSM_TEXT = st.text(
    st.sampled_from(sorted(sms_segments.BASIC | sms_segments.EXTENDED)), min_size=1, max_size=700
)
ANY_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x1b"), min_size=1, max_size=300
)
# Mostly one width, so that a wide character often falls on the edge of a segment.
EDGES = st.lists(
    st.sampled_from(["a" * 66, "a" * 152, "a", "€", "😀", "ж"]), min_size=1, max_size=12
).map("".join)
ALPHABETS = {"gsm0338": "GSM-7", "utf_16_be": "UCS-2"}


@given(text=st.one_of(GSM_TEXT, ANY_TEXT, EDGES))
def test_size_agrees_with_smsutil(text: str) -> None:
    """Alphabet, units and segments are those that another library finds."""
    oracle = smsutil.split(text)
    found = sms_segments.size(text)
    assert found.alphabet == ALPHABETS[oracle.encoding]
    width = 1 if found.alphabet == "GSM-7" else 2
    assert found.units == oracle.total_bytes // width
    assert found.segments == len(oracle.parts)


@given(text=ANY_TEXT)
def test_culprits_are_what_makes_a_text_dear(text: str) -> None:
    """Without its culprits every text fits the cheap alphabet, and without any it does already."""
    found = sms_segments.size(text)
    assert (found.alphabet == "UCS-2") is bool(found.culprits)
    rest = "".join(char for char in text if char not in found.culprits)
    assert sms_segments.size(rest).alphabet == "GSM-7"


@pytest.mark.parametrize(
    ("text", "alphabet", "units", "segments", "room"),
    [
        ("", "GSM-7", 0, 0, 160),
        ("a" * 160, "GSM-7", 160, 1, 160),
        ("a" * 161, "GSM-7", 161, 2, 306),
        ("a" * 306, "GSM-7", 306, 2, 306),
        ("a" * 307, "GSM-7", 307, 3, 459),
        ("€" * 80, "GSM-7", 160, 1, 160),
        ("€" * 81, "GSM-7", 162, 2, 306),
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 306, 3, 459),  # no € is cut in half
        ("ж" * 70, "UCS-2", 70, 1, 70),
        ("ж" * 71, "UCS-2", 71, 2, 134),
        ("😀" * 35, "UCS-2", 70, 1, 70),
        ("😀" * 67, "UCS-2", 134, 3, 201),  # 33 of them fit 67 units
        ("Zoë", "UCS-2", 3, 1, 70),  # ë is not in the alphabet, é is
        ("Chloé", "GSM-7", 5, 1, 160),
    ],
)
def test_size_at_the_edges(text: str, alphabet: str, units: int, segments: int, room: int) -> None:
    """160 then 153 septets, 70 then 67 units; the extension table counts double."""
    found = sms_segments.size(text)
    assert (found.alphabet, found.units, found.segments, found.room) == (
        alphabet,
        units,
        segments,
        room,
    )


def test_each_culprit_is_named_once() -> None:
    """The characters to blame are listed once each, however often they stand in the text."""
    assert sms_segments.size("“Zoë” “Zoë”").culprits == "ë“”"
