"""A robot's `simulation` section: the world that its arm, its cameras and the emulator then have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.config import ConfigError, SimulationConfig, load_robot
from drivers.robot import Robot
from sim.emulator import _make_world
from sim.rig import Rig
from sim.robot import shared_world
from sim.shapes import shape_set
from sim.variation import NOMINAL, parse_conditions
from sim.world import World


def test_a_rig_has_its_own_conditions_and_objects_at_every_reset() -> None:
    rig = Rig(SimulationConfig(conditions={"delay": 0.03, "backlash": 0.01}, objects="triplet3"))
    for seed in (0, 1):
        rig.reset(np.random.default_rng(seed))
        assert (rig.conditions.delay, rig.conditions.backlash) == (0.03, (0.01,) * 5)
        assert tuple(solid.shape for solid in rig.solids.values()) == shape_set("triplet3")
    rig.close()


def test_a_rig_without_a_section_is_the_nominal_world_with_the_same_layouts() -> None:
    rig, world = Rig(None), World()
    rig.reset(np.random.default_rng(4))
    world.reset(np.random.default_rng(4))
    assert rig.conditions == NOMINAL
    np.testing.assert_array_equal(rig.render("fixed"), world.render("fixed"))
    rig.close()
    world.close()


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (SimulationConfig(objects="triplet9"), "simulation.objects: no group 'triplet9' .did you mean 'triplet"),
        (SimulationConfig(conditions={"delays": 1.0}), "simulation.conditions: no condition 'delays'"),
        (SimulationConfig(conditions={"delay": [1.0, 2.0]}), "simulation.conditions: delay: one number"),
    ],
)
def test_a_section_that_cannot_be_is_one_line(section: SimulationConfig, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Rig(section)


def test_the_emulator_has_the_rig_of_its_robot() -> None:
    config = load_robot("emulated_rig")
    assert config.simulation is not None
    world, make_judge, _ = _make_world(config, (64, 64))
    world.reset(np.random.default_rng(0))
    assert isinstance(world, Rig) and world.conditions == parse_conditions(config.simulation.conditions) != NOMINAL
    assert make_judge("put the red cube on the blue cube").outcome is None
    world.close()


def test_a_simulated_robot_stands_in_its_rig(tmp_path: Path) -> None:
    plain = load_robot("simulated")
    config = plain.model_copy(update={"simulation": SimulationConfig(conditions={"table_grey": 0.3})})
    with Robot.from_config(config) as robot:
        image = robot.cameras["fixed"].read().image
    with Robot.from_config(plain) as robot:
        assert robot.cameras["fixed"].read().image[-1, -1, 0] > image[-1, -1, 0] + 30
    assert shared_world(config.simulation) is shared_world(config.simulation) is not shared_world()
    arm = config.arm.model_copy(update={"driver": "feetech"})
    (tmp_path / "real.yaml").write_text(config.model_copy(update={"arm": arm}).model_dump_json())
    with pytest.raises(ConfigError, match="neither emulated nor simulated"):
        load_robot(str(tmp_path / "real.yaml"))
