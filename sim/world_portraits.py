"""Pictures of what worlds may hold and how they may differ: `python -m sim.world_portraits docs`.

Writes objects.png (the five triplets, and some training and held-out shapes) and variation.png (one scene under each
variation at both ends of its range), drawn by the fixed camera.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sim.shapes import COLOURS, TRIPLETS, Shape, shape_set
from sim.variation import NOMINAL, VARIATIONS, Conditions, conditions_at, sample_conditions
from sim.world import HOME, World

SIZE = (240, 320)  # (height, width) of one picture
COLUMNS = 4
ASIDE = np.array([-1.8, -1.2, 0.6, 1.0, 0.0, 1.0])  # rad, the arm out of the picture
SEEN = ("camera_pose", "camera_fov", "light", "colours", "block_size", "table")  # the others show in motion only
ROWS = {"red": (0.23, 0.05), "green": (0.23, 0.0), "blue": (0.23, -0.05)}  # m
SCENE = {"red": (0.17, 0.09), "green": (0.15, -0.08), "blue": (0.2, 0.0)}

Image = NDArray[np.uint8]


def objects(world: World, caption: str, shapes: Sequence[Shape]) -> Image:
    """Three shapes side by side, as near as the camera sees well."""
    world.reset(np.random.default_rng(0), arm_pose=ASIDE, shapes=dict(zip(COLOURS, shapes, strict=True)))
    for colour, (x, y) in ROWS.items():
        world.place_block(colour, (x, y, world.solids[colour].below), 0.5)
    height, width = SIZE
    picture = world.render("fixed")[11 * height // 8 : 19 * height // 8, width : 2 * width]
    return _captioned(picture, caption)


def scene(world: World, caption: str, conditions: Conditions) -> Image:
    """The arm at home above three blocks, under `conditions`."""
    world.reset(np.random.default_rng(0), arm_pose=HOME, conditions=conditions)
    for colour, (x, y) in SCENE.items():
        world.place_block(colour, (x, y, conditions.table_height + world.solids[colour].below), 0.3)
    return _captioned(world.render("fixed"), caption)


def object_sheet() -> Image:
    """The triplets first, then every twelfth of the training and every ninth of the held-out shapes."""
    world = World(image_size=(3 * SIZE[0], 3 * SIZE[1]))
    pictures = [objects(world, name, shape_set(name)) for name in TRIPLETS]
    for name, step in (("training", 12), ("held_out", 9)):
        some = shape_set(name)[:: step // 3]
        pictures += [objects(world, name, some[first : first + 3]) for first in range(0, len(some) - 2, 9)]
    world.close()
    return _sheet(pictures)


def variation_sheet() -> Image:
    """The nominal scene, then both ends of what can be seen, then two draws of everything together."""
    world = World(image_size=SIZE)
    pictures = [scene(world, "nominal", NOMINAL)]
    for name in SEEN:
        pictures += [scene(world, f"{name}: {end}", conditions_at(name, end)) for end in ("low", "high")]
    pictures += [
        scene(world, f"all, seed {seed}", sample_conditions(np.random.default_rng(seed), VARIATIONS))
        for seed in range(3)
    ]
    world.close()
    return _sheet(pictures)


def _captioned(image: Image, caption: str) -> Image:
    picture = np.ascontiguousarray(image)
    cv2.putText(picture, caption, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, caption, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def _sheet(pictures: list[Image]) -> Image:
    """In rows of `COLUMNS`; what is missing in the last row is white."""
    blank = np.full((*SIZE, 3), 255, dtype=np.uint8)
    pictures = pictures + [blank] * (-len(pictures) % COLUMNS)
    rows = [np.hstack(pictures[start : start + COLUMNS]) for start in range(0, len(pictures), COLUMNS)]
    return np.vstack(rows)


def main(arguments: Sequence[str]) -> int:
    """Write both sheets into the folder named; returns the exit code."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m sim.world_portraits FOLDER, a folder that is there", file=sys.stderr)
        return 2
    for name, picture in (("objects.png", object_sheet()), ("variation.png", variation_sheet())):
        cv2.imwrite(str(Path(arguments[0]) / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
