"""Transactions on a port that is a script, under a clock that only moves when the port waits."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import serial

from drivers.bus import POLL, QUIET_MAX, Bus, BusError, PortLost, Reply, open_serial

Answer = Callable[[bytes], bytes]


class ScriptedPort:
    """Answers the i-th request by `answers[i]`; reading an empty line takes `POLL` of its own time."""

    def __init__(self, *answers: bytes, stale: bytes = b"") -> None:
        self.now = 0
        self.requests: list[bytes] = []
        self._answers = list(answers)
        self._line = bytearray(stale)

    @property
    def in_waiting(self) -> int:
        return len(self._line)

    def read(self, size: int = 1, /) -> bytes:
        if size and not self._line:
            self.now += round(POLL * 1e9)
        taken = bytes(self._line[:size])
        del self._line[:size]
        return taken

    def write(self, data: bytes, /) -> int:
        self.requests.append(data)
        self._line += self._answers.pop(0) if self._answers else b""
        return len(data)

    def close(self) -> None: ...

    def clock(self) -> int:
        return self.now


class SlowPort(ScriptedPort):
    """Answers the i-th request `delays[i]` s after it, whatever has been asked by then."""

    def __init__(self, *answers: bytes, delays: tuple[float, ...]) -> None:
        super().__init__(*answers)
        self._delays = list(delays)
        self._under_way: list[tuple[int, bytes]] = []

    @property
    def in_waiting(self) -> int:
        self._arrive()
        return super().in_waiting

    def read(self, size: int = 1, /) -> bytes:
        self._arrive()
        if size and not self._line:
            self.now = min([self.now + round(POLL * 1e9), *(at for at, _ in self._under_way)])
            self._arrive()
        taken = bytes(self._line[:size])
        del self._line[:size]
        return taken

    def write(self, data: bytes, /) -> int:
        self.requests.append(data)
        if self._answers:
            self._under_way.append((self.now + round(self._delays.pop(0) * 1e9), self._answers.pop(0)))
        return len(data)

    def _arrive(self) -> None:
        for item in [item for item in self._under_way if item[0] <= self.now]:
            self._line += item[1]
            self._under_way.remove(item)


class LetterFraming:
    """A reply is "<id digit>." ; an unfinished one is a lone digit; all else is noise."""

    def parse(self, buffer: bytearray, expected: Mapping[int, int]) -> tuple[list[Reply], int]:
        replies, skipped = [], 0
        while len(buffer) >= 2:
            if buffer[1:2] == b"." and buffer[0] - 48 in expected:
                replies.append(Reply(buffer[0] - 48, 0, b""))
                del buffer[:2]
            else:
                skipped += 1
                del buffer[:1]
        return replies, skipped


def ask(ids: Iterable[int]) -> bytes:
    return "".join(map(str, ids)).encode()


def bus_on(port: ScriptedPort, retries: int = 1, deadline: float = 0.004) -> Bus:
    return Bus(port, LetterFraming(), deadline=deadline, retries=retries, clock=port.clock)


def test_replies_are_found_by_id_in_any_order() -> None:
    port = ScriptedPort(b"3.1.2.")
    bus = bus_on(port)
    assert set(bus.exchange(ask, {1: 0, 2: 0, 3: 0})) == {1, 2, 3}
    assert bus.counters.snapshot() == {"sent": 1, "retried": 0, "corrupt": 0, "timed_out": 0, "failed": 0}
    assert port.now == 0  # no waiting once everything is there


def test_stale_bytes_are_drained_before_the_request() -> None:
    port = ScriptedPort(b"", b"", stale=b"1.")
    assert bus_on(port).exchange(ask, {1: 0}) == {}


def test_a_retry_asks_only_for_what_is_missing() -> None:
    port = ScriptedPort(b"1.3.", b"2.")
    bus = bus_on(port)
    assert set(bus.exchange(ask, {1: 0, 2: 0, 3: 0})) == {1, 2, 3}
    assert port.requests == [b"123", b"2"]
    assert bus.counters.snapshot() == {"sent": 2, "retried": 1, "corrupt": 0, "timed_out": 1, "failed": 0}


def test_every_second_try_asks_in_the_opposite_order() -> None:
    port = ScriptedPort(b"1.")
    bus = bus_on(port, retries=2)
    bus.exchange(ask, {1: 0, 2: 0, 3: 0, 4: 0})
    assert port.requests == [b"1234", b"432", b"234"]
    assert bus.counters.missing == {2: 3, 3: 3, 4: 3}


def test_a_retry_may_ask_in_other_words() -> None:
    port = ScriptedPort(b"", b"", b"1.")
    assert set(bus_on(port, retries=2).exchange(ask, {1: 0}, retry=lambda ids: b"?" + ask(ids))) == {1}
    assert port.requests == [b"1", b"?1", b"?1"]


def test_who_was_missing_is_counted_for_each_device() -> None:
    bus = bus_on(ScriptedPort(b"1.3.", b"2.", b"1.", b""))
    bus.exchange(ask, {1: 0, 2: 0, 3: 0})
    assert bus.counters.missing == {2: 1}
    bus.exchange(ask, {1: 0, 3: 0})
    assert bus.counters.missing == {2: 1, 3: 2}


def test_a_damaged_reply_counts_as_corrupt() -> None:
    port = ScriptedPort(b"1.x.", b"2.")
    bus = bus_on(port)
    assert set(bus.exchange(ask, {1: 0, 2: 0})) == {1, 2}
    assert (bus.counters.corrupt, bus.counters.timed_out) == (1, 0)


def test_a_reply_cut_short_counts_as_corrupt() -> None:
    bus = bus_on(ScriptedPort(b"1", b"1."))
    assert set(bus.exchange(ask, {1: 0})) == {1}
    assert bus.counters.corrupt == 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_silence_costs_a_bounded_time(retries: int) -> None:
    port = ScriptedPort()
    bus = bus_on(port, retries=retries)
    assert bus.exchange(ask, {1: 0}) == {}
    assert port.now <= round(((retries + 1) * 0.004 + POLL) * 1e9)
    assert bus.counters.snapshot() == {
        "sent": retries + 1,
        "retried": retries,
        "corrupt": 0,
        "timed_out": retries + 1,
        "failed": 1,
    }


class StuckPort(ScriptedPort):
    """The system keeps whoever waits for a byte, beyond any timeout."""

    def read(self, size: int = 1, /) -> bytes:
        self.now += 9_000_000
        return super().read(0)


def test_no_retry_begins_when_the_time_of_all_tries_is_over() -> None:
    port = StuckPort()
    bus = bus_on(port, deadline=0.004)
    assert bus.exchange(ask, {1: 0}) == {}
    assert port.requests == [b"1"]
    assert bus.counters.snapshot() == {"sent": 1, "retried": 0, "corrupt": 0, "timed_out": 1, "failed": 1}


def test_a_reply_that_begins_in_the_last_wait_counts_whole() -> None:
    # A wait of at most 1 ms begins after 3 ms; it brings one byte, when the deadline is over.
    port = SlowPort(b"1.2.3.", delays=(0.0038,))
    bus = bus_on(port, deadline=0.0035)
    assert set(bus.exchange(ask, {1: 0, 2: 0, 3: 0})) == {1, 2, 3}
    assert bus.counters.snapshot() == {"sent": 1, "retried": 0, "corrupt": 0, "timed_out": 0, "failed": 0}


def test_a_late_reply_serves_the_retry_and_the_retry_s_own_serves_nobody() -> None:
    port = SlowPort(b"1.", b"1.", b"2.", delays=(0.006, 0.0025, 0.0001))
    bus = bus_on(port)
    assert set(bus.exchange(ask, {1: 0})) == {1}
    assert (bus.counters.timed_out, bus.counters.retried) == (1, 1)
    assert bus.exchange(ask, {1: 0, 2: 0}).keys() == {2}, "a stale reply of servo 1 was taken for a new one"
    assert bus.counters.corrupt == 0


def test_a_line_that_never_falls_quiet_is_not_waited_for_forever() -> None:
    class Babbling(ScriptedPort):
        @property
        def in_waiting(self) -> int:
            return 1

        def read(self, size: int = 1, /) -> bytes:
            self.now += 100_000
            return b"x"

    port = Babbling()
    bus = bus_on(port, retries=0)
    bus.exchange(ask, {1: 0})
    before = port.now
    bus.send(b"go")
    assert port.requests[-1] == b"go" and port.now - before <= round((QUIET_MAX + POLL) * 1e9)


def test_endless_noise_ends_at_the_deadline() -> None:
    class Babbling(ScriptedPort):
        def read(self, size: int = 1, /) -> bytes:
            self.now += 100_000
            return b"x" * size

    port = Babbling()
    assert bus_on(port, retries=0).exchange(ask, {1: 0}) == {}
    assert port.now <= round((0.004 + POLL) * 1e9)


def test_the_bus_stays_usable_after_a_failure() -> None:
    bus = bus_on(ScriptedPort(b"", b"", b"1."))
    assert bus.exchange(ask, {1: 0}) == {}
    assert set(bus.exchange(ask, {1: 0})) == {1}


def test_a_lost_port_is_one_line() -> None:
    class Gone(ScriptedPort):
        def write(self, data: bytes, /) -> int:
            raise OSError(5, "Input/output\nerror")

    bus = bus_on(Gone())
    assert not bus.lost
    for act in (lambda: bus.send(b"x"), lambda: bus.exchange(ask, {1: 0})):
        with pytest.raises(PortLost, match="connection lost") as caught:
            act()
        assert "\n" not in str(caught.value)
    assert bus.counters.failed == 2
    assert bus.lost


def test_a_line_that_takes_no_bytes_for_a_while_is_silent_and_not_lost() -> None:
    class Stuck(ScriptedPort):
        tries = 0

        def write(self, data: bytes, /) -> int:
            self.tries += 1
            if self.tries == 1:
                raise serial.SerialTimeoutException("Write timeout")
            return super().write(data)

    bus = bus_on(Stuck(b"1."))
    assert set(bus.exchange(ask, {1: 0})) == {1}
    assert (bus.lost, bus.counters.retried, bus.counters.timed_out) == (False, 1, 1)


def test_a_missing_port_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"tty9: no such serial port") as caught:
        open_serial(str(tmp_path / "tty9"), 1_000_000)
    assert "\n" not in str(caught.value)


def test_what_is_no_serial_port_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    for path in (tmp_path, file):
        with pytest.raises(BusError, match="not a serial port"):
            open_serial(str(path), 1_000_000)


def test_a_port_belongs_to_one_owner() -> None:
    master, slave = pty.openpty()
    first = open_serial(os.ttyname(slave), 1_000_000)
    with pytest.raises(BusError, match="in use by another process"):
        open_serial(os.ttyname(slave), 1_000_000)
    first.close()
    open_serial(os.ttyname(slave), 1_000_000).close()
    os.close(master)
    os.close(slave)
