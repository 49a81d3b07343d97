"""When a changed file is read: once it is quiet, or after a while; and when its errors are believed."""

from aigw.serve.watch import LONGEST_S, PATIENCE_S, QUIET_S, Seen, Settling


def version(number: int) -> Seen:
    return ((number,),)


def settled() -> Settling:
    settling = Settling(version(0))
    settling.look(0.0, version(0))
    assert not settling.due(100.0)
    return settling


def test_a_quiet_file_is_read_once() -> None:
    settling = settled()
    settling.look(1.0, version(1))
    assert not settling.due(1.0 + QUIET_S / 2)
    assert settling.due(1.0 + QUIET_S) and not settling.last(1.0 + QUIET_S)
    settling.done()
    settling.look(2.0, version(1))
    assert not settling.due(2.0)


def test_a_file_that_goes_on_changing_is_read_all_the_same() -> None:
    settling = settled()
    now, number = 1.0, 0
    while not settling.due(now):
        number += 1
        settling.look(now, version(number))
        now += 0.05
    assert LONGEST_S <= now - 1.0 <= LONGEST_S + 0.11


def test_errors_are_believed_when_time_is_up_and_not_read_again_before_it_moves() -> None:
    settling = settled()
    settling.look(1.0, version(1))
    settling.tried()
    assert not settling.due(1.0 + QUIET_S)
    settling.look(1.0 + QUIET_S, version(2))
    assert settling.due(1.0 + LONGEST_S) and not settling.last(1.0 + LONGEST_S)
    settling.tried()
    assert settling.due(1.0 + PATIENCE_S) and settling.last(1.0 + PATIENCE_S)
    settling.done()
    assert not settling.due(10.0)
    settling.look(11.0, version(3))
    assert settling.due(11.0 + QUIET_S)


def test_a_file_that_is_gone_and_back_as_it_was_is_read() -> None:
    settling = settled()
    settling.look(1.0, (None,))
    settling.look(1.05, version(0))
    assert settling.due(1.05 + QUIET_S)
