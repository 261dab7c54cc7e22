"""Whose fault an exception is."""

from inference.faults import Code, ControlBroken, Fault, is_communication


def test_a_broken_control_group_is_never_the_fault_of_the_handler() -> None:
    error = ControlBroken("the control group broke: Connection closed by peer")
    assert is_communication(error)
    assert Fault.of(error, rank=0, node="n0", phase="run", step=3).code == Code.RANK_FAILED
