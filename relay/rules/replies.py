"""What a text from a person says, as far as Relay may decide alone: a keyword, that they want no
more texts, that the number is somebody else's, that they may be unwell. Pure.

Each whole sentence is compared with a table of phrases: "stop texting me" is one of them, "stop
texting me at work" is not. A person reads whatever is in doubt.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from relay.rules import alerts
from relay.rules.alerts import NO_KIT
from relay.rules.model import Case, Policy

REPLY = "reply"  # the kind of case
STOP, START, HELP = "stop", "start", "help"
YES = "YES"  # Twilio takes this for START
# https://www.twilio.com/docs/messaging/tutorials/advanced-opt-out, and what others take as STOP:
# https://docs.aws.amazon.com/sms-voice/latest/userguide/keywords-required.html
KEYWORDS = {
    **dict.fromkeys(
        ("STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"), STOP
    ),
    **dict.fromkeys(("ARRET", "REMOVE", "STOPP", "UNSUB"), STOP),
    **dict.fromkeys(("START", "UNSTOP", YES), START),
    **dict.fromkeys(("HELP", "INFO"), HELP),
}

# The phrases, as regular expressions over a sentence from `_plain`: small letters and spaces, no
# apostrophes, and a question mark as a word of its own.
_TEXTS = r"(?:texts?|text messages?|messages?|msgs?|sms|reminders|notifications|alerts)"
_ANY = r"(?:(?:any|all|more|further|the|these|those|this|your|such) )*"
_EVER = r"(?: (?:any ?more|again|ever again|altogether))?"
_ME = r"(?: (?:me|us|this number|my number|my phone|my mobile))"
_WISH = r"(?:i (?:just )?(?:want|wish|need|would like)|id like) "
BARE, PLAIN, WRONG, UNWELL, ASKING = "bare", "plain", "wrong", "unwell", "asking"
PHRASES: dict[str, tuple[str, ...]] = {
    # They want nothing more, if the text says nothing else: it may ask to stop something else.
    BARE: (
        r"(?:stop|stopp|stopall)(?: (?:it|this|that|now|all))*",
        rf"{_WISH}(?:to stop|it to stop|this to stop)",
        r"(?:stop|quit) sending(?: me)?(?: (?:these|those|this|them|any more))?",
        r"(?:take|remove) me(?: off)?",
    ),
    # They want nothing more, whatever else the text says.
    PLAIN: (
        rf"(?:stop|quit) (?:texting|messaging|contacting|spamming|emailing){_ME}?{_EVER}",
        rf"(?:stop|quit) (?:sending|with)(?: (?:me|us))? {_ANY}{_TEXTS}{_EVER}",
        rf"(?:stop|cancel|end) {_ANY}{_TEXTS}{_EVER}",
        rf"(?:do not|dont|never) (?:text|message|msg|contact|email){_ME}{_EVER}",
        rf"(?:do not|dont|never) send(?: (?:me|us))? {_ANY}{_TEXTS}{_EVER}",
        rf"no more {_TEXTS}",
        r"(?:unsubscribe|unsub)(?: me)?(?: from (?:this|these|all|all this|everything|your))?"
        rf"(?: (?:list|{_TEXTS}))?",
        rf"opt(?:ing)?(?: me)? ?out(?: of {_ANY}{_TEXTS})?",
        rf"i (?:want to )?opt ?out(?: of {_ANY}{_TEXTS})?",
        r"(?:take|remove) (?:me|my number|this number) (?:off|from) (?:your|the|this|all)(?: \w+)?"
        r" ?(?:list|lists|system|database)",
        r"(?:remove|delete) (?:my|this) number",
        r"leave me alone",
        rf"{_WISH}to (?:opt ?out|unsubscribe|be removed|be taken off)",
        rf"{_WISH}to stop (?:receiving|getting) {_ANY}{_TEXTS}",
        rf"{_WISH}you to stop (?:texting|messaging|contacting){_ME}?",
        rf"{_WISH}{_ANY}{_TEXTS} to stop",
        rf"i (?:no longer|do not|dont) (?:want|wish to|want to)(?: (?:receive|get))? {_ANY}{_TEXTS}"
        rf"{_EVER}",
    ),
    # The number is somebody else's. `{name}` is any name of the person the lab has at it.
    WRONG: (
        r"(?:(?:i think )?(?:you (?:have|ve|got|have got)|youve(?: got)?|this is|its|it is|thats)"
        r"(?: got)? )?(?:the |a )?wrong (?:number|no|person|phone|phone number|mobile|contact)"
        r"(?: (?:mate|pal|love|here|im afraid|i think))?",
        r"(?:you are|youre) (?:texting|messaging|contacting) the wrong (?:number|person)",
        r"(?:i am|im|this is|its|it is) not {name}(?:s (?:number|phone|mobile))?",
        r"(?:this isnt|it isnt) {name}(?:s (?:number|phone|mobile))?",
        r"i (?:do not|dont) know (?:a |any |anyone called |anybody called )?{name}",
        r"(?:there is |theres )?(?:no|nobody called|no one called) {name}(?: here)?",
    ),
    # Somebody may be unwell, anywhere in a text: better once too often.
    UNWELL: (
        r"unwell|ambulance|emergency|paramedics?|suicid\w*|overdose\w*|seizures?|agony|unconscious",
        r"(?:chest|heart) (?:pains?|attack|hurts)|pains? in my chest|stroke|palpitations",
        r"(?:cant|cannot|can not|hard to|struggling to|difficulty|trouble) breath\w*|breathless",
        r"short(?:ness)? of breath|allergic reaction",
        r"(?:feel|feeling|felt|im|i am) (?:\w+ ){0,2}(?:ill|sick|faint|dizzy|poorly|awful)",
        r"not (?:\w+ ){0,2}well|(?:not|dont) feel(?:ing)? (?:\w+ )?(?:well|right|good)",
        r"faint(?:ed|ing)|passed out|collapsed?|vomit(?:ed|ing)?|throwing up",
        # About a kit that needs a drop of blood people write much about bleeding.
        r"(?:stop|still|keeps?) (?:the )?bleeding|bleeding (?:a lot|heavily|badly|everywhere)",
        r"(?:bad|severe|terrible|awful|extreme|so much|lots? of|in) pain",
        r"(?:kill|hurt|harm|cut)(?:ing)? myself|self harm\w*|want to die|end (?:my life|it all)",
        r"a and e|a e|(?<!not )(?<!isnt )urgent(?:ly)?|(?<!\d )999(?! \d)",
    ),
    # Words that hedge: with one of them, nothing in a text is a plain wish.
    ASKING: (
        r"if|when|once|until|till|unless|before|after|why|how|did|does|whether|though|but|except",
    ),
}
# No two of them begin or continue alike, so that no text takes long to match.
_POLITE = (
    r"(?:please|pls|plz|kindly|just|hi|hello|hey|dear|thanks|thank you|thx|ta|cheers|sorry|ok|okay"
    r"|no|now|immediately|at once|asap|today|again|team|sir|madam|i said|i told you(?: to)?"
    r"|not interested|im not interested|x+)"
)
_REQUEST = r"(?:please )?(?:can|could|will|would) (?:you|u) "
_PARTS = re.compile(r"[.,!;:()\n\r\"“”…]+|\s[-\u2013\u2014]+\s|(?<=\?)")
_LONGEST = 100  # characters of a sentence that may be a phrase


@dataclass(frozen=True)
class Reading:
    """The meaning of a text."""

    keyword: str = ""  # STOP, START, HELP
    opts_out: bool = False  # in other words than a keyword
    is_wrong_number: bool = False
    sounds_unwell: bool = False

    @property
    def word(self) -> str:
        """The reading as a word, for the log and the ledger."""
        if self.keyword:
            return self.keyword
        if self.sounds_unwell:
            return "unwell"
        return "wrong number" if self.is_wrong_number else "opt-out" if self.opts_out else REPLY


def read(text: str, names: Iterable[str] = ()) -> Reading:
    """Read a text. `names` are those of the person whom the lab has at its number."""
    if said := keyword(text):
        return Reading(said)
    sentences = [plain for part in _PARTS.split(text) if (plain := _plain(part))]
    whole = " ".join(sentences)
    known = "|".join(re.escape(plain) for name in names if (plain := _plain(name)))
    is_wrong = [_says(WRONG, one, known or "(?!)") for one in sentences]
    is_bare = [_says(BARE, one) for one in sentences]
    is_plain = [_says(PLAIN, one) for one in sentences]
    is_idle = [bool(re.fullmatch(rf"{_POLITE}(?: {_POLITE})*", one)) for one in sentences]
    says_no_more = all(map(any, zip(is_wrong, is_bare, is_plain, is_idle, strict=True)))
    hedges = bool(re.search(_words(ASKING), whole))
    return Reading(
        opts_out=(any(is_plain) and not hedges) or (any(is_bare) and says_no_more),
        is_wrong_number=any(is_wrong),
        sounds_unwell=bool(re.search(_words(UNWELL), whole)),
    )


def keyword(text: str) -> str:
    """The meaning of a text that is one keyword, however written and however often repeated."""
    words = re.findall(r"[^\W_]+", _bare(text).upper())
    said = {KEYWORDS.get(word, "") for word in words}
    return KEYWORDS.get("".join(words)) or (said.pop() if len(said) == 1 else "")


def _says(what: str, sentence: str, names: str = "") -> bool:
    """Whether a sentence is one of the phrases, politely or not. A question may ask for it, but may
    not be one itself.
    """
    for phrase in PHRASES[what] if len(sentence) <= _LONGEST else ():
        said = rf"(?:{phrase.replace('{name}', f'(?:{names})')})(?: {_POLITE})*"
        asked = rf"(?:{_POLITE} )*(?:{said}|{_REQUEST}(?:{_POLITE} )*{said}(?: \?)?)"
        if re.fullmatch(asked, sentence):
            return True
    return False


def _words(what: str) -> str:
    return rf"\b(?:{'|'.join(PHRASES[what])})\b"


def _plain(text: str) -> str:
    """A sentence in small letters, its words separated by single spaces, any ? as a word."""
    letters = re.sub("['`\u2018\u2019\u02bc]", "", _bare(text).lower())
    return " ".join(re.findall(r"[^\W_]+|\?", letters))


def _bare(text: str) -> str:
    """A text without accents, all its letters of one width."""
    apart = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def case(
    said: Reading,
    subject: str,
    event_id: str,
    *,
    policy: Policy,
    now: datetime,
    is_empty: bool = False,
    files: int = 0,
    people: int = 1,
) -> Case:
    """The case about a text, without any of its words. `files` and `people` are counts: of files
    with it, and of people who have had messages at its number.
    """
    holds = said.is_wrong_number and subject != NO_KIT
    is_wish = said.opts_out and not said.is_wrong_number
    sentences = {
        "Somebody may be unwell: read it now.": said.sounds_unwell,
        "It says that the number is wrong. Relay has stopped texts to it.": said.is_wrong_number,
        "Messages about the kit wait until you close this case.": holds,
        "It asks for no more texts. Relay has stopped them.": is_wish,
        "It has no words.": is_empty,
        "It came with a picture or another file: look in Twilio's console.": files > 0,
        f"Messages for {people} people go to this number.": people > 1,
    }
    reason = " ".join(sentence for sentence, is_so in sentences.items() if is_so)
    about = (subject, reason or "Read it on the desk.")
    made = alerts.case(REPLY, "", *about, policy=policy, now=now, event_id=event_id)
    return replace(made, is_urgent=said.sounds_unwell, holds=holds)
