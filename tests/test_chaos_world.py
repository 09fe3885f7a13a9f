"""The world that `make chaos` plays: it fits today's configuration, and can be played at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from relay.config import check
from relay.config.settings import Settings
from relay.lab.events import EVENTS
from tools.chaos import words
from tools.chaos.kits import Kit, Order
from tools.chaos.lab import Said
from tools.chaos.scenarios import SCENARIOS, Post, families
from tools.chaos.stage import CONFIG, RULES
from tools.chaos.truth import Truth


def test_its_rules_and_templates_are_a_configuration(settings: Settings, tmp_path: Path) -> None:
    """What a run writes is a configuration by today's rules, or the run would not start."""
    words.write(tmp_path / "templates", RULES)
    config = check.load(replace(settings, config=CONFIG, templates=tmp_path / "templates"))
    assert {rule.name for rule in config.rules} == set(RULES)


def test_every_scenario_is_played_and_its_steps_come_true_or_not() -> None:
    """Each scenario is in a run, however small, and its posts are the lab's events; where the lab
    denies a step to the end, it is one that the scenario's row says so of."""
    played = families(seed=1, kits=100, seconds=25.0)
    assert {family.scenario for family in played} == set(SCENARIOS)
    for family in played:
        begun = {(post.step, post.thing): post.at for post in family.posts}
        said = [Said(change.at, change.path, change.fields) for change in family.changes]
        truth = Truth(said, begun)
        denied = {
            post.step
            for post in family.posts
            if post.thing and not truth.is_lasting(post.step, post.thing)
        }
        assert denied <= denied_by(family.scenario.results, family.scenario.shipping)
        for post in family.posts:
            assert EVENTS[post.step].schema.validate(post.data) == {}
            assert is_named(post)


def denied_by(results: str, shipping: object) -> set[str]:
    """The steps that the lab's API does not bear out at the end of a scenario."""
    denied = {"order.shipped", "order.delivered"} if "returned" in str(shipping) else set()
    return denied | ({"lab_results.complete"} if "ever" in results else set())


def is_named(post: Post) -> bool:
    """Whether a post calls its thing by one of its names, or by its family's shared one."""
    name = post.data.get("order_id") or post.data["testregistration_id"]
    if isinstance(post.thing, Order):
        return bool(name == post.thing.id)
    return post.thing is None or name in (*post.thing.names, Kit(post.thing.family, 0).reference)
