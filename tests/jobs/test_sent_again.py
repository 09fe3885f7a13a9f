"""A message that went to a wrong number is sent again, to the one that the lab has now, because a
person says so: by a message of its own, once for each time that they say it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from relay.config.loader import load
from relay.config.settings import Settings
from relay.jobs.erase import forget
from relay.ledger import journeys, replay
from relay.ledger.audit import NotDone
from relay.ledger.holds import suppressions
from relay.ledger.removal import erasures
from relay.ledger.schema import audit, events, notifications
from relay.ledger.worklist import releases
from relay.rules.statuses import RESENT
from relay.staff import send_again
from tests.jobs.conftest import (
    EMAIL,
    HEAD,
    KIT,
    ORDER,
    PHONE,
    RETEST,
    RULES,
    STAFF,
    TEMPLATES,
    Clinic,
)
from tests.rows import at_once, change, only, replay_event, rows, suppress
from tests.standins import twilio_error
from tests.test_desk import log_in, token

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SOON = timedelta(seconds=send_again.UNDO_SECONDS)  # what is pressed on the desk has gone by then
RIGHT, OTHER = "+447700900201", "+447700900202"
NO_MOBILE = twilio_error(400, 21614)


@pytest.fixture
def told(clinic: Clinic) -> Clinic:
    """A clinic whose patient's results were announced, to a number that turned out to be wrong; the
    lab has corrected it since.
    """
    clinic.configure(staff=STAFF)
    clinic.results()
    clinic.work()
    clinic.tell("delivered", rule="results")
    correct(clinic, RIGHT)
    return clinic


def correct(clinic: Clinic, number: str) -> None:
    """The lab puts another number into the patient's record."""
    clinic.lab.change("test_registration", KIT, mobile_phone_number=number, patient_id=None)


def again(clinic: Clinic, id_: str = "", note: str = "A wrong number.") -> str:
    """Somebody has a message sent again, by default the last one about the results; its repeat."""
    id_ = id_ or clinic.messages(rule="results")[-1]["id"]
    with clinic.db.write() as connection:
        config = load(clinic.settings)
        return send_again.send_again(connection, config, id_, by="admin", note=note)


def refused(clinic: Clinic, id_: str = "") -> str:
    """Why a message cannot be sent again."""
    with pytest.raises(NotDone) as told:
        again(clinic, id_)
    return str(told.value)


def texted(clinic: Clinic) -> list[str]:
    """The numbers that Twilio took a text to, in order."""
    return [request.form["To"] for request in clinic.twilio.accepted]


def test_what_arrived_at_a_wrong_number_goes_to_the_right_one(told: Clinic) -> None:
    """The repeat has an id of its own, asks the lab for the address, and is on record with who
    wanted it and why; the first message stays as it was.
    """
    first = only(told.db, notifications, rule="results")
    made = again(told)
    waiting = only(told.db, notifications, id=made)
    assert (waiting["kind"], waiting["status"]) == (RESENT, "created")
    assert waiting["reason"] == "Sent again by admin."
    told.work()
    repeat = only(told.db, notifications, id=made)
    assert (repeat["status"], repeat["address"], repeat["reason"]) == ("sent", RIGHT, "")
    assert texted(told) == [PHONE, RIGHT]
    assert only(told.db, notifications, id=first["id"]) == first
    act = only(told.db, audit, action="resend")
    assert (act["actor"], act["target"], act["detail"]) == ("admin", made, "A wrong number.")


def test_the_lab_is_asked_though_its_last_answer_is_fresh(told: Clinic) -> None:
    """A correction of a moment ago counts: what was fetched within the last minutes does not."""
    correct(told, OTHER)
    again(told)
    told.work()
    assert texted(told)[-1] == OTHER


def test_pressed_twice_it_goes_out_once(told: Clinic) -> None:
    """Two presses at the same moment make one message, and a later one names it. It can be sent a
    third time, on purpose, once it has gone out.
    """
    id_ = only(told.db, notifications, rule="results")["id"]

    def press(_: int) -> str:
        try:
            return again(told, id_)
        except NotDone as error:
            return str(error)

    (made,) = {said for said in at_once(press, 4) if said.startswith("msg_")}
    assert made in refused(told, id_)
    assert "already waiting" in refused(told, made)
    told.work()
    assert texted(told) == [PHONE, RIGHT]
    assert len(rows(told.db, audit, action="resend")) == 1
    correct(told, OTHER)
    third = again(told, made)
    told.work()
    assert texted(told) == [PHONE, RIGHT, OTHER]
    assert third in refused(told, made)


def test_without_a_note_nothing_is_sent(told: Clinic) -> None:
    """Whoever has a message sent again says why."""
    with pytest.raises(NotDone, match="Write a note"):
        again(told, note="")
    assert len(told.messages()) == 1


def test_a_stop_still_holds(told: Clinic) -> None:
    """Whoever owns the right number wants no texts: none goes, and staff are told. What the owner
    of the wrong one wants does not matter.
    """
    suppress(told.db, "sms", PHONE, suppressions.STOP)
    suppress(told.db, "sms", RIGHT, suppressions.STOP)
    made = again(told)
    told.work()
    assert only(told.db, notifications, id=made)["status"] == "cancelled"
    assert (texted(told), told.worklist()) == ([PHONE], ["unreached"])
    with told.db.write() as connection:
        suppressions.unsuppress(connection, "sms", RIGHT)
    with told.db.write() as connection:
        assert replay.try_again(connection, made, "")
    told.work()
    assert texted(told) == [PHONE, RIGHT]


def test_no_usable_number_is_a_case_and_one_press_mends_it(told: Clinic) -> None:
    """The lab has no number now: the repeat fails with the reason, and staff are told. Once it is
    filled in, "Try again" sends it, though the first message had arrived.
    """
    correct(told, "none")
    made = again(told)
    told.work()
    failed = only(told.db, notifications, id=made)
    assert failed["status"] == "validation-failed"
    assert failed["reason"] == "The phone number is not valid: it has letters in it."
    assert told.worklist() == ["unreached"]
    correct(told, RIGHT)
    with told.db.write() as connection:
        replay.try_again(connection, made, "")
    told.work()
    assert texted(told) == [PHONE, RIGHT]


def test_who_had_no_number_at_first_is_sent_it_in_the_end(clinic: Clinic) -> None:
    """Neither the first message nor its repeat had an address: that is no sign of an erasure."""
    clinic.configure(staff=STAFF)
    correct(clinic, "none")
    clinic.results()
    clinic.work()
    made = again(clinic)
    clinic.work()
    assert only(clinic.db, notifications, id=made)["status"] == "validation-failed"
    correct(clinic, RIGHT)
    again(clinic, made)
    clinic.work()
    assert texted(clinic) == [RIGHT]
    assert clinic.worklist() == []


def test_a_repeat_that_fails_is_no_secret(told: Clinic) -> None:
    """That the first message arrived somewhere does not keep staff from hearing of it."""
    again(told)
    told.twilio.answers.append(lambda request: NO_MOBILE)
    told.work()
    assert told.worklist() == ["unreached"]
    told.twilio.answers.clear()
    again(told)
    assert told.worklist() == []
    told.work()
    assert texted(told) == [PHONE, RIGHT]


def test_old_news_is_not_sent_again(told: Clinic) -> None:
    """A retest has begun: pressing says so and does nothing. Where it begins before the repeat has
    gone out, the repeat is cancelled with the reason.
    """
    told.work(HOUR)
    made = again(told)
    told.post(
        "test_registration.retest", testregistration_id=KIT, retest_testregistration_id=RETEST
    )
    jobs = told.jobs
    (retest,) = jobs.lease_events(1)
    jobs.process(retest)
    told.work()
    repeat = only(told.db, notifications, id=made)
    assert (repeat["status"], repeat["reason"]) == ("cancelled", "A retest has begun since then.")
    assert "A retest has begun" in refused(told, told.messages(rule="results")[0]["id"])
    assert texted(told) == [PHONE]


def test_results_of_a_cancelled_test_are_never_sent_again(told: Clinic) -> None:
    """The lab says so when it is asked, and the repeat ends there."""
    told.lab.change("test_registration", KIT, status="cancelled")
    made = again(told)
    told.work()
    repeat = only(told.db, notifications, id=made)
    assert (repeat["status"], repeat["reason"]) == ("cancelled", "The test was cancelled.")
    assert texted(told) == [PHONE]


def test_a_repeat_that_was_cancelled_can_be_wanted_again(told: Clinic) -> None:
    """What kept it back is over: the same message is wanted again, on record a second time."""
    first = only(told.db, notifications, rule="results")["id"]
    told.lab.change("test_registration", KIT, status="cancelled")
    made = again(told)
    told.work()
    told.lab.change("test_registration", KIT, status="success")
    assert "was cancelled" in refused(told, made)
    assert again(told, first) == made
    told.work()
    assert texted(told) == [PHONE, RIGHT]
    assert len(rows(told.db, audit, action="resend", target=made)) == 2


def test_its_rule_as_it_is_now_makes_it(told: Clinic) -> None:
    """New words, and the channel that the rule uses now. A rule that is off, gone or for a digest
    sends nothing again, and says so.
    """
    id_ = only(told.db, notifications, rule="results")["id"]
    kit, results = RULES.split("[rules.results]")
    off = f"{RULES}enabled = false\n"
    for rules, why in ((off, "switched off"), (kit, "no longer in config.toml")):
        told.configure(rules, staff=STAFF)
        assert why in refused(told, id_)
    email = results.replace('["sms"]', '["email"]').replace('"results"', '"kit"')
    told.configure(f"{kit}[rules.results]{email}", staff=STAFF)
    for name in ("subject.txt", "email.txt", "email.html"):
        words = TEMPLATES[f"kit/{name}"].replace("{{ order.tracking_number }}", "of yours")
        (told.settings.templates / "kit" / name).write_text(words, "utf-8")
    (told.settings.templates / "kit" / "sms.txt").write_text("Your kit", "utf-8")
    made = again(told)
    told.work()
    repeat = only(told.db, notifications, id=made)
    assert (repeat["channel"], repeat["status"]) == ("email", "sent")
    assert "kit of yours" in repeat["content"]["text"].lower()
    assert texted(told) == [PHONE]


def test_it_waits_for_the_send_window(told: Clinic) -> None:
    """Pressed at night it goes in the morning."""
    close_window(told)
    made = again(told)
    told.work()
    assert only(told.db, notifications, id=made)["status"] == "scheduled"
    assert texted(told) == [PHONE]


def close_window(clinic: Clinic) -> None:
    """It is not the time to send."""
    now = only(clinic.db, events)["received_at"]
    opens, closes = ((now + hours * HOUR).strftime("%H:00") for hours in (2, 3))
    head = HEAD.replace('"always"', f'"{opens}-{closes}"')
    clinic.configure(head=head.replace("[delivery]", 'timezone = "UTC"\n[delivery]'), staff=STAFF)


def erase(clinic: Clinic, channel: str, address: str) -> None:
    """A person is erased, by one of their addresses."""
    asked = erasures.ask(clinic.db, channel, address, target="", actor="cli", note="")
    taken = erasures.take(clinic.db, asked.id)
    assert taken
    jobs = clinic.jobs
    forget(clinic.db, jobs.channels, jobs.config.policy, taken)


def test_who_is_erased_meanwhile_hears_nothing(told: Clinic) -> None:
    """A repeat that waits for the morning is cancelled with the person's data, by whichever of
    their addresses these are found; the lab is not asked for another one.
    """
    close_window(told)
    made = again(told)
    erase(told, "sms", PHONE)
    assert only(told.db, notifications, id=made)["status"] == "cancelled"
    told.configure(staff=STAFF)
    told.work(DAY)
    assert texted(told) == [PHONE]


def test_who_had_no_number_and_is_erased_hears_nothing(clinic: Clinic) -> None:
    """Nothing in the message says whose it is: the event's facts do."""
    clinic.configure(staff=STAFF)
    correct(clinic, "none")
    clinic.results()
    clinic.work()
    made = again(clinic)
    erase(clinic, "email", EMAIL)
    correct(clinic, RIGHT)
    clinic.work()
    repeat = only(clinic.db, notifications, id=made)
    assert (repeat["status"], repeat["reason"]) == ("cancelled", "The person's data was erased.")
    assert texted(clinic) == []


@pytest.mark.parametrize("times", [1, 2])
def test_a_phone_that_was_off_is_not_tried_once_more_besides(told: Clinic, times: int) -> None:
    """A message of which a person had a repeat sent, be it a repeat itself, is not sent once more
    by itself when Twilio says late that the phone was off.
    """
    change(told.db, notifications, {}, status="sent")
    for _ in range(times):
        last = told.messages(rule="results")[-1]["id"]
        again(told)
        told.work()
    told.tell("temporary-failure", "30003", id=last)
    told.work(HOUR)
    told.work(HOUR)
    assert texted(told) == [PHONE, *[RIGHT] * times]
    assert told.worklist() == []


def test_no_replay_sends_it_besides(told: Clinic) -> None:
    """While it waits, has gone out or failed: no replay, repeated post or other name of the kit
    sends the first message or another one as well.
    """
    first = only(told.db, notifications, rule="results")
    change(told.db, notifications, {"id": first["id"]}, status="permanent-failure")
    made = again(told)
    assert replay_event(told.db, first["event_id"])
    told.work()
    assert texted(told) == [PHONE, RIGHT]
    told.results()
    assert replay_event(told.db, first["event_id"])
    told.work(HOUR)
    told.tell("permanent-failure", "30005", id=made)
    told.work()
    with told.db.read() as connection:
        found = replay.failed_messages(connection, [first["id"]])
        assert replay.failed_ids(connection) == []
    assert found[first["id"]].made_up_for
    assert texted(told) == [PHONE, RIGHT]


def test_what_surely_failed_twice_goes_out_once(told: Clinic) -> None:
    """Neither the first nor its repeat ever left: a replay of the event sends one of them."""
    first = only(told.db, notifications, rule="results")
    change(told.db, notifications, {"id": first["id"]}, status="technical-failure")
    with told.db.write() as connection:
        connection.exec_driver_sql("UPDATE attempts SET outcome = 'rejected'")
    told.twilio.answers.append(lambda request: NO_MOBILE)
    again(told)
    told.work()
    told.twilio.answers.clear()
    assert replay_event(told.db, first["event_id"])
    told.work(HOUR)
    assert texted(told) == [PHONE, RIGHT]


def test_a_fallback_that_waits_is_not_sent_besides(clinic: Clinic) -> None:
    """The text failed and its email waits: sent again, the text alone goes. Where that fails too,
    the email goes after all.
    """
    clinic.configure(staff=STAFF)
    clinic.post()
    clinic.work()
    clinic.tell("permanent-failure", "30005", rule="kit")
    jobs = clinic.jobs
    (failed,) = jobs.follow_ups.due(1)
    jobs.follow_ups.follow_up(failed)
    made = again(clinic, failed.id)
    assert clinic.statuses()[0] == ("email", "cancelled")
    clinic.work()
    assert clinic.sendgrid.accepted == []
    clinic.tell("permanent-failure", "30005", id=made)
    clinic.work()
    assert (len(texted(clinic)), len(clinic.sendgrid.accepted)) == (2, 1)
    assert clinic.worklist() == []


def test_a_fallback_of_long_ago_does_not_make_up_for_it(clinic: Clinic) -> None:
    """The text failed and an email went instead; the text, sent again, fails: staff are told, since
    whoever had it sent again found the email wanting.
    """
    clinic.configure(staff=STAFF)
    clinic.twilio.answers.append(lambda request: NO_MOBILE)
    clinic.post()
    clinic.work()
    assert (len(clinic.sendgrid.accepted), clinic.worklist()) == (1, [])
    made = again(clinic, only(clinic.db, notifications, channel="sms")["id"])
    clinic.work()
    assert (len(clinic.sendgrid.accepted), clinic.worklist()) == (2, ["unreached"])
    clinic.twilio.answers.clear()
    with clinic.db.write() as connection:
        replay.try_again(connection, made, "")
    clinic.work()
    assert len(texted(clinic)) == 1


def test_a_link_that_is_learned_takes_it_along(told: Clinic) -> None:
    """The lab links the kit to another: the repeat is about what the first message is about, is
    still the repeat of that one, and goes out.
    """
    made = again(told)
    with told.db.write() as connection:
        journeys.move_identity(connection, KIT, RETEST, 1)
    first, repeat = told.messages(rule="results")
    assert (first["subject"], repeat["subject"], repeat["status"]) == (RETEST, RETEST, "created")
    assert repeat["family"] == first["family"]
    assert repeat["identity"] == f"resent {first['id']}"
    assert made in refused(told, first["id"])


def test_what_cannot_be_sent_again_says_why(told: Clinic) -> None:
    """An alert, a message that somebody stopped, one that may still go out, and one of whom the
    ledger knows nothing any more.
    """
    told.twilio.answers.append(lambda request: NO_MOBILE)
    made = again(told)
    told.work()
    alert = told.messages(rule="relay:unreached")[-1]["id"]
    assert "Relay's own" in refused(told, alert)
    assert refused(told, "msg_none").startswith("There is no such message:")
    for values, why in (
        ({"status": "unknown"}, "may have gone out"),
        ({"status": "sending"}, "It is being sent."),
        ({"status": "cancelled", "stopped_by": "admin"}, f"flask relay replay {made}"),
    ):
        change(told.db, notifications, {"id": made}, **values)
        assert why in refused(told, made)
    erase(told, "sms", PHONE)
    assert "erased" in refused(told, told.messages(rule="results")[0]["id"])


def test_do_not_send_stops_a_repeat_too(told: Clinic) -> None:
    """A person's decision about the kit's message holds for its repeat, for good."""
    first = only(told.db, notifications, rule="results")["id"]
    made = again(told)
    with told.db.write() as connection:
        assert releases.stop(connection, made, "admin", "I call her.")
    assert refused(told, first) == "It was sent again already."
    told.work(DAY)
    assert texted(told) == [PHONE]


def test_staffs_message_goes_to_the_same_address_again(clinic: Clinic) -> None:
    """Of a group's messages the one that was named, and not the others'."""
    rules = '[rules.staff]\nevent = "order.shipped"\nto = "desk"\nchannels = ["email"]\n'
    two = STAFF.replace("]", ', "second@example.org"]', 2).replace(
        ', "second@example.org"]', "]", 1
    )
    clinic.configure(f'{rules}template = "kit"\n', staff=two)
    clinic.post()
    clinic.work()
    second = only(clinic.db, notifications, address="second@example.org")
    again(clinic, second["id"])
    clinic.work()
    assert [row["address"] for row in clinic.messages()][-1] == "second@example.org"
    assert len(clinic.sendgrid.accepted) == 3


@pytest.fixture
def inside(clinic: Clinic, make_client: Callable[[Settings], Any]) -> Any:
    """A browser in which somebody is logged in to the clinic's desk."""
    client = make_client(clinic.settings)
    log_in(client)
    return client


def pressed(inside: Any, **form: str) -> str:
    """The page after something was sent again, or taken back."""
    data = {"csrf_token": token(inside.get("/journeys").text), **form}
    return str(inside.post("/journey/again", data=data, follow_redirects=True).text)


def said(page: str) -> str:
    """What the desk says at the top of a page."""
    return html.unescape(" ".join(re.findall(r'role="status"[^>]*>\s*(.*?)\s*<', page)))


def test_the_kits_page_has_a_button_for_it(told: Clinic, inside: Any) -> None:
    """Below each message that went out or failed; it asks why, and what was done stands on the page
    with who did it. What was repeated has no button any more, and says where to look.
    """
    first = only(told.db, notifications, rule="results")["id"]
    page = inside.get(f"/journey?kit={KIT}").text
    assert page.count('action="/journey/again"') == 1
    form = {"csrf_token": token(page), "message": first}
    answer = inside.post("/journey/again", data=form, follow_redirects=True)
    assert "Write a note first." in said(answer.text)
    page = inside.post(
        "/journey/again", data={**form, "note": "Wrong <number>."}, follow_redirects=True
    ).text
    made = told.messages(rule="results")[-1]["id"]
    assert "by a message of its own" in said(page)
    for words in (
        f"admin had {first} sent again, by this message: Wrong &lt;number&gt;.",
        f"A person had it sent again, by another message ({made}).",
        f"A later message has taken its place. To send it once more, send that one again: {made}",
    ):
        assert words in page
    assert page.count('action="/journey/again"') == 2  # the undo alone, by the notice and below
    told.work()
    assert texted(told) == [PHONE]
    told.work(SOON)
    page = inside.get(f"/journey?kit={KIT}").text
    assert page.count('action="/journey/again"') == 1
    answer = inside.post("/journey/again", data={**form, "note": "Twice."}, follow_redirects=True)
    assert made in said(answer.text)
    assert texted(told) == [PHONE, RIGHT]
    assert inside.post("/journey/again", data={**form, "message": "none"}).status_code == 404


def test_on_the_desk_it_is_taken_back_while_it_waits(told: Clinic, inside: Any) -> None:
    """For some seconds, or until its window opens, a press by the notice or the message cancels it,
    on record; after that it is too late. The first can be sent again all the same.
    """
    first = only(told.db, notifications, rule="results")["id"]
    again_, undo = {"message": first, "note": "A wrong number."}, {"act": "undo"}
    page = pressed(inside, **again_)
    made = told.messages(rule="results")[-1]["id"]
    assert page.count(f'value="{made}"><button class="quiet" name="act" value="undo"') == 2
    assert "Taken back" in said(pressed(inside, message=made, **undo))
    told.work(HOUR)
    assert texted(told) == [PHONE]
    repeat = only(told.db, notifications, id=made)
    assert (repeat["status"], repeat["reason"]) == ("cancelled", "Taken back by admin.")
    assert only(told.db, audit, action="resend undone")["target"] == made
    pressed(inside, **again_)
    told.work(SOON)
    assert texted(told) == [PHONE, RIGHT]
    assert "too late" in said(pressed(inside, message=made, **undo))


def test_what_a_repeat_made_needless_is_needed_again(clinic: Clinic) -> None:
    """The text failed, and its email, or a case, was left out for the repeat: taken back, they come
    after all.
    """
    clinic.configure(staff=STAFF)
    clinic.twilio.answers.append(lambda request: NO_MOBILE)
    clinic.post()
    clinic.results()
    jobs = clinic.jobs
    for event in jobs.lease_events(2):
        jobs.process(event)
    for claim in jobs.claim("sms", 2):
        jobs.deliver(claim)
    for failed in jobs.follow_ups.due(2):
        jobs.follow_ups.follow_up(failed)
    assert clinic.worklist() == ["unreached"]
    made = [
        again(clinic, only(clinic.db, notifications, rule=rule, channel="sms")["id"])
        for rule in ("kit", "results")
    ]
    (email,) = clinic.messages(rule="kit", channel="email")
    assert (clinic.worklist(), email["status"]) == ([], "cancelled")
    for id_ in made:
        with clinic.db.write() as connection:
            send_again.take_back(connection, id_, by="admin")
    clinic.work()
    (email,) = clinic.messages(rule="kit", channel="email")
    assert (clinic.worklist(), email["status"]) == (["unreached"], "sent")
    assert texted(clinic) == []


def test_the_kits_page_says_why_there_is_no_button(clinic: Clinic, inside: Any) -> None:
    """News that is out of date is not offered again."""
    clinic.configure(staff=STAFF)
    clinic.post()
    clinic.work()
    clinic.post("order.delivered", order_id=ORDER)
    clinic.work(HOUR)
    page = inside.get(f"/journey?kit={ORDER}").text
    assert page.count('action="/journey/again"') == 0
    assert "The kit has moved on: order.delivered has come." in page
