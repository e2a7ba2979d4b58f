"""What a servo tick costs, and what the wire alone takes: `gato-arm bench servo`, on the emulated arm.

The emulated arm answers as fast as it can and has no wire, so a round trip may be below the floor, which is the time
that the bytes of a real bus take at its baud rate: a real arm's round trip is about the sum of both.
"""

from __future__ import annotations

from time import perf_counter_ns, thread_time_ns

import numpy as np

from drivers import feetech_codec as codec
from drivers.config import ArmConfig, load_robot
from drivers.robot import open_arm
from runtime.bench.figures import Figure, Floats, Section
from runtime.clock import MILLISECOND, MonotonicClock, Pacer
from runtime.guard import Guard
from runtime.servo import ServoLoop, ServoSettings, Target
from sim.emulator import EmulatorProcess

ROBOT = "emulated"
TICKS = 400
BITS = 10  # on the wire for a byte
SWING = 0.3  # rad, of the motion that the filter has to shape


def measure(*, ticks: int = TICKS, seed: int = 0) -> Section:
    """The section "servo": the loop runs in this process, at its own rate. Raises `EmulatorError` and `ArmError`."""
    config = load_robot(ROBOT)
    with EmulatorProcess(seed=seed) as emulator:
        arm_config = config.with_devices(str(emulator.port), {}).arm
        arm = open_arm(arm_config)
        loop = ServoLoop(arm, MonotonicClock(), ServoSettings.of_robot(config), Guard.of(config))
        loop.connect()
        try:
            loop.start()
            whole, split, driver = _run(loop, ticks)
            loop.hold()
        finally:
            arm.release()
            loop.close()
    read_floor, write_floor = wire_ms(arm_config)
    figures = (
        Figure("servo tick", whole, read_floor + write_floor, {}, "floor: the bytes of both at the baud rate"),
        Figure("  bus round trip: read all joints", split[0], read_floor),
        Figure("  safety filter", split[1]),
        Figure("  write all goals", split[2], write_floor),
        Figure("  processor time of the tick", driver, note="of this process: driver, supervisor, filter"),
    )
    joints = len(arm_config.joints)
    note = f"emulated arm on a pseudo-terminal, {joints} joints, {arm_config.baudrate} baud, {ticks} ticks at 100 Hz"
    return Section("servo", figures, (note,))


def _run(loop: ServoLoop, ticks: int) -> tuple[Floats, Floats, Floats]:
    """(ticks,) whole ticks, (3, ticks) their parts, (ticks,) processor time; ms."""
    settings = loop.settings
    pacer = Pacer(loop.clock, settings.period_ns)
    every = settings.policy_period_ns // settings.period_ns
    home = loop.state().command
    whole, busy, parts = np.zeros(ticks), np.zeros(ticks), np.zeros((3, ticks))
    for index in range(ticks):
        now = pacer.wait().started
        if index % every == 0:
            goal = np.clip(home + SWING * np.sin(index / 40), loop.arm.spec.position_min, loop.arm.spec.position_max)
            loop.submit(Target(now, goal), now)
        started, worked = perf_counter_ns(), thread_time_ns()
        loop.tick(now)
        whole[index] = (perf_counter_ns() - started) / MILLISECOND
        busy[index] = (thread_time_ns() - worked) / MILLISECOND
        parts[:, index] = np.array(loop.state().split) / MILLISECOND
    return whole, parts, busy


def wire_ms(config: ArmConfig) -> tuple[float, float]:
    """How long one reading and one command of all joints are on a Feetech bus, ms."""
    ids = [joint.id for joint in config.joints]
    reply = len(codec.packet(codec.BROADCAST, 0, bytes(codec.PRESENT.size)))
    read = len(codec.sync_read(ids, codec.PRESENT)) + len(ids) * reply
    write = len(codec.sync_write(codec.GOAL_POSITION, dict.fromkeys(ids, bytes(codec.GOAL_POSITION.size))))
    scale = 1000 * BITS / config.baudrate
    return scale * read, scale * write
