"""Emulated servos on a real pseudo-terminal whose physics stands still until a test lets time pass."""

from __future__ import annotations

import select
import threading
from types import TracebackType
from typing import Self

from drivers.config import ArmConfig
from sim.plants import Joints
from sim.pseudo_terminal import PseudoTerminal
from sim.servo_chain import make_chain

PHYSICS_RATE = 200  # Hz
DEADLINE = 0.25  # s: a busy machine may be slow, a test that waits for silence is rare


class EmulatedLine:
    """The servos of an arm's config, on the joints of `world`, behind a port; a context manager.

    `arm` is the config with the port, for a driver of `protocol`. A thread answers the bus as the emulator does; time
    passes, for plant and servos, in `advance` alone.
    """

    def __init__(self, arm: ArmConfig, world: Joints, protocol: str) -> None:
        if protocol != arm.driver:  # another bus has other servos
            other = [joint.model_copy(update={"servo": None, "shadow": None}) for joint in arm.joints]
            arm = arm.model_copy(update={"joints": other})
        self.bus, self._plant = make_chain(arm, world, protocol)
        self._terminal = PseudoTerminal(None)
        self.arm = arm.model_copy(
            update={"driver": protocol, "port": str(self._terminal.path), "deadline": DEADLINE, "retries": 0}
        )
        self._turn = threading.Lock()
        self._running = True
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._running = False
        self._thread.join()
        self._terminal.close()

    def advance(self, seconds: float) -> None:
        """Let that much time pass."""
        for _ in range(round(seconds * PHYSICS_RATE)):
            with self._turn:
                self.bus.advance(1 / PHYSICS_RATE)
                self._plant.step(1)

    def _serve(self) -> None:
        while self._running:
            if select.select([self._terminal], [], [], 0.01)[0]:
                with self._turn:
                    for _, reply in self.bus.feed(self._terminal.read()):
                        self._terminal.write(reply)
