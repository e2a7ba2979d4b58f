"""The memory that policy loop, servo process and guardian share: targets, stops, states and a sign of life.

Each lies in a ring of its own with one writer (`runtime.tick_ring`): a reader gets a whole record or none, also after
the writer was killed half-way, and neither side ever waits for the other. Knows no process and no arm.
"""

from __future__ import annotations

import contextlib
import struct
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from drivers.arm import JointState, frozen
from runtime.safety import REASONS
from runtime.servo import ServoCounters, ServoState, Split, Target
from runtime.supervisor import State, Stop
from runtime.tick_ring import TickRing

RING_TICKS = 512  # 5 s of servo ticks for a recorder that is held up by its disk
TEXT_BYTES = 512  # of a fault; longer ones are cut, which nine silent servos with their ids are not
_NUMBER = struct.Struct("=q")
LATEST = 2  # records of a ring of which the newest alone is read
ENDED = 0  # a promise of the servo process that has ended in good order


class SharedBlock:
    """Targets one way, servo states the other, for an arm of `joints` joints.

    Creates the memory, or opens the one called `name`. `unlink` may be called by both sides, in any order.
    """

    def __init__(self, joints: int, name: str | None = None) -> None:
        n = joints
        self._joints = n
        self._target = struct.Struct(f"=q{n}d")
        # Stamp, reading's stamp, state, reasons, whether anything was asked, length of the fault text or -1; then
        # counters, split, seven joint arrays and the text.
        counters, split = len(ServoCounters._fields), len(Split._fields)
        self._state = struct.Struct(f"=6q{counters}q{split}q{7 * n}d{TEXT_BYTES}s")
        kinds = (
            (self._target.size, LATEST),
            (_NUMBER.size, LATEST),
            (_NUMBER.size, LATEST),
            (self._state.size, RING_TICKS),
        )
        sizes = [TickRing.size(*kind) for kind in kinds]
        memory = SharedMemory(name=name, create=name is None, size=sum(sizes) if name is None else 0)
        self._memory, buffer = memory, memory.buf
        assert buffer is not None  # only a closed memory has none
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        self._rings = [TickRing(buffer[start:], *kind) for start, kind in zip(starts, kinds, strict=True)]
        self._targets, self._stops, self._promises, self._states = self._rings

    @property
    def name(self) -> str:
        return self._memory.name

    def write_target(self, target: Target) -> None:
        self._targets.write(self._target.pack(target.stamp, *target.positions.tolist()))

    def read_target(self) -> tuple[int, Target] | None:
        """The last target and its number, counted from 1; None while there is none."""
        found = self._targets.latest()
        if found is None:
            return None
        stamp, *positions = self._target.unpack(found[1])
        return found[0], Target(stamp, frozen(positions))

    def write_stop(self, category: Stop) -> None:
        """Ask for an operator's stop. One thread of the policy process is its writer; needs no answer."""
        self._stops.write(_NUMBER.pack(category))

    def read_stop(self) -> tuple[int, Stop] | None:
        """The last stop asked for and its number, counted from 1; None while there is none."""
        found = self._stops.latest()
        return None if found is None else (found[0], Stop(_NUMBER.unpack(found[1])[0]))

    def write_promise(self, until: int) -> None:
        """The servo process's sign of life: it will write another one by `until` (monotonic ns), or it has `ENDED`."""
        self._promises.write(_NUMBER.pack(until))

    def read_promise(self) -> int | None:
        """The last sign of life; None before the first."""
        found = self._promises.latest()
        return None if found is None else int(_NUMBER.unpack(found[1])[0])

    def write_state(self, state: ServoState) -> None:
        joints = state.joints
        reasons = sum(1 << index for index, reason in enumerate(REASONS) if reason in state.reasons)
        text = (state.fault or "").encode()[:TEXT_BYTES]
        length = -1 if state.fault is None else len(text)
        asked = state.command if state.asked is None else state.asked
        measured = (joints.positions, joints.velocities, joints.loads, joints.temperatures_c, joints.voltages)
        arrays = np.concatenate((*measured, state.command, asked)).tolist()
        record = self._state.pack(
            state.stamp,
            joints.stamp,
            state.state,
            reasons,
            state.asked is not None,
            length,
            *state.counters,
            *state.split,
            *arrays,
            text,
        )
        self._states.write(record)

    def read_state(self) -> ServoState | None:
        """The last state; its joints carry no `errors` (they are in the fault). None while there is none."""
        found = self._states.latest()
        return None if found is None else self._unpack(found[1])

    def drain(self) -> tuple[tuple[ServoState, ...], int]:
        """Every state written since the last call, oldest first, and how many were lost. For one reader alone."""
        drained = self._states.drain()
        return tuple(self._unpack(record) for record in drained.records), drained.dropped

    def _unpack(self, record: bytes) -> ServoState:
        values = self._state.unpack(record)
        stamp, joints_stamp, state, mask, has_asked, length = values[:6]
        split = 6 + len(ServoCounters._fields)
        arrays = split + len(Split._fields)
        rows = frozen(values[arrays:-1]).reshape(7, self._joints)
        positions, velocities, loads, temperatures, voltages, command, asked = rows
        return ServoState(
            stamp=stamp,
            joints=JointState(joints_stamp, positions, velocities, loads, temperatures, voltages),
            command=command,
            state=State(state),
            fault=None if length < 0 else values[-1][:length].decode(errors="replace"),
            reasons=tuple(reason for index, reason in enumerate(REASONS) if mask >> index & 1),
            counters=ServoCounters(*values[6:split]),
            split=Split(*values[split:arrays]),
            asked=asked if has_asked else None,
        )

    def close(self) -> None:
        """Leave the memory; the other side keeps it."""
        for ring in self._rings:
            ring.close()
        self._memory.close()

    def unlink(self) -> None:
        """Remove the memory's name; whoever has it open keeps it."""
        with contextlib.suppress(FileNotFoundError):
            self._memory.unlink()
