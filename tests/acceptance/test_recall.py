"""A pod that is to go recalls its gang first: what it does is finished there, and nothing new begins."""

from __future__ import annotations

import subprocess
import sys

import pytest
from stage import Up, echo, processes
from stage.waiting import until

from orchestrator.backends.local_torchrun import MARK


def before_it_goes(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """What the kubelet runs in a pod before SIGTERM, with the pod's environment; nobody's process but ours."""
    own = {name: value for name, value in environment.items() if name != MARK}
    return subprocess.Popen([sys.executable, "-m", "inference.recall", "--seconds=600"], env=own)


def test_a_gang_that_is_recalled_finishes_its_request_and_goes_and_another_takes_the_next(up: Up) -> None:
    up.client.apply_template(echo("called", ranks=2))
    request = up.client.submit("called", {"sleep_s": 5, "steps": 50})
    up.running(request.id, past_step=1)
    (gang,) = up.gangs("called")
    (agent,) = processes.agents(gang.id)

    hook = before_it_goes(agent.environ())
    until(lambda: up.client.gang(gang.id).state == "draining" or None, "the gang drains")
    following = up.client.submit("called", {})

    assert hook.wait(timeout=60) == 0
    done = up.done(request.id)
    assert (done.status, done.attempt) == ("succeeded", 1)
    assert up.done(following.id).status == "succeeded"
    assert "was told to go" in (up.client.gang(gang.id).reason or "")


@pytest.mark.long
def test_a_recall_does_not_hold_up_the_end_of_a_gang_that_nobody_wants(up: Up) -> None:
    up.client.apply_template(echo("unwanted", ranks=2))
    request = up.client.submit("unwanted", {"sleep_s": 60, "steps": 600})
    up.running(request.id, past_step=1)
    (gang,) = up.gangs("unwanted")
    (agent,) = processes.agents(gang.id)
    environment = agent.environ()
    up.client.cancel(request.id)
    up.client.drain_gang(gang.id)
    until(lambda: up.client.gang(gang.id).state == "gone" or None, "the gang is gone")

    assert before_it_goes(environment).wait(timeout=60) == 0
