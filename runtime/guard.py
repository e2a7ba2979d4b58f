"""What an arm must not run into: itself, the table, the walls of its workspace. Forward kinematics by Pinocchio.

Knows the shapes of the arm's URDF and where its joints are; not the objects that it handles, and nothing of motion or
time. Lengths in m in the arm's base frame, angles in rad in `ArmSpec.joint_names` order.

Everything watched is a pair of shapes. Those of the arm are the collision shapes of the URDF's links, those around it
half-spaces: one below the table's surface, one behind each wall of the workspace. A pair's clearance is the distance
between its two shapes, negative by their depth in each other, less what the pair has to keep.
"""

from __future__ import annotations

from dataclasses import dataclass

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from drivers.arm import Array
from drivers.config import ConfigError, RobotConfig, find_urdf
from runtime.levers import Levers
from runtime.safety import COLLISION, TABLE, WORKSPACE

SELF_CLEARANCE = 0.005  # m that links keep from each other: covers what happens between ticks, and play in the joints
PRECISION = 1e-9  # of the distance solver
DEEPER = 1e-8  # m, by which a clearance may shrink before it counts: ten times what is rounding
SPARE = 1e-4  # m, kept by `far` beside what it proves: more than any rounding
RENEWED = 0.02  # m that shapes may have moved since clearances were measured, before `far` measures anew


@dataclass(frozen=True, slots=True)
class Watched:
    """A pair of shapes, by their numbers in the geometry model."""

    first: int
    second: int
    rule: str
    text: str
    keep: float = 0.0  # m


class Guard:
    """Says whether the arm may go somewhere. Make it with `Guard.of`; not thread-safe, but every answer depends on the
    arguments alone, except that `far` may say no to what it says yes to at another time.

    `pairs` are what is watched, `levers` by how much their clearances change with the joints' angles at most, m/rad,
    shape (pairs, n).

    Watched are all pairs of links but neighbours, and but those that are in each other's way at the home or the rest
    pose already; every moving link above the table; the gripper, which is all that the arm's last joint in the URDF
    moves, within the workspace. URDF joints that the arm does not name (the fingers of a gripper with one servo) stand
    at their upper limit, open.
    """

    def __init__(self, config: RobotConfig) -> None:
        urdf = find_urdf(config.arm)
        try:
            self._model = pin.buildModelFromUrdf(str(urdf))
            self._shapes = pin.buildGeomFromUrdf(self._model, str(urdf), pin.GeometryType.COLLISION)
        except ValueError as error:
            raise ConfigError(f"{urdf}: not a URDF that can be used: {' '.join(str(error).split())}") from error
        self._joints, self._places = self._match(config, str(urdf))
        self._named = len(config.arm.joints)
        self._normals: dict[int, Array] = {}  # of the half-spaces among the shapes
        self._pose: Array = self._model.upperPositionLimit.copy()
        self._watch(self._links())
        poses = {name: np.array(pose) for name in ("home", "rest") if (pose := getattr(config.arm, name)) is not None}
        touching = {int(pair) for pose in poses.values() for pair in np.flatnonzero(self.clearances(pose) <= 0)}
        links = [pair for number, pair in enumerate(self.pairs) if number not in touching]
        self._watch(links + self._table(config) + self._walls(config))
        self.levers = self._make_levers()
        self._seen: Array | None = None  # the pose that clearances were measured at last
        self._slack: Array = np.zeros(len(self.pairs))  # of each pair there, m
        self._near: NDArray[np.bool_] = np.ones(len(self.pairs), dtype=bool)  # pairs that `_some` looks at
        for name, pose in poses.items():
            if problem := self.check(pose):
                raise ConfigError(f"{config.name}: arm.{name}: {problem}; change the pose, or what safety says")

    @classmethod
    def of(cls, config: RobotConfig) -> Guard | None:
        """The guard of a robot; None when its file names no URDF. Raises `ConfigError`."""
        return None if config.arm.urdf is None else cls(config)

    def check(self, positions: Array) -> str | None:
        """What is wrong with a pose, as in "hand would hit the table"; None: nothing."""
        if self._free(positions):
            return None
        return self.pairs[int(self.clearances(positions).argmin())].text

    def far(self, positions: Array, reach: Array) -> bool:
        """Whether every clearance is positive as long as each joint is within `reach` (rad, shape (n,)) of `positions`.

        Proved by a bound, so it may say no where yes would be right: a joint that turns moves no point of what it
        carries further than the angle times that point's distance. Clearances are measured now and then, and the bound
        counts from there.
        """
        turned = None if self._seen is None else np.abs(positions - self._seen)
        if turned is not None:
            if not self._nearby(turned + reach).any():
                return True
            if (self.levers @ turned).max(initial=0.0) < RENEWED:
                return False
        self._seen, self._slack = positions.copy(), self.clearances(positions) - SPARE
        return not self._nearby(reach).any()

    def obstructs(self, positions: Array, path: Array) -> str | None:
        """Why an arm at `positions` may not go through the poses of `path`: a rule of `runtime.safety`; None: it may.

        Where nothing is violated at `positions`, nothing may be on the path. A clearance that is negative already must
        not become more so anywhere on the path: the arm may move out, and not further in.
        """
        if self._passable(path):
            return None
        first = next(pose for pose in path if not self._free(pose))
        if self._free(positions):
            return self.pairs[int(self.clearances(first).argmin())].rule
        least = np.minimum(self.clearances(positions), 0.0) - DEEPER
        for pose in path:
            worse = np.flatnonzero(self.clearances(pose) < least)
            if worse.size:
                return self.pairs[int(worse[0])].rule
        return None

    def _nearby(self, turned: Array) -> NDArray[np.bool_]:
        """The pairs that may have used up their clearance since it was measured, where joints have turned by no more
        than `turned` (rad)."""
        return np.asarray(self.levers @ turned >= self._slack)

    def _passable(self, path: Array) -> bool:
        """Every clearance is positive at every pose of `path`. Looks only at pairs that can be near each other."""
        if self._seen is None:
            return all(map(self._free, path))
        near = self._nearby(np.abs(path - self._seen).max(axis=0))
        for pair in np.flatnonzero(near != self._near).tolist():
            if near[pair]:
                self._some.activateCollisionPair(pair)
            else:
                self._some.deactivateCollisionPair(pair)
        self._near = near
        return not any(self._touches(pose, self._some) for pose in path)

    def clearances(self, positions: Array) -> Array:
        """The clearance of every pair that is watched, m."""
        pin.computeDistances(self._model, self._data, self._shapes, self._results, self._configuration(positions))
        distances = [result.min_distance for result in self._results.distanceResults]
        return np.array(distances, dtype=np.float64) - self._keep

    def _free(self, positions: Array) -> bool:
        """Every clearance is positive. Faster than asking how large they are."""
        return not self._touches(positions, self._results)

    def _touches(self, positions: Array, results: pin.GeometryData) -> bool:
        """Whether some clearance is not positive, of the pairs that are active in `results`."""
        touches: bool = pin.computeCollisions(
            self._model, self._data, self._shapes, results, self._configuration(positions), True
        )
        return touches

    def _configuration(self, positions: Array) -> Array:
        self._pose[self._places] = positions[self._joints] if self._named > len(self._joints) else positions
        return self._pose

    def _match(self, config: RobotConfig, urdf: str) -> tuple[list[int], list[int]]:
        """Which of the arm's joints the URDF has, and their places in Pinocchio's configuration."""
        joints, places = [], []
        for index, joint in enumerate(config.arm.joints):
            if not self._model.existJointName(joint.name):
                # One servo may drive two fingers, which are joints of other names.
                if index < len(config.arm.joints) - 1:
                    raise ConfigError(
                        f"{urdf}: no joint {joint.name!r}, which {config.name} has; name it as the arm does"
                    )
                continue
            joints.append(index)
            places.append(self._model.joints[self._model.getJointId(joint.name)].idx_q)
        if self._model.nq != self._model.nv:
            raise ConfigError(f"{urdf}: has a joint without limits; make it revolute or prismatic")
        return joints, places

    def _make_levers(self) -> Array:
        """What `Levers` says of each pair and each of the arm's joints, shape (pairs, n)."""
        numbers = {self._model.joints[joint].idx_q: joint for joint in range(1, self._model.njoints)}
        levers = Levers(self._model, self._shapes, [numbers[place] for place in self._places], self._pose)
        table = np.zeros((len(self.pairs), self._named))
        for row, pair in zip(table, self.pairs, strict=True):
            row[self._joints] = levers.of(pair.first, pair.second, self._normals.get(pair.second))
        return table

    def _links(self) -> list[Watched]:
        shapes = list(self._shapes.geometryObjects)
        parents = self._model.parents
        return [
            Watched(a, b, COLLISION, f"{self._link(b)} would hit {self._link(a)}", SELF_CLEARANCE)
            for b, second in enumerate(shapes)
            for a, first in enumerate(shapes[:b])
            if second.parentJoint != first.parentJoint
            and parents[second.parentJoint] != first.parentJoint
            and parents[first.parentJoint] != second.parentJoint
        ]

    def _table(self, config: RobotConfig) -> list[Watched]:
        height = config.safety.table_height
        if height is None:
            return []
        moving = [index for index, shape in enumerate(self._shapes.geometryObjects) if shape.parentJoint != 0]
        table = self._half_space("table", np.array([0.0, 0.0, 1.0]), height)
        return [Watched(index, table, TABLE, f"{self._link(index)} would hit the table") for index in moving]

    def _walls(self, config: RobotConfig) -> list[Watched]:
        box = config.safety.workspace
        if box is None:
            return []
        last = self._model.getJointId(config.arm.joints[self._joints[-1]].name)
        gripper = [
            index
            for index, shape in enumerate(self._shapes.geometryObjects)
            if last in self._model.supports[shape.parentJoint]
        ]
        walls = []
        for axis, normal in enumerate(np.eye(3)):
            walls.append(self._half_space(f"wall below {axis}", normal, box.low[axis]))
            walls.append(self._half_space(f"wall above {axis}", -normal, -box.high[axis]))
        return [
            Watched(index, wall, WORKSPACE, f"{self._link(index)} would leave the workspace")
            for index in gripper
            for wall in walls
        ]

    def _half_space(self, name: str, normal: Array, offset: float) -> int:
        """A shape at rest that fills all points x with normal . x <= offset; its number."""
        shape = coal.Halfspace(normal, offset)
        number: int = self._shapes.addGeometryObject(pin.GeometryObject(name, 0, 0, pin.SE3.Identity(), shape))
        self._normals[number] = normal
        return number

    def _link(self, shape: int) -> str:
        frame = self._shapes.geometryObjects[shape].parentFrame
        return str(self._model.frames[frame].name).replace("_", " ")

    def _watch(self, pairs: list[Watched]) -> None:
        """Watch these pairs, and no others."""
        self.pairs = pairs
        self._keep: Array = np.array([pair.keep for pair in pairs])
        self._shapes.removeAllCollisionPairs()
        for pair in pairs:
            self._shapes.addCollisionPair(pin.CollisionPair(pair.first, pair.second))
        self._data = self._model.createData()
        self._results, self._some = self._make_results(pairs), self._make_results(pairs)

    def _make_results(self, pairs: list[Watched]) -> pin.GeometryData:
        results = pin.GeometryData(self._shapes)
        # Requests as Pinocchio makes them begin each search where the last one ended: answers would depend on history.
        for number, pair in enumerate(pairs):
            distance, collision = coal.DistanceRequest(), coal.CollisionRequest(coal.CollisionRequestFlag.NO_REQUEST, 1)
            for request in (distance, collision):
                request.gjk_tolerance = request.epa_tolerance = PRECISION
            collision.security_margin = pair.keep
            results.distanceRequests[number] = distance
            results.collisionRequests[number] = collision
        return results
