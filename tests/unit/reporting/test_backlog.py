"""What waits for a receiver: its order, its bounds, and what is told of what was lost."""

from __future__ import annotations

from pf_agent.reporting.backlog import Backlog, Letter


class Receiver:
    """Takes `room` letters, and then no more."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.taken: list[str] = []

    def send(self, letter: Letter) -> bool:
        if self.room <= 0:
            return False
        self.room -= 1
        self.taken.append(letter.data.decode())
        return True

    def backlog(self, most: int = 1000, most_bytes: int = 1 << 20) -> Backlog:
        return Backlog(self.send, lambda n: Letter(f"{n} lost".encode()), most, most_bytes)


def put(backlog: Backlog, *letters: str) -> None:
    for letter in letters:
        backlog.put(Letter(letter.encode()))


def test_where_there_is_room_nothing_waits() -> None:
    receiver = Receiver(room=2)
    backlog = receiver.backlog()
    put(backlog, "a", "b")
    assert receiver.taken == ["a", "b"]
    assert len(backlog) == 0
    assert backlog.flush()


def test_what_waits_goes_first_when_there_is_room_again() -> None:
    receiver = Receiver()
    backlog = receiver.backlog()
    put(backlog, "a", "b")
    assert not backlog.flush()
    assert len(backlog) == 2
    receiver.room = 1
    put(backlog, "c")
    assert receiver.taken == ["a"]
    receiver.room = 9
    assert backlog.flush()
    assert receiver.taken == ["a", "b", "c"]


def test_the_oldest_are_given_up_and_it_is_said_in_their_place_how_many() -> None:
    receiver = Receiver()
    backlog = receiver.backlog(most=2)
    put(backlog, *"abcde")
    assert len(backlog) == 5
    receiver.room = 9
    put(backlog, "f")
    assert receiver.taken == ["3 lost", "d", "e", "f"]
    assert len(backlog) == 0


def test_large_letters_are_given_up_sooner() -> None:
    receiver = Receiver()
    backlog = receiver.backlog(most_bytes=10)
    put(backlog, "x" * 6, "y" * 4, "z")
    receiver.room = 9
    assert backlog.flush()
    assert receiver.taken == ["1 lost", "yyyy", "z"]


def test_how_many_were_lost_is_told_once_and_added_up_until_then() -> None:
    receiver = Receiver()
    backlog = receiver.backlog(most=1)
    put(backlog, "a", "b")
    assert not backlog.flush()
    put(backlog, "c")
    receiver.room = 1
    assert not backlog.flush()
    receiver.room = 9
    assert backlog.flush()
    assert receiver.taken == ["2 lost", "c"]
