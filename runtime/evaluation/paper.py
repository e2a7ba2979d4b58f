"""What others reported for RGB stacking on a real robot, to be set beside ours, and how our setting differs.

Success in per cent on the five test triplets, from the tables of Reed et al. 2022 (arXiv 2205.06175). Knows nothing
of ours.
"""

from __future__ import annotations

from collections.abc import Mapping

MASTERY, GENERALIZATION = "mastery", "generalization"
BENCHMARKS = (MASTERY, GENERALIZATION)

REPORTED: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    GENERALIZATION: {"Gato": (24.5, 33, 50.5, 76.5, 66.5), "BC-IMP": (23, 39.3, 39.3, 77.5, 66)},
    MASTERY: {"Gato": (58, 57.6, 78.5, 89, 95.1), "BC-IMP": (75.6, 60.8, 70.8, 87.8, 78.3)},
}

MEANING: Mapping[str, str] = {
    MASTERY: "Skill Mastery: shapes of the test triplets may be trained on",
    GENERALIZATION: "Skill Generalization: no shape of the test triplets is trained on",
}

DIFFERENCES = (
    "Theirs is a real Sawyer, seen by two 128x128 cameras and moved by four velocities and a gripper; ours is a "
    "simulated SO-101, seen by two 64x64 cameras and moved by joint targets.",
    "Their triplets are 13 test shapes of the RGB-stacking benchmark; ours are shapes of our own along the same four "
    "axes (sim/shapes.yaml): a triplet here and theirs of the same number have nothing but the number in common.",
    "Ours stand upright and apart when an episode begins.",
    "Their episodes have up to 400 control steps of 50 ms, ours 240.",
    "Theirs is prompted by a demonstration, ours by a sentence.",
)
