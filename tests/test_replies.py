"""What a text from a person says: as people write, and what only looks like it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.rules.replies import KEYWORDS, Reading, keyword, read

NAMES = ("Jane", "O'Brien-Smith")

OPT_OUTS = (
    "Stop please",
    "please stop",
    "I want to stop",
    "please stop texting me",
    "STOPALL please",
    "unsubscribe me",
    "Unsubscribe please",
    "I'd like to unsubscribe",
    "please unsubscribe me from this list",
    "opt me out",
    "opt out please",
    "I want to opt out",
    "Stop texting me!!!",
    "STOP TEXTING THIS NUMBER",
    "Stop it",
    "Stop now!",
    "Please can you stop texting me?",
    "can u please stop messaging me",
    "Could you stop sending me messages please?",
    "Stop sending texts",
    "stop the messages please",
    "Don't text me again",
    "do not contact me anymore",
    "Don\u2019t send me any more texts",
    "No more texts please.",
    "take me off your list",
    "Remove my number please",
    "please remove me from your mailing list",
    "I no longer want to receive these messages",
    "I don't want any more texts",
    "I want you to stop texting me",
    "Leave me alone",
    "Not interested. Stop texting me.",
    "Got my results thanks. Please stop texting me",
    "Hi, please stop. Thank you",
    "No thanks, stop",
    "Stop texting me. Email me instead",
    "please stop sending me these",
    "Remove me please",
)
NO_OPT_OUTS = (
    "don't stop",
    "Please don't stop texting me",
    "when will it stop hurting",
    "I'm at the bus stop",
    "stop the test",
    "I want to stop the test",
    "I want to stop taking my tablets first, is that ok?",
    "Can I stop fasting now?",
    "Please stop, it hurts",
    "Stop! I have moved house",
    "Stop texting me at work",
    "please stop texting me before 9am",
    "Once I have my results, stop texting me",
    "If I pay will you stop texting me?",
    "Why did you stop texting me?",
    "Did you stop texting me?",
    "Stop texting me, but do send my results",
    "Don't send me another kit",
    "Stop sending me kits",
    "cancel please",
    "Please cancel my order",
    "the end",
    "How do I unsubscribe?",
    "Will this ever stop?",
    "Don't contact my GP",
    "remove the lid first?",
    "Stop messaging my wife",
    "Thank you!",
    "",
    "👍",
)
WRONG = (
    "WRONG NUMBER, I am not Jane",
    "wrong number",
    "Wrong person",
    "you have the wrong number",
    "You've got the wrong number mate",
    "Sorry, I think you have the wrong number.",
    "sorry this is the wrong number",
    "You are texting the wrong person",
    "I'm not Jane",
    "This isn't Jane",
    "This is not Jane\u2019s phone",
    "I don't know a Jane",
    "No Jane here",
    "There's nobody called O\u2019Brien Smith here",
    "Wrong number. Stop texting me",
)
NO_WRONG = (
    "I am not well",
    "I'm not sure",
    "I am not Bob",
    "Is this the wrong number?",
    "did I give you the wrong number",
    "You sent the wrong kit",
    "This is Jane",
    "I am not Jane any more, I married",
)
UNWELL = (
    "I feel very unwell, please call me",
    "chest pain",
    "999",
    "Should I ring 999?",
    "I can't breathe",
    "I'm not feeling well",
    "I dont feel right",
    "I feel really sick",
    "i fainted after the test",
    "It won't stop bleeding",
    "I'm bleeding heavily",
    "I am in so much pain",
    "I want to kill myself",
    "short of breath since Tuesday",
    "Please ring me urgently",
    "My husband has collapsed",
    "going to A&E",
    "Stop texting me, I'm in pain",
)
NO_UNWELL = (
    "My finger would not bleed",
    "order 99912 has not come",
    "call me on 07700 900 999 please",
    "it is not urgent",
    "I see a faint line",
    "All well here, thanks",
    "when will it stop hurting",
)


@pytest.mark.parametrize("text", OPT_OUTS)
def test_a_stop_in_plain_english_is_one(text: str) -> None:
    """Who says in so many words that they want no more texts has said STOP."""
    assert read(text, NAMES).opts_out
    assert read(text.upper()).opts_out


@pytest.mark.parametrize("text", NO_OPT_OUTS)
def test_what_may_mean_something_else_is_no_stop(text: str) -> None:
    """A text that hedges, asks, or is about something else stops nothing: a person reads it."""
    found = read(text, NAMES)
    assert found == Reading(sounds_unwell=found.sounds_unwell)


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_number_says_so(text: str) -> None:
    """Who says that the number is not the patient's is believed, also by the patient's name."""
    assert read(text, NAMES).is_wrong_number


@pytest.mark.parametrize("text", NO_WRONG)
def test_what_is_no_wrong_number(text: str) -> None:
    """Who is not well, or not sure, is no stranger; nor is somebody who asks."""
    assert not read(text, NAMES).is_wrong_number


def test_a_name_is_known_from_the_lab_alone() -> None:
    """Without the patient's name nobody can say that they are not that person."""
    assert not read("I am not Jane").is_wrong_number


@pytest.mark.parametrize("text", UNWELL)
def test_who_sounds_unwell_is_heard(text: str) -> None:
    """Whatever else stands in the text."""
    assert read(text, NAMES).sounds_unwell


@pytest.mark.parametrize("text", [*NO_UNWELL, *WRONG])
def test_who_does_not_sound_unwell(text: str) -> None:
    """What people often write about kits raises no alarm."""
    assert not read(text, NAMES).sounds_unwell


def test_all_that_a_text_says_is_heard() -> None:
    """One text may say several things; the gravest is its word in the log."""
    found = read("Wrong number. Stop texting me, I have chest pain", NAMES)
    assert found == Reading(opts_out=True, is_wrong_number=True, sounds_unwell=True)
    assert found.word == "unwell"


@pytest.mark.parametrize("word", KEYWORDS)
def test_a_keyword_says_nothing_else(word: str) -> None:
    """It is what it was: STOP, START or HELP."""
    assert read(word.lower(), NAMES) == Reading(KEYWORDS[word])


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    """Whatever people write, it says something or nothing."""
    assert read(text, [text]).keyword == keyword(text)


@pytest.mark.parametrize(
    "words", ["no ", "any more ", "stop now ", "please stop texting ", "not feeling ", "stop, "]
)
def test_no_text_takes_long(words: str) -> None:
    """However a text is made up, it is read: no phrase can be tried in ever so many ways."""
    for many in (3, 15, 1600 // len(words)):
        assert not read(f"stop sending {words * many}z", NAMES).keyword
