"""What a rank tells the service of the phases of a run."""

from __future__ import annotations

from inference.attempt import LONGEST_NAME, MOST_PHASES, Progress


def names(progress: Progress) -> list[str]:
    return [name for name, _ in progress.trail()["phases"]]


def test_each_phase_stands_once_with_when_it_began() -> None:
    progress = Progress()
    for name in ("encode", "denoise", "denoise", "decode"):
        progress.enter(name)
    told = progress.trail()
    assert names(progress) == ["run", "encode", "denoise", "decode"]
    begins = [at_s for _, at_s in told["phases"]]
    assert begins == sorted(begins) and begins[0] == 0 and begins[-1] <= told["elapsed_s"]


def test_a_script_that_enters_phases_for_ever_is_told_of_so_many() -> None:
    progress = Progress()
    for number in range(10 * MOST_PHASES):
        progress.enter(f"phase {number}")
    assert len(names(progress)) == MOST_PHASES


def test_a_name_that_the_service_would_refuse_is_made_harmless() -> None:
    progress = Progress()
    progress.enter("nul\0 and \ud800" + "x" * 1000)
    (_, name) = names(progress)
    assert name.startswith("nul? and ?") and len(name) == LONGEST_NAME
