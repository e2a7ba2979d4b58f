"""What the shipped policy senses and does: cameras, scales and symmetries of the SO-101 stacking scene.

The one place where training, rollouts and export agree on them; at run time the artifact's card says the same.
"""

from __future__ import annotations

import numpy as np

from policies.gato.codec import Codec
from policies.gato.sequence import SequenceSpec
from policies.gato.tokens import ValueScale
from sim.expert import STEP
from sim.so101 import SPEC
from sim.tasks import TASKS
from sim.world import COLOURS

RATE = 20.0  # Hz
CAMERAS = ("fixed", "wrist")
IMAGE = 64  # pixels, square

SEQUENCE = SequenceSpec(
    cameras=tuple((name, IMAGE, IMAGE) for name in CAMERAS),
    tensors=(("joint_positions", 6), ("joint_targets", 6)),
    actions=6,
)

# Beyond the limits by 2%, so that an arm resting on its stop is still told apart from one past it.
_SLACK = 0.02 * (SPEC.position_max - SPEC.position_min)
JOINTS = ValueScale(SPEC.position_min - _SLACK, SPEC.position_max + _SLACK)
CODEC = Codec(
    tensors={"joint_positions": JOINTS, "joint_targets": JOINTS},
    action=ValueScale(np.array([-STEP] * 5 + [SPEC.position_min[5]]), np.array([STEP] * 5 + [SPEC.position_max[5]])),
    delta=np.array([True] * 5 + [False]),
)

ROLES = tuple((COLOURS.index(task.moved), COLOURS.index(task.base)) for task in TASKS)  # of each task
MIRRORED_JOINTS = (0, 4)  # pan and roll change sign in a mirror
CHANNEL_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def mirrored_ids() -> tuple[int, ...]:
    """Places in a block's ids that change sign in a mirror: of the executed action and of both tensors."""
    tensors = SEQUENCE.actions + SEQUENCE.words
    return tuple(start + joint for start in (0, tensors, tensors + 6) for joint in MIRRORED_JOINTS)


def colour_tasks() -> tuple[tuple[int, ...], ...]:
    """[p][t]: the task that task t becomes when the channels are taken in CHANNEL_ORDERS[p]."""
    tables = []
    for order in CHANNEL_ORDERS:
        # A new image's channel c is the old one's order[c]: what was COLOURS[order[c]] is now COLOURS[c].
        becomes = {COLOURS[old]: COLOURS[new] for new, old in enumerate(order)}
        pairs = [(task.moved, task.base) for task in TASKS]
        tables.append(tuple(pairs.index((becomes[task.moved], becomes[task.base])) for task in TASKS))
    return tuple(tables)
