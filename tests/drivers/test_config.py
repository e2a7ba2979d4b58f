"""Robot files: what ships loads, and every mistake is one line with its place and a way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.config import FILE_BYTES, ConfigError, find_urdf, load_robot, parse_robot, suggest

GOOD = """
name: tiny
arm:
  driver: feetech
  port: /dev/tty9
  joints:
    - {name: pan, id: 1, minimum: -1.5, maximum: 1.5, velocity_max: 2, acceleration_max: 40}
    - {name: lift, id: 2, minimum: -1, maximum: 1, velocity_max: 2, acceleration_max: 40, zero: 2100, direction: -1}
cameras:
  wrist: {driver: opencv, source: 0, size: [48, 64]}
"""


def mistake(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_robot(text, "t.yaml")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_home_is_optional_and_checked() -> None:
    assert parse_robot(GOOD, "t.yaml").arm.home_pose() is None
    homed = GOOD.replace("  joints:", "  home: [0.5, 1]\n  joints:")
    np.testing.assert_array_equal(parse_robot(homed, "t.yaml").arm.home_pose(), [0.5, 1.0])
    assert "home has 1 angles, the arm has 2 joints" in mistake(homed.replace("[0.5, 1]", "[0.5]"))
    assert "home: lift at 1.2 rad is not within [-1, 1]" in mistake(homed.replace("[0.5, 1]", "[0.5, 1.2]"))
    assert "t.yaml: arm.home.1: " in mistake(homed.replace("[0.5, 1]", "[0.5, .nan]"))


def test_a_file_loads_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD)
    robot = load_robot(str(file))
    assert robot.arm.port == "/dev/tty9"
    assert robot.arm.joints[1].direction == -1
    assert robot.cameras["wrist"].size == (48, 64)


def test_a_urdf_is_found_beside_its_yaml_then_among_those_that_ship(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD.replace("  joints:", "  urdf: so101.urdf\n  joints:"))
    shipped = find_urdf(load_robot("so101").arm)
    assert shipped.is_file() and find_urdf(load_robot(str(file)).arm) == shipped
    (tmp_path / "so101.urdf").write_text("<robot/>")
    assert find_urdf(load_robot(str(file)).arm) == tmp_path / "so101.urdf"


def test_a_urdf_that_is_nowhere_is_told_when_the_file_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD.replace("  joints:", "  urdf: so10.urdf\n  joints:"))
    with pytest.raises(
        ConfigError, match=r"mine\.yaml: arm\.urdf: no file 'so10\.urdf' beside .* \(did you mean 'so10"
    ):
        load_robot(str(file))
    with pytest.raises(ConfigError, match=r"arm\.urdf: not set"):
        find_urdf(parse_robot(GOOD, "t.yaml").arm)


def test_an_unknown_name_suggests_and_lists() -> None:
    with pytest.raises(ConfigError, match=r"no robot 'so10' \(did you mean 'so10[01]'\?\); known: emulated, "):
        load_robot("so10")


def test_a_missing_file_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such robot file"):
        load_robot(str(tmp_path / "none.yaml"))


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "bytes.yaml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_robot(str(path))


@pytest.mark.parametrize(("extra", "says"), [(0, "a robot is a mapping"), (1, "has more than 1024 KiB")])
def test_a_file_of_more_than_a_megabyte_is_not_read(tmp_path: Path, extra: int, says: str) -> None:
    path = tmp_path / "arm.yaml"
    path.write_text("#" * (FILE_BYTES + extra), encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        load_robot(str(path))


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("maximum: 1.5", "maxmum: 1.5", "t.yaml: arm.joints.0.maxmum: unknown key (did you mean 'maximum'?); allowed"),
        ("port:", "prot:", "t.yaml: arm.prot: unknown key (did you mean 'port'?); allowed: driver, port"),
        ("cameras:", "camera:", "t.yaml: camera: unknown key (did you mean 'cameras'?); allowed: name, emulated, arm"),
        ("size:", "sise:", "t.yaml: cameras.wrist.sise: unknown key (did you mean 'size'?); allowed: driver, source"),
        ("name: tiny", "", "t.yaml: name: missing"),
        (
            "velocity_max: 2,",
            "velocity_max: fast,",
            "t.yaml: arm.joints.0.velocity_max: input should be a valid number",
        ),
        ("velocity_max: 2,", "velocity_max: -2,", "t.yaml: arm.joints.0.velocity_max: input should be greater than 0"),
        ("velocity_max: 2,", "velocity_max: .inf,", "t.yaml: arm.joints.0.velocity_max: input should be a finite"),
        ("id: 2", "id: 1", "t.yaml: arm: two joints have the id 1"),
        ("name: lift", "name: pan", "t.yaml: arm: two joints have the name 'pan'"),
        ("id: 2", "id: 2, shadow: 1", "t.yaml: arm: lift: its shadow has the id 1, which another servo has too"),
        ("id: 2", "id: true", "t.yaml: arm.joints.1.id: input should be a valid integer, not True"),
        ("id: 2", "id: 254", "t.yaml: arm.joints.1.id: input should be less than or equal to 252, not 254"),
        ("maximum: 1.5", "maximum: -2", "t.yaml: arm.joints.0: minimum -1.5 is not below maximum -2"),
        ("direction: -1", "direction: 0", "t.yaml: arm.joints.1.direction: input should be -1 or 1, not 0"),
        ("[48, 64]", "[48]", "t.yaml: cameras.wrist.size.1: missing"),
        ("name: tiny", "name: : tiny", "t.yaml:2:7: not YAML: mapping values are not allowed here"),
        ("name: tiny", "name: !!python/object:os.system tiny", "t.yaml:2:7: not YAML: could not determine"),
    ],
)
def test_every_mistake_is_one_line(right: str, wrong: str, says: str) -> None:
    assert mistake(GOOD.replace(right, wrong, 1)).startswith(says)


@pytest.mark.parametrize("text", ["", "- 1", "tiny", "3"])
def test_what_is_no_mapping_lists_the_keys(text: str) -> None:
    assert (
        mistake(text) == "t.yaml: a robot is a mapping with the keys name, emulated, arm, safety, cameras, simulation"
    )


def test_more_mistakes_are_counted() -> None:
    assert mistake("name: tiny\narm: {driver: feetech, joints: []}\nbogus: 1").endswith("(and 1 more)")


@settings(deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
def test_any_value_for_the_arm_is_one_line(value: object) -> None:
    assert mistake(f"name: tiny\narm: {value!r}".replace("None", "null").replace("\n\n", "\n"))


def test_devices_are_replaced_by_name_and_the_rest_stays() -> None:
    robot = load_robot("emulated")
    other = robot.with_devices("/dev/pts/3", {"wrist": "stream"})
    assert other.arm.port == "/dev/pts/3"
    assert other.cameras["wrist"].source == "stream"
    assert other.cameras["fixed"] == robot.cameras["fixed"]
    assert other.arm.joints == robot.arm.joints
    assert robot.arm.port == "emulator"


def test_far_words_get_no_suggestion() -> None:
    assert suggest("zzz", ["port", "joints"]) == ""
