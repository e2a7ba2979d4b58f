"""The stacking world that a robot's file describes: the `simulation` section of an emulated or simulated robot.

It stands for one particular rig, whose cameras, light, bodies and servos are as they are at every reset, and whose
objects come from one group. Knows no driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np

from drivers.arm import Array
from drivers.camera_calibration import calibration_of
from drivers.config import ConfigError, RobotConfig, SimulationConfig, suggest
from sim.shapes import GROUPS, Shape, sample_shapes
from sim.variation import NOMINAL, Conditions, VariationError, parse_conditions
from sim.world import World


class Rig(World):
    """A world with conditions and a group of objects of its own: what `reset` takes where it is not told others.

    Raises `ConfigError` for conditions or objects that there are not.
    """

    def __init__(self, simulation: SimulationConfig | None, *, image_size: tuple[int, int] = (64, 64)) -> None:
        section = simulation or SimulationConfig()
        try:
            self._own = parse_conditions(section.conditions)
        except VariationError as error:
            raise ConfigError(f"simulation.conditions: {error}") from error
        if section.objects not in GROUPS:
            nearest = suggest(section.objects, GROUPS)
            raise ConfigError(f"simulation.objects: no group {section.objects!r}{nearest}; known: {', '.join(GROUPS)}")
        self._group = section.objects
        super().__init__(image_size=image_size)

    @classmethod
    def of(cls, config: RobotConfig, *, image_size: tuple[int, int] = (64, 64)) -> Self:
        """The world of a robot's file; cameras whose place is calibrated there stand where it says."""
        world = cls(config.simulation, image_size=image_size)
        found = {name: calibration_of(camera) for name, camera in config.cameras.items()}
        world.stand_cameras({name: one for name, one in found.items() if one is not None and one.place is not None})
        return world

    def reset(
        self,
        rng: np.random.Generator,
        *,
        arm_pose: Array | None = None,
        keep_arm: bool = False,
        conditions: Conditions = NOMINAL,
        shapes: Mapping[str, Shape] | None = None,
    ) -> None:
        """As of any world; nominal conditions are the rig's own, and where no shapes are given they are drawn from its
        group. The layout is what `rng` would give any other world."""
        if shapes is None and self._group != "cubes":
            shapes = sample_shapes(self._group, rng.spawn(1)[0])
        conditions = self._own if conditions == NOMINAL else conditions
        super().reset(rng, arm_pose=arm_pose, keep_arm=keep_arm, conditions=conditions, shapes=shapes)
