"""The memory that the policy loop and the servo process share: one slot for targets, one for states.

Each slot has one writer and a sequence counter that is odd while it writes (a seqlock), plus a checksum: a reader gets
a whole record or none, whatever the order in which a processor shows it another one's writes, and also after the
writer was killed half-way. Neither side ever waits for the other. Knows no process and no arm.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from drivers.arm import JointState, frozen
from runtime.safety import REASONS
from runtime.servo import ServoCounters, ServoState, Split, Target
from runtime.supervisor import State

READ_ATTEMPTS = 16
TEXT_BYTES = 256  # of a fault; longer ones are cut
_HEADER = 16  # sequence and checksum, 8 bytes each


class Slot:
    """A record of a fixed size in shared memory: one writer, any number of readers."""

    def __init__(self, buffer: memoryview, size: int) -> None:
        self._words = buffer[:_HEADER].cast("Q")
        self._payload = buffer[_HEADER : _HEADER + size]

    def write(self, record: bytes) -> None:
        """Replace the record."""
        words = self._words
        busy = words[0] | 1  # already odd where the last write was interrupted
        words[0] = busy
        self._payload[:] = record
        words[1] = zlib.crc32(record)
        words[0] = busy + 1

    def read(self) -> tuple[int, bytes] | None:
        """The record and how many were written up to it; None when there is none that is whole."""
        words = self._words
        for _ in range(READ_ATTEMPTS):
            sequence = words[0]
            if sequence == 0 or sequence & 1:
                continue
            record = bytes(self._payload)
            if words[1] == zlib.crc32(record) and words[0] == sequence:
                return sequence // 2, record
        return None

    def close(self) -> None:
        self._words.release()
        self._payload.release()


class SharedBlock:
    """Targets one way, servo states the other, for an arm of `joints` joints.

    Creates the memory, or opens the one called `name`. `unlink` may be called by both sides, in any order.
    """

    def __init__(self, joints: int, name: str | None = None) -> None:
        n = joints
        self._joints = n
        self._target = struct.Struct(f"=q{n}d")
        # Stamp, reading's stamp, state, reasons, length of the fault text or -1; then counters, split, six joint arrays
        # and the text.
        counters, split = len(ServoCounters._fields), len(Split._fields)
        self._state = struct.Struct(f"=5q{counters}q{split}q{6 * n}d{TEXT_BYTES}s")
        first = _HEADER + -(-self._target.size // 8) * 8
        size = first + _HEADER + self._state.size
        self._memory = SharedMemory(name=name, create=name is None, size=size if name is None else 0)
        buffer = self._memory.buf
        assert buffer is not None  # only a closed memory has none
        self._targets = Slot(buffer, self._target.size)
        self._states = Slot(buffer[first:], self._state.size)

    @property
    def name(self) -> str:
        return self._memory.name

    def write_target(self, target: Target) -> None:
        self._targets.write(self._target.pack(target.stamp, *target.positions.tolist()))

    def read_target(self) -> tuple[int, Target] | None:
        """The last target and its number, counted from 1; None while there is none."""
        found = self._targets.read()
        if found is None:
            return None
        stamp, *positions = self._target.unpack(found[1])
        return found[0], Target(stamp, frozen(positions))

    def write_state(self, state: ServoState) -> None:
        joints = state.joints
        reasons = sum(1 << index for index, reason in enumerate(REASONS) if reason in state.reasons)
        text = (state.fault or "").encode()[:TEXT_BYTES]
        length = -1 if state.fault is None else len(text)
        arrays = np.concatenate(
            (joints.positions, joints.velocities, state.command, joints.loads, joints.temperatures_c, joints.voltages)
        )
        self._states.write(
            self._state.pack(
                state.stamp, joints.stamp, state.state, reasons, length, *state.counters, *state.split, *arrays, text
            )
        )

    def read_state(self) -> ServoState | None:
        """The last state; its joints carry no `errors` (they are in the fault). None while there is none."""
        found = self._states.read()
        if found is None:
            return None
        values = self._state.unpack(found[1])
        stamp, joints_stamp, state, mask, length = values[:5]
        split = 5 + len(ServoCounters._fields)
        arrays = split + len(Split._fields)
        rows = frozen(values[arrays:-1]).reshape(6, self._joints)
        positions, velocities, command, loads, temperatures, voltages = rows
        return ServoState(
            stamp=stamp,
            joints=JointState(joints_stamp, positions, velocities, loads, temperatures, voltages),
            command=command,
            state=State(state),
            fault=None if length < 0 else values[-1][:length].decode(errors="replace"),
            reasons=tuple(reason for index, reason in enumerate(REASONS) if mask >> index & 1),
            counters=ServoCounters(*values[5:split]),
            split=Split(*values[split:arrays]),
        )

    def close(self) -> None:
        """Leave the memory; the other side keeps it."""
        self._targets.close()
        self._states.close()
        self._memory.close()

    def unlink(self) -> None:
        """Remove the memory's name; whoever has it open keeps it."""
        with contextlib.suppress(FileNotFoundError):
            self._memory.unlink()
