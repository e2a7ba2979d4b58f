"""What the shipped policy senses and does: cameras, scales and symmetries of the SO-101 stacking scene.

The one place where training, rollouts and export agree on them; at run time the artifact's card says the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from policies.gato.codec import Codec
from policies.gato.sequence import SequenceSpec
from policies.gato.tokens import ValueScale
from sim.expert import STEP
from sim.so101 import SPEC
from sim.tasks import TASKS, Task, phrasings
from sim.world import COLOURS

if TYPE_CHECKING:
    from policies.gato.text import Text

RATE = 20.0  # Hz
CAMERAS = ("fixed", "wrist")
IMAGE = 64  # pixels, square

SEQUENCE = SequenceSpec(
    cameras=tuple((name, IMAGE, IMAGE) for name in CAMERAS),
    tensors=(("joint_positions", 6), ("joint_targets", 6)),
    actions=6,
    words=13,  # the longest of the tasks' phrasings
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
MIRRORED_TRUTH = (1, 4, 6)  # y and the sines of an angle, of policies/gato/config.py's THING
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


# Never trained with, so that an evaluation can ask in words that are new together; each word is known by itself.
HELD_OUT_PHRASES = (
    "put the {moved} cube on the {base} cube",
    "move the {moved} object onto the {base} object",
    "on the {base} cube, stack the {moved} cube",
)


def held_out_phrasings(task: Task) -> tuple[str, ...]:
    """Phrasings of a task that the policy was not trained with."""
    return tuple(phrase.format(moved=task.moved, base=task.base) for phrase in HELD_OUT_PHRASES)


def fitting_phrasings(task: Task, text: Text) -> tuple[str, ...]:
    """All phrasings of a task that the policy has room for, its own text first."""
    room = min(SEQUENCE.text, SEQUENCE.words)
    return tuple(phrase for phrase in phrasings(task.moved, task.base) if len(text.encode(phrase)) <= room)


def trained_phrasings(task: Task, text: Text) -> tuple[str, ...]:
    """Those of them that training asks with."""
    return tuple(phrase for phrase in fitting_phrasings(task, text) if phrase not in held_out_phrasings(task))


def named_words(text: Text, task: Task, phrase: str) -> tuple[int, int]:
    """Which tokens of a phrasing name the moved and the base block; each colour is one token."""
    words = [text.decode([number]).strip() for number in text.encode(phrase)]
    return words.index(task.moved), words.index(task.base)
