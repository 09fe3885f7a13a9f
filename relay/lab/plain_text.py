"""Makes plain the texts that people, phones and spreadsheets write: no invisible characters.

Pure, and never raises, whatever the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

import idna

_UNSEEN = frozenset({"Cc", "Cf", "Cs"})  # control and format characters, half surrogates
# Unicode calls these letters, marks or symbols, but they show nothing.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_NO_WIDTH = "\u200b\u2060\ufeff"
# Some scripts spell names with joiners, and emoji have both; next to plain letters they do nothing.
_JOINERS, _SELECTORS = "\u200c\u200d", "\ufe0e\ufe0f"
_IDLE = re.compile(rf"(?<![^\x00-\x7f\s])[{_JOINERS}{_SELECTORS}]+|[{_JOINERS}]+(?![^\x00-\x7f\s])")
# Windows's ’ becomes a control character when a program takes it for Latin-1, as browsers know:
# https://encoding.spec.whatwg.org/#windows-1252
WINDOWS = {n: said for n in range(128, 160) if (said := bytes((n,)).decode("cp1252", "ignore"))}
_EXACT, _LARGEST = 2**53, 10**40  # a larger float is not exactly a whole number; no id is larger

_NO_NAME = frozenset(("null", "none", "undefined", "nan", "tbc", "tba", "unknown", "not set"))
_LINK = re.compile(r"(?<!\bst)\.\w{2}|www\.", re.IGNORECASE)  # bit.ly, but not St.John
_ADDRESS = re.compile(r"://|\bwww\.|\.[a-z]{2,}/", re.IGNORECASE)  # a working address
_FOREIGN_TO_NAMES = re.compile(r"[\d@/\\<>{}\[\]|#%=:;$£€!?*^_]")
LONGEST_NAME = 60
_APOSTROPHES = dict.fromkeys(map(ord, "'`\u00b4\u02bc\u2018\u2019"))


def is_unseen(char: str) -> bool:
    """Whether a character shows nothing and is not white space. Joiners may do something."""
    if char in _JOINERS or char.isspace():
        return False
    return unicodedata.category(char) in _UNSEEN or char in _BLANK


def unseen(text: str) -> set[int]:
    """The positions of a text's invisible characters."""
    idle = {at for found in _IDLE.finditer(text) for at in range(*found.span())}
    return idle | {at for at, char in enumerate(text) if is_unseen(char)}


def seen(text: str) -> str:
    """A text without invisible characters, its letters composed (NFC)."""
    if text.isascii() and text.isprintable():
        return text
    composed = unicodedata.normalize("NFC", text.translate(WINDOWS))
    kept = "".join(char for char in composed if not is_unseen(char))
    return unicodedata.normalize("NFC", _IDLE.sub("", kept))


def trimmed(text: str) -> str:
    """A text without white space around it, zero-width too. Marks of reading order stay."""
    shown = [at for at, char in enumerate(text) if not (char.isspace() or char in _NO_WIDTH)]
    return text[shown[0] : shown[-1] + 1] if shown else ""


def plain(text: str, longest: int | None = None) -> str:
    """A text on one line as people see it, with single spaces, at most `longest` characters."""
    return " ".join(seen(text).split())[:longest].rstrip(f" {_JOINERS}")


def written(value: object) -> object:
    """A whole number, which PHP sends for an id or phone number, as its digits; else the value."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return str(value) if abs(value) < _LARGEST else value


def mailbox(text: str) -> str:
    """A possible email address as it is sent: no `mailto:`, its domain in small ASCII letters."""
    bare = plain(text)
    if bare[:7].lower() == "mailto:":
        bare = plain(unquote(bare[7:].partition("?")[0]))
    local, at, domain = bare.removesuffix(".").rpartition("@")
    return f"{local}{at}{ascii_domain(domain)}"


def ascii_domain(domain: str) -> str:
    """A domain in small letters and ASCII (bücher.example → xn--bcher-kva.example), if possible."""
    try:
        return idna.encode(domain, uts46=True).decode() if not domain.isascii() else domain.lower()
    except UnicodeError:
        return domain.lower()


def domain_spellings(domain: str) -> Iterator[str]:
    """Yield a domain as it is sent, and as people write it."""
    yield domain
    try:
        if "xn--" in domain and (as_read := idna.decode(domain)) != domain:
            yield as_read
    except UnicodeError:
        return


def fold(text: str) -> str:
    """A name without the parts that people omit or vary: Zoë O'Brien-Li → zoe obrien li."""
    marked = unicodedata.normalize("NFKD", text.translate(_APOSTROPHES)).casefold()
    kept = (c if c.isalnum() else " " for c in marked if not unicodedata.combining(c))
    return " ".join("".join(kept).split())


def digits(number: str) -> str:
    """A phone number's own digits, however it is written."""
    return re.sub(r"^(?:00)?(?:44)?0?", "", re.sub(r"\D", "", number))


def has_address(text: str) -> bool:
    """Whether a phone would turn something in a text into a link."""
    return bool(_ADDRESS.search(text))


def why_no_name(text: str) -> str:
    """Why a text cannot be a name in a greeting; empty if it can."""
    if len(text) > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} characters"
    if _LINK.search(text):
        return "has a link in it"
    if _FOREIGN_TO_NAMES.search(text):
        return "has figures or signs in it that names do not have"
    if text.casefold() in _NO_NAME or not any(map(str.isalpha, text)):
        return "is no name"
    return ""
