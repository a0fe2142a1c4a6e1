import pytest

from fer_pipeline.app.gate import Gate


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def gate(clock):
    return Gate("öffne dich", clock)


def test_the_password_alone_opens(gate, clock):
    assert gate.admits("öffne dich")
    for wrong in ("", "offne dich", "öffne dich ", "ÖFFNE DICH"):
        assert not gate.admits(wrong)
        clock.now += 100


def test_each_wrong_password_closes_the_gate_for_twice_as_long(gate, clock):
    waits = []
    for _ in range(9):
        assert not gate.admits("guess")
        waits.append(gate.seconds_closed)
        clock.now += gate.seconds_closed
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert gate.admits("öffne dich")
    gate.admits("guess")
    assert gate.seconds_closed == 0.5


def test_a_closed_gate_opens_for_nobody_and_tells_nothing(gate, clock):
    gate.admits("guess")
    assert not gate.admits("öffne dich")
    clock.now += 0.5
    assert gate.admits("öffne dich")
