"""Where the arm's hand is: forward kinematics from its URDF by Pinocchio. Knows no shapes and no limits.

The hand is the link that the last joint moves which is no gripper. Poses are (4, 4), from the hand's frame to the
base's.
"""

from __future__ import annotations

import numpy as np
import pinocchio as pin

from drivers.arm import Array
from drivers.config import ConfigError, RobotConfig, find_urdf


class Kinematics:
    """Of a robot's arm. Raises `ConfigError` when its URDF does not have the arm's joints. Not thread-safe."""

    def __init__(self, config: RobotConfig) -> None:
        urdf = find_urdf(config.arm)
        try:
            self._model = pin.buildModelFromUrdf(str(urdf))
        except ValueError as error:
            raise ConfigError(f"{urdf}: not a URDF that can be used: {' '.join(str(error).split())}") from error
        self._data = self._model.createData()
        self._neutral: Array = np.array(pin.neutral(self._model), dtype=np.float64)
        names = [joint.name for joint in config.arm.joints]
        moving = [name for name in names if name not in config.safety.grippers]
        for name in moving:
            if not self._model.existJointName(name):
                raise ConfigError(f"{urdf}: no joint {name!r}, which {config.name} has; name it as the arm does")
        self.joint_names = tuple(names)
        self.moving = tuple(names.index(name) for name in moving)  # places of these joints in the arm's order
        ids = [self._model.getJointId(name) for name in moving]
        self._places = [self._model.joints[id].idx_q for id in ids]
        self._last = ids[-1]
        links = [float(np.linalg.norm(self._model.jointPlacements[id].translation)) for id in ids[1:]]
        self.reach: Array = np.zeros(len(names))  # m from each moving joint's axis to the hand's origin, at most
        self.reach[list(self.moving)] = np.cumsum([0.0, *links[::-1]])[::-1]
        self.base = str(self._model.frames[1].name)
        self.hand = next(
            str(frame.name)
            for frame in self._model.frames
            if frame.type == pin.FrameType.BODY and frame.parentJoint == self._last
        )

    def pose(self, positions: Array) -> Array:
        """The hand's pose at joint `positions` (n,), rad, in the arm's order."""
        configuration = self._neutral.copy()
        configuration[self._places] = positions[list(self.moving)]
        pin.forwardKinematics(self._model, self._data, configuration)
        return np.array(self._data.oMi[self._last].homogeneous, dtype=np.float64)
