"""`flask relay simulate`: plays the lab."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from relay.cli import context
from relay.errors import Problem


@click.command()
@click.argument("events", nargs=-1)
@click.option("--url", help="Where to post.  [default: this machine's web process, PORT or 8000]")
@click.option("--new-kit", is_flag=True, help="Use new ids, so that no post is a duplicate.")
@click.option("--times", default=1, show_default=True, help="How many times to post each event.")
@click.option("--shuffle", is_flag=True, help="Post in random order.")
@click.option("--seed", type=int, help="A number that repeats a random order.")
@click.option(
    "--speed",
    default=3600.0,
    show_default=True,
    help="How much faster than the lab's own retry schedule: 3600 makes its hour a second.",
)
def simulate(
    events: Sequence[str],
    url: str | None,
    new_kit: bool,
    times: int,
    shuffle: bool,
    seed: int | None,
    speed: float,
) -> None:
    """Post the lab's example events, as the lab would.

    EVENTS are the ones to post; by default, all seven are. A post that gets no 200 is
    repeated as the lab would, only faster.
    """
    from relay import logs
    from relay.dev import lab_player
    from relay.lab import samples
    from relay.lab.events import EVENTS

    for event in events:
        context.known(event, EVENTS, "event")
    bodies = [body for body in samples.webhooks() if not events or body["event"] in events]
    script = lab_player.script(bodies, times=times, shuffle=shuffle, seed=seed, new_kit=new_kit)
    where = url or f"http://127.0.0.1:{os.environ.get('PORT', '8000')}/webhooks/lab"
    secret = os.environ.get("WEBHOOK_SECRET", "").split(",")[0].strip()
    lost = 0
    for number, post in enumerate(lab_player.play(script, where, secret, speed=speed)):
        if not number and post.status == lab_player.NO_ANSWER:
            remedy = "Start Relay (`make run`), or say where it is: PORT=…, or --url."
            said = f"nobody answers at {logs.without_secrets(where)}."
            context.stop(Problem(said, remedy=remedy))
        mark = click.style("200", fg="green") if post.taken else click.style(post.status, fg="red")
        click.echo(f"{mark}  {post.event:<38} {post.answer}")
        lost += post.given_up
    if lost:
        said = f"Relay did not accept {lost} events, and the lab has given up on them."
        context.stop(Problem(said))
