"""A robot file's joints as servos, and what those keep in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.arm import Array
from drivers.config import ArmConfig, JointConfig, load_robot
from sim.dynamixel_table import Register as Dxl
from sim.eeprom import load_eeprom, save_eeprom
from sim.faults import EmulatorError
from sim.feetech_servo import Register
from sim.servo_bus import ServoBus
from sim.servo_chain import make_chain


class StillWorld:
    """Joints that go to their targets in one step."""

    def __init__(self, joints: int) -> None:
        self.positions = np.zeros(joints)
        self.targets = np.zeros(joints)
        self.torque: Array = np.zeros(joints)

    def set_targets(self, positions: Array) -> None:
        self.targets = np.array(positions)

    def set_torque(self, shares: NDArray[np.bool_] | Array) -> None:
        self.torque = np.array(shares, dtype=float)

    def step(self, substeps: int = 1) -> None:
        self.positions = np.where(self.torque > 0, self.targets, self.positions)

    def joint_positions(self) -> Array:
        return self.positions

    def joint_states(self) -> tuple[Array, Array, Array]:
        return self.positions, np.zeros(self.positions.size), np.zeros(self.positions.size)


def joint(name: str, servo_id: int, **more: object) -> JointConfig:
    limits = {"minimum": -1.5, "maximum": 1.5, "velocity_max": 2.0, "acceleration_max": 20.0}
    return JointConfig.model_validate({"name": name, "id": servo_id, **limits, **more})


def arm(driver: str, *joints: JointConfig, baudrate: int = 1_000_000) -> ArmConfig:
    return ArmConfig(driver=driver, port="x", joints=list(joints), baudrate=baudrate)


def dynamixel() -> tuple[ServoBus, ArmConfig]:
    config = arm("dynamixel", joint("shoulder", 2, servo="xm540-w270", shadow=3), joint("wrist", 7))
    return make_chain(config, StillWorld(2))[0], config


def test_servos_have_the_ids_models_and_shadows_of_the_file() -> None:
    bus, _ = dynamixel()
    assert [servo.id for servo in bus.servos] == [2, 3, 7]
    assert [servo.ids for servo in bus.servos] == [(2,), (3, 2), (7,)]
    assert [servo.word(Dxl.MODEL) for servo in bus.servos] == [1120, 1120, 1200]
    assert [servo.return_delay for servo in bus.servos] == [0.0, 0.0, 0.0]


def test_zeros_and_directions_are_those_of_the_file() -> None:
    world = StillWorld(2)
    config = arm("feetech", joint("a", 1, zero=1000), joint("b", 2, zero=3000, direction=-1))
    bus, plant = make_chain(config, world)
    bus.servos[0].write(Register.TORQUE_ENABLE, bytes((1, 0)) + (1500).to_bytes(2, "little"))
    bus.servos[1].write(Register.TORQUE_ENABLE, bytes((1, 0)) + (3500).to_bytes(2, "little"))
    plant.step(1)
    np.testing.assert_allclose(world.positions, np.array([500, -500]) * 2 * np.pi / 4096)
    assert bus.servos[0].body.sense().position == 1500
    assert bus.servos[1].body.sense().position == 3500


def test_a_joint_with_a_shadow_moves_when_either_servo_has_torque() -> None:
    world = StillWorld(2)
    config = arm("dynamixel", joint("shoulder", 2, servo="xm540-w270", shadow=3), joint("wrist", 7))
    bus, plant = make_chain(config, world)
    leader, shadow, _ = bus.servos
    for on, share in ((b"\1", 1.0), (b"\0", 0.0)):
        shadow.write(Dxl.TORQUE_ENABLE, on)
        shadow.write(Dxl.GOAL_POSITION, (2148).to_bytes(4, "little"))
        plant.step(1)
        assert world.torque[0] == share
    assert world.positions[0] == pytest.approx(100 * 2 * np.pi / 4096)
    leader.read(Dxl.PRESENT_POSITION, 4)
    shadow.read(Dxl.PRESENT_POSITION, 4)
    assert leader.word(Dxl.PRESENT_POSITION, 4) == shadow.word(Dxl.PRESENT_POSITION, 4) == 2148


def test_the_protocol_can_be_replaced() -> None:
    bus, _ = make_chain(load_robot("emulated").arm, StillWorld(6), "dynamixel")
    assert bus.wire.name == "dynamixel" and len(bus.servos) == 6
    bus, _ = make_chain(load_robot("viperx300").arm, StillWorld(7), "feetech")
    assert bus.wire.name == "feetech" and [servo.id for servo in bus.servos] == [1, 2, 4, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("config", "protocol", "what"),
    [
        (arm("dynamixel", joint("a", 1, servo="xl330-m299")), None, "did you mean 'xl330-m288'"),
        (arm("feetech", joint("a", 1, shadow=2)), None, "no shadows"),
        (arm("feetech", joint("a", 1), baudrate=9600), None, "baudrate"),
        (arm("feetech", joint("a", 1)), "canbus", "--bus canbus"),
    ],
)
def test_what_is_not_emulated_is_refused(config: ArmConfig, protocol: str | None, what: str) -> None:
    with pytest.raises(EmulatorError, match=what):
        make_chain(config, StillWorld(1), protocol)


def test_eeprom_survives_a_restart_and_ram_does_not(tmp_path: Path) -> None:
    file = tmp_path / "eeprom.json"
    bus, config = dynamixel()
    load_eeprom(file, bus.servos)  # there is none yet
    bus.servos[2].write(Dxl.ID, b"\x09")
    bus.servos[2].write(Dxl.HOMING_OFFSET, (-50).to_bytes(4, "little", signed=True))
    bus.servos[2].write(Dxl.PROFILE_VELOCITY, b"\x09\0\0\0")
    save_eeprom(file, bus.servos)
    again, _ = make_chain(config, StillWorld(2))
    load_eeprom(file, again.servos)
    assert [servo.id for servo in again.servos] == [2, 3, 9]
    assert again.servos[2].memory[: Dxl.TORQUE_ENABLE] == bus.servos[2].memory[: Dxl.TORQUE_ENABLE]
    assert again.servos[2].word(Dxl.PROFILE_VELOCITY, 4) == 0
    assert again.servos[2].read(Dxl.PRESENT_POSITION, 4)[1] == (1998).to_bytes(4, "little")
    assert [path.name for path in tmp_path.iterdir()] == ["eeprom.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '[{"id": 1}]', "[1]", '[{"id": 1}, {}, {}]'])
def test_a_file_of_other_servos_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "eeprom.json"
    file.write_text(text)
    with pytest.raises(EmulatorError, match="delete it to begin anew") as caught:
        load_eeprom(file, dynamixel()[0].servos)
    assert "\n" not in str(caught.value)


def test_a_value_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "eeprom.json"
    bus, _ = dynamixel()
    kept = [servo.eeprom() for servo in bus.servos]
    kept[0]["id"] = 300
    file.write_text(json.dumps(kept))
    with pytest.raises(EmulatorError, match="cannot be used"):
        load_eeprom(file, bus.servos)
    with pytest.raises(EmulatorError, match="cannot be written"):
        save_eeprom(tmp_path / "nowhere" / "eeprom.json", bus.servos)
