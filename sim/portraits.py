"""Pictures of every arm that comes with the package, on one sheet: `python -m sim.portraits docs/arms.png`.

What it shows is what collision checks and the simulator know of an arm, so a look at it is a test of the URDFs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.config import ConfigError, load_robot, robot_names
from sim.articulated import ArticulatedWorld

SIZE = (300, 400)  # (height, width) of one picture
COLUMNS = 3
SAME_ARM = ("emulated", "emulated_dynamixel", "emulated_rig")  # as `simulated`


def portrait(name: str) -> NDArray[np.uint8]:
    """The robot of that name at home, its name and reach below, (H, W, 3) RGB. Raises `ConfigError`."""
    robot = load_robot(name)
    world = ArticulatedWorld(robot, image_size=SIZE)
    try:
        image = world.render("fixed")
    finally:
        world.close()
    servos = sorted({joint.servo or robot.arm.driver for joint in robot.arm.joints})
    caption = f"{robot.name}: {len(robot.arm.joints)} joints, {', '.join(servos)}"
    place = (10, SIZE[0] - 12)
    cv2.putText(image, caption, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (20, 20, 20), 1, cv2.LINE_AA)
    return image


def sheet(names: Sequence[str]) -> NDArray[np.uint8]:
    """Portraits in rows of `COLUMNS`; what is missing in the last row is white."""
    pictures = [portrait(name) for name in names]
    blank = np.full((*SIZE, 3), 255, dtype=np.uint8)
    pictures += [blank] * (-len(pictures) % COLUMNS)
    rows = [np.hstack(pictures[start : start + COLUMNS]) for start in range(0, len(pictures), COLUMNS)]
    return np.vstack(rows)


def main(arguments: Sequence[str]) -> int:
    """Write the sheet of all shipped arms, or of the robots named after the file; returns the exit code."""
    if not arguments:
        print("usage: python -m sim.portraits FILE.png [ROBOT ...]", file=sys.stderr)
        return 2
    names = arguments[1:] or [name for name in robot_names() if name not in SAME_ARM]
    try:
        picture = sheet(names)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if not cv2.imwrite(str(Path(arguments[0])), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        print(f"{arguments[0]}: cannot be written", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
