"""`muster up` that is told to end takes everything with it and gives back what it had begun."""

from __future__ import annotations

from stage import Up, echo, processes


def test_a_service_that_is_told_to_end_leaves_no_process_and_puts_its_requests_back(up: Up) -> None:
    up.client.apply_template(echo("pair", ranks=2))
    request = up.client.submit("pair", {"sleep_s": 20, "steps": 200})
    up.running(request.id, past_step=1)
    assert up.stop() == 0
    assert processes.of_folder(up.home) == []
    up.start()
    waiting = up.client.get(request.id)
    assert waiting.status in ("queued", "assigned")
    assert up.moves(request.id)[:4] == ["record", "assign", "start", "retry"]
    up.client.cancel(request.id)
    assert up.done(request.id).status == "canceled"
