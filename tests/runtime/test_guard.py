from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.arm import Array
from drivers.config import Box, ConfigError, RobotConfig, SafetyConfig, load_robot
from runtime.guard import SELF_CLEARANCE, Guard
from runtime.safety import COLLISION, START_TIME, TABLE, WORKSPACE, FilterState, Limits, filter_command

DT = 0.01
TABLE_HEIGHT = -0.005
BOX = Box(low=(-0.1, -0.3, -0.02), high=(0.4, 0.3, 0.4))
SAFETY = SafetyConfig(table_height=TABLE_HEIGHT, workspace=BOX)
EMULATED = load_robot("emulated").model_copy(update={"safety": SAFETY})
LIMITS = Limits.of(EMULATED.arm.spec(), SAFETY)
HOME = np.array(EMULATED.arm.home)

# Poses of the emulated arm: hand straight down with the fingertips 10 mm above the table, and what is around it.
LOW = np.array([0.0, 0.37, -0.04, 1.24, 0.0, 1.5])
IN_THE_TABLE = LOW + np.array([0.0, 0.15, 0.0, 0.0, 0.0, 0.0])
IN_THE_BASE = np.array([0.0, 0.8, 0.7, 1.4, 0.0, 1.5])
OUTSIDE = np.array([1.9, 0.9, -0.6, 0.0, 0.0, 1.5])

TWO_LINKS = """<robot name="two">
  <link name="base"><collision><geometry><box size="0.1 0.1 0.1"/></geometry></collision></link>
  <joint name="first" type="{kind}"><parent link="base"/><child link="upper_arm"/><origin xyz="0 0 0.2"/>
    <axis xyz="0 1 0"/><limit lower="-3" upper="3" effort="1" velocity="1"/></joint>
  <link name="upper_arm"><collision><origin xyz="0.1 0 0"/><geometry><box size="0.2 0.02 0.02"/></geometry></collision>
    </link>
  <joint name="second" type="revolute"><parent link="upper_arm"/><child link="hand"/><origin xyz="0.2 0 0"/>
    <axis xyz="0 1 0"/><limit lower="-3" upper="3" effort="1" velocity="1"/></joint>
  <link name="hand"><collision><origin xyz="0.1 0 0"/><geometry><box size="0.2 0.02 0.02"/></geometry></collision>
    </link>
</robot>"""


def two_links(
    tmp_path: Path, *, kind: str = "revolute", safety: SafetyConfig | None = None, **arm: object
) -> RobotConfig:
    urdf = tmp_path / "two.urdf"
    urdf.write_text(TWO_LINKS.format(kind=kind), encoding="utf-8")
    names = arm.pop("names", ("first", "second"))
    joints = [
        {"name": name, "id": index, "minimum": -3.0, "maximum": 3.0, "velocity_max": 2.0, "acceleration_max": 40.0}
        for index, name in enumerate(names)
    ]
    return RobotConfig.model_validate(
        {
            "name": "two",
            "arm": {"driver": "none", "urdf": str(urdf), "joints": joints, **arm},
            "safety": safety or SafetyConfig(),
        }
    )


@pytest.fixture(scope="module")
def guard() -> Guard:
    made = Guard.of(EMULATED)
    assert made is not None
    return made


def test_a_robot_without_geometry_has_no_guard() -> None:
    arm = EMULATED.arm.model_copy(update={"urdf": None})
    assert Guard.of(EMULATED.model_copy(update={"arm": arm})) is None


class TestCheck:
    def test_nothing_is_wrong_at_home_or_just_above_the_table(self, guard: Guard) -> None:
        assert guard.check(HOME) is None
        assert guard.check(LOW) is None

    def test_what_is_wrong_is_said(self, guard: Guard) -> None:
        assert guard.check(IN_THE_TABLE) in ("left finger would hit the table", "right finger would hit the table")
        assert guard.check(IN_THE_BASE) == "hand would hit base"
        assert str(guard.check(OUTSIDE)).endswith("finger would leave the workspace")

    def test_the_table_is_where_it_is(self, tmp_path: Path) -> None:
        # Both links straight out at 0.2 m, 0.02 m thick.
        for height, problem in ((0.189, None), (0.191, "upper arm would hit the table")):
            guard = Guard(two_links(tmp_path, safety=SafetyConfig(table_height=height)))
            assert guard.check(np.zeros(2)) == problem
        # The hand alone reaches down.
        assert Guard(two_links(tmp_path, safety=SafetyConfig(table_height=0.1))).check(np.array([0.0, 1.5])) == (
            "hand would hit the table"
        )

    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("high", [False, True])
    def test_every_wall_is_where_it_is(self, tmp_path: Path, axis: int, high: bool) -> None:
        # The hand alone, straight out, fills x 0.2 to 0.4, y -0.01 to 0.01, z 0.19 to 0.21.
        reach = np.array([[0.2, -0.01, 0.19], [0.4, 0.01, 0.21]])
        for outward, problem in ((0.001, None), (-0.001, "hand would leave the workspace")):
            corners = reach + np.array([[-0.1], [0.1]])
            corners[int(high), axis] = reach[int(high), axis] + (outward if high else -outward)
            box = Box(low=tuple(corners[0]), high=tuple(corners[1]))
            assert Guard(two_links(tmp_path, safety=SafetyConfig(workspace=box))).check(np.zeros(2)) == problem

    def test_links_keep_their_clearance(self, tmp_path: Path) -> None:
        guard = Guard(two_links(tmp_path))
        # The hand folded back along the arm reaches the base: its lower edge comes down as it turns.
        angles = np.linspace(1.2, 2.6, 1400)
        poses = [np.array([0.6, angle]) for angle in angles]
        first = next(pose for pose in poses if guard.check(pose) is not None)
        assert guard.check(first) == "hand would hit base"
        assert guard.clearances(first)[0] == pytest.approx(0.0, abs=1e-3)
        assert SELF_CLEARANCE == 0.005

    def test_every_clearance_has_its_sign(self, guard: Guard) -> None:
        rng = np.random.default_rng(4)
        spec = EMULATED.arm.spec()
        for _ in range(300):
            pose = rng.uniform(spec.position_min, spec.position_max)
            assert (guard.check(pose) is None) == bool(guard.clearances(pose).min() > 0)

    def test_answers_do_not_depend_on_what_was_asked_before(self, guard: Guard) -> None:
        rng = np.random.default_rng(5)
        spec = EMULATED.arm.spec()
        poses = rng.uniform(spec.position_min, spec.position_max, (100, 6))
        first = [guard.clearances(pose) for pose in poses]
        for index in rng.permutation(100):
            np.testing.assert_array_equal(guard.clearances(poses[index]), first[index])

    def test_fingers_that_the_arm_does_not_name_stand_open(self, guard: Guard) -> None:
        for angle in (0.0, 1.75):
            np.testing.assert_array_equal(
                guard.clearances(np.array([*HOME[:5], angle])), guard.clearances(np.array([*HOME[:5], 1.0]))
            )


class TestObstructs:
    def test_the_first_problem_on_the_path_is_named(self, guard: Guard) -> None:
        assert guard.obstructs(HOME, np.array([HOME, LOW])) is None
        assert guard.obstructs(HOME, np.array([HOME, LOW, IN_THE_TABLE])) == TABLE
        assert guard.obstructs(HOME, np.array([IN_THE_BASE, IN_THE_TABLE])) == COLLISION
        assert guard.obstructs(HOME, np.array([OUTSIDE, HOME])) == WORKSPACE

    def test_from_outside_it_may_come_back_and_go_no_further(self, guard: Guard) -> None:
        out, back, further = (IN_THE_TABLE + np.array([0, lift, 0, 0, 0, 0]) for lift in (0.0, -0.02, 0.02))
        assert guard.obstructs(out, np.array([out])) is None
        assert guard.obstructs(out, np.array([back, LOW, HOME])) is None
        assert guard.obstructs(out, np.array([further])) == TABLE
        assert guard.obstructs(out, np.array([back, further])) == TABLE

    def test_from_outside_nothing_else_may_be_run_into(self, guard: Guard) -> None:
        assert guard.obstructs(IN_THE_BASE, np.array([OUTSIDE])) == WORKSPACE


class TestFar:
    spec = EMULATED.arm.spec()

    def test_where_it_says_so_no_pose_within_reach_is_in_the_way(self, guard: Guard) -> None:
        rng = np.random.default_rng(6)
        told = 0
        pose = HOME
        for _ in range(400):
            pose = np.clip(pose + rng.normal(0, 0.1, 6), self.spec.position_min, self.spec.position_max)
            reach = rng.uniform(0, 0.15, 6)
            if guard.far(pose, reach):
                told += 1
                for _ in range(20):
                    assert guard.clearances(pose + rng.choice([-1, 1], 6) * reach).min() > 0
        assert 50 < told < 400

    def test_an_arm_at_home_is_far_from_everything(self, guard: Guard) -> None:
        assert guard.far(HOME, np.full(6, 0.02))
        assert not guard.far(HOME, np.full(6, 3.0))

    def test_none_that_touches_something_is(self, guard: Guard) -> None:
        for pose in (IN_THE_TABLE, IN_THE_BASE, OUTSIDE):
            assert not guard.far(pose, np.zeros(6))

    def test_what_it_has_measured_changes_no_other_answer(self, guard: Guard) -> None:
        rng = np.random.default_rng(7)
        answers = set()
        for _ in range(40):
            start = rng.uniform(self.spec.position_min, self.spec.position_max)
            path = start + np.cumsum(rng.normal(0, 0.02, (8, 6)), axis=0)
            guard.far(path[rng.integers(8)] + rng.normal(0, 0.1, 6), np.zeros(6))
            answer = guard.obstructs(start, path)
            assert answer == Guard(EMULATED).obstructs(start, path)
            answers.add(answer)
        assert answers >= {None, TABLE, WORKSPACE}


class TestConfiguration:
    def test_links_in_each_others_way_at_home_or_at_rest_are_not_watched(self, tmp_path: Path) -> None:
        into_base = [0.6, 2.4]
        assert Guard(two_links(tmp_path)).check(np.array(into_base)) == "hand would hit base"
        for name in ("home", "rest"):
            assert Guard(two_links(tmp_path, **{name: into_base})).check(np.array(into_base)) is None

    @pytest.mark.parametrize("name", ["home", "rest"])
    def test_a_pose_in_the_table_or_outside_is_refused(self, tmp_path: Path, name: str) -> None:
        low = SafetyConfig(table_height=0.1)
        with pytest.raises(ConfigError, match=rf"^two: arm\.{name}: hand would hit the table; "):
            Guard.of(two_links(tmp_path, safety=low, **{name: [0.0, 1.5]}))

    def test_only_the_last_joint_may_be_missing_in_the_urdf(self, tmp_path: Path) -> None:
        names = ("first", "second", "gripper")
        assert Guard(two_links(tmp_path, names=names)).check(np.zeros(3)) is None
        with pytest.raises(ConfigError, match=r"two\.urdf: no joint 'frist', which two has"):
            Guard.of(two_links(tmp_path, names=("frist", "second")))

    def test_the_order_of_joints_is_that_of_the_arm(self, tmp_path: Path) -> None:
        guard, swapped = Guard(two_links(tmp_path)), Guard(two_links(tmp_path, names=("second", "first")))
        pose = np.array([0.4, 1.1])
        np.testing.assert_array_equal(guard.clearances(pose), swapped.clearances(pose[::-1]))

    def test_what_the_urdf_lacks_is_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"two\.urdf: has a joint without limits"):
            Guard.of(two_links(tmp_path, kind="continuous"))
        config = two_links(tmp_path)
        Path(str(config.arm.urdf)).write_text("<robot", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"two\.urdf: not a URDF that can be used: ") as raised:
            Guard.of(config)
        assert "\n" not in str(raised.value)


def walk(state: FilterState, targets: list[Array], guard: Guard, ticks: int) -> list[FilterState]:
    states = []
    for target in targets:
        for _ in range(ticks):
            state = filter_command(state, target, 0.0, DT, LIMITS, guard=guard).state
            states.append(state)
    return states


class TestWithTheFilter:
    spec = EMULATED.arm.spec()
    poses = st.tuples(
        *(st.floats(low, high) for low, high in zip(spec.position_min, spec.position_max, strict=True))
    ).map(np.array)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(poses, min_size=1, max_size=4), st.integers(5, 50))
    def test_no_command_is_in_the_way_whatever_the_targets(self, targets: list[Array], ticks: int) -> None:
        guard = Guard(EMULATED)
        start = dataclasses.replace(FilterState.at_rest(HOME, LIMITS), followed=START_TIME)
        for state in walk(start, targets, guard, ticks):
            assert guard.check(state.positions) is None

    def test_pressed_onto_the_table_the_arm_rests_just_above_it_and_leaves_again(self, guard: Guard) -> None:
        states = walk(FilterState.at_rest(HOME, LIMITS), [LOW, IN_THE_TABLE], guard, 100)
        assert guard.check(states[-1].positions) is None
        # What is left is less than the smallest step of all joints together makes, and its way to rest.
        assert guard.clearances(states[-1].positions).min() < 0.005
        assert not states[-1].velocities.any()
        np.testing.assert_allclose(walk(states[-1], [HOME], guard, 150)[-1].positions, HOME, atol=1e-7)

    def test_an_arm_that_starts_in_the_table_comes_out_and_not_further_in(self, guard: Guard) -> None:
        deeper = IN_THE_TABLE + np.array([0.0, 0.1, 0.0, 0.0, 0.0, 0.0])
        start = FilterState.at_rest(IN_THE_TABLE, LIMITS)
        stuck = walk(start, [deeper], guard, 50)[-1]
        np.testing.assert_array_equal(stuck.positions, IN_THE_TABLE)
        depths = [guard.clearances(state.positions).min() for state in walk(start, [LOW], guard, 100)]
        assert depths[0] >= guard.clearances(IN_THE_TABLE).min() - 1e-8
        assert (np.diff(depths) >= -1e-8).all()
        assert depths[-1] > 0


@pytest.mark.parametrize("name", ["emulated", "emulated_dynamixel", "simulated", "so100", "so101", "koch", "viperx300"])
def test_every_arm_of_the_package_has_one(name: str) -> None:
    config = load_robot(name)
    guard = Guard.of(config)
    assert guard is not None
    assert guard.check(np.array(config.arm.home)) is None
    assert guard.check(np.array(config.arm.rest)) is None
