"""The thread on rank 0 that hears of a cancel at once: a parked question while an attempt runs.

The beat would bring it too, up to a beat later. Like the beat it only asks the attempt to stop; the ranks agree at
their next step.
"""

import threading
import time

from inference.attempt import Attempt, Life, Stop
from inference.service import Answered, Service, Unreachable

TICK_S = 0.1
FIRST_S = 0.2  # of an attempt: a shorter one is not worth a question
PAUSE_S = 2.0  # after a refusal: an older service has no such answer, and the beat does as well


class Ear:
    def __init__(self, service: Service, life: Life, wait_s: float) -> None:
        self._service = service
        self._life = life
        self._wait_s = wait_s

    def start(self) -> None:
        threading.Thread(target=self._run, name="muster-ear", daemon=True).start()

    def _run(self) -> None:
        while True:
            attempt = self._life.leased
            if attempt is None or attempt.stop is not None or time.monotonic() - attempt.began < FIRST_S:
                time.sleep(TICK_S)
            else:
                self._listen(attempt)

    def _listen(self, attempt: Attempt) -> None:
        try:
            word = self._service.word(attempt.work.attempt, self._wait_s)
        except (Answered, Unreachable):
            word = "over"
        match word:
            case "cancel":
                attempt.ask_to_stop(Stop.CANCEL)
            case "over" if self._life.attempt is attempt:  # not yet put away here, or lost: the beat will say
                time.sleep(TICK_S if attempt.at_end else PAUSE_S)
