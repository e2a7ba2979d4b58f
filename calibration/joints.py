"""Where a joint's zero is on its servo's encoder: from its travel first, then from a pose that a person can see.

Knows no bus and no protocol: counts come in, offsets and zeros go out. An encoder counts a turn and begins
anew: a joint's travel may cross the seam between its last count and 0. Readings are therefore followed from one to the
next, and the homing offset is chosen so that the seam lies outside the travel; where the person happened to hold the
joint when Enter was pressed cannot put it inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal

from calibration.errors import CalibrationError
from drivers.config import JointConfig

TURN: Final = 4096  # counts of an encoder's turn
PER_RADIAN: Final = TURN / math.tau
JUMP: Final = TURN // 4  # counts between two readings: beyond this it is not certain which way the joint went
STOP_TOLERANCE: Final = math.radians(4)  # by which a travel may differ from the limits and still have met its stops
CENTRE_TOLERANCE: Final = math.radians(10)  # by eye; the next tooth of a 25-tooth horn is 14.4 degrees away
SEAM_MARGIN: Final = 8  # counts between the travel and the seam
MIDDLE: Final = TURN // 2


@dataclass
class Sweep:
    """The travel of one joint, from readings that follow each other closely."""

    joint: str
    position: int = 0  # counts since the first reading, turns counted
    low: int = 0
    high: int = 0
    seams: int = 0  # how often the encoder began anew
    _last: int | None = field(default=None, repr=False)
    _first: int = field(default=0, repr=False)

    def add(self, count: int) -> None:
        """Follow to the next reading. Raises `CalibrationError` when it is too far to know the way."""
        if self._last is None:
            self._last = self._first = count
            return
        step = (count - self._last + TURN // 2) % TURN - TURN // 2
        if abs(step) > JUMP:
            raise CalibrationError(
                f"{self.joint}: moved {abs(step) * 360 // TURN} degrees between two readings; sweep it more slowly, "
                "from the beginning"
            )
        if count - self._last != step:
            self.seams += 1
        self._last = count
        self.position += step
        self.low, self.high = min(self.low, self.position), max(self.high, self.position)

    @property
    def travel(self) -> float:
        """How far it went from end to end, rad."""
        return (self.high - self.low) / PER_RADIAN

    @property
    def ends(self) -> tuple[int, int]:
        """Lowest and highest count, on the scale of the first reading with turns counted."""
        return self._first + self.low, self._first + self.high

    @property
    def here(self) -> int:
        """The last count on that scale."""
        return self._first + self.position


@dataclass(frozen=True, slots=True)
class OffsetRule:
    """How a protocol's homing offset works: shown position = encoder + `sign` * offset; |offset| <= `limit`."""

    sign: Literal[-1, 1]
    limit: int
    why: str = ""  # of the limit


FEETECH: Final = OffsetRule(-1, 2047, "eleven bits and a sign")
DYNAMIXEL: Final = OffsetRule(1, 1024, "more is ignored in position mode; choose extended position mode")
DYNAMIXEL_EXTENDED: Final = OffsetRule(1, 1_044_479)


@dataclass(frozen=True, slots=True)
class FoundJoint:
    """What a joint's sweep and centre say."""

    name: str
    id: int
    offset: int  # for the servo's homing offset register
    zero: int  # position that the servo then shows at angle 0
    low: int  # and at the ends of its travel
    high: int
    travel: float  # rad
    source: Literal["stops", "centre"]  # what the zero was taken from
    disagreement: float  # rad between the two


def find_joint(joint: JointConfig, sweep: Sweep, old_offset: int, rule: OffsetRule) -> FoundJoint:
    """The joint's zero and its new homing offset, from a sweep that ended in the centre pose (every angle 0).

    `old_offset` was in force while it was swept. Raises `CalibrationError` with the reason.
    """
    expected = joint.maximum - joint.minimum
    if sweep.travel < expected - STOP_TOLERANCE:
        raise CalibrationError(
            f"{joint.name}: swept {math.degrees(sweep.travel):.0f} of the {math.degrees(expected):.0f} degrees between "
            "its limits; move it from stop to stop, or narrow the limits in the robot's file if it cannot go further"
        )
    low, high = sweep.ends
    at_low, at_high = (joint.minimum, joint.maximum)[:: joint.direction]
    between = ((low - joint.direction * at_low * PER_RADIAN) + (high - joint.direction * at_high * PER_RADIAN)) / 2
    met_stops = sweep.travel <= expected + STOP_TOLERANCE
    disagreement = joint.direction * (sweep.here - between) / PER_RADIAN
    if met_stops and abs(disagreement) > CENTRE_TOLERANCE:
        raise CalibrationError(_explain(joint, sweep, disagreement))
    zero = round(between) if met_stops else sweep.here
    return _placed(joint, sweep, zero, "stops" if met_stops else "centre", disagreement, old_offset, rule)


def _explain(joint: JointConfig, sweep: Sweep, disagreement: float) -> str:
    """Why centre and travel disagree: perhaps it would fit the other way round."""
    low, high = sweep.ends
    mirrored = (low + high + joint.direction * (joint.minimum + joint.maximum) * PER_RADIAN) / 2
    if abs(sweep.here - mirrored) / PER_RADIAN < CENTRE_TOLERANCE and abs(joint.minimum + joint.maximum) > 0.2:
        return f"{joint.name}: counts the other way round; set `direction: {-joint.direction}` in the robot's file"
    return (
        f"{joint.name}: the pose shown as its centre is {math.degrees(abs(disagreement)):.0f} degrees from where its "
        "stops say; hold it as the picture shows, and if it is, its horn sits a tooth off: mount it anew"
    )


def _placed(
    joint: JointConfig,
    sweep: Sweep,
    zero: int,
    source: Literal["stops", "centre"],
    disagreement: float,
    old_offset: int,
    rule: OffsetRule,
) -> FoundJoint:
    """Choose the offset: angle 0 in the middle of the scale if the travel then misses the seam, else the travel is."""
    low, high = sweep.ends
    if sweep.travel > math.radians(350) or high - low > TURN - 2 * SEAM_MARGIN:  # it turns freely: its limits count
        ends = [round(zero + joint.direction * limit * PER_RADIAN) for limit in (joint.minimum, joint.maximum)]
        low, high = min(ends), max(ends)
    if high - low > TURN - 2 * SEAM_MARGIN:
        raise CalibrationError(
            f"{joint.name}: travels {math.degrees((high - low) / PER_RADIAN):.0f} degrees, so that its encoder begins "
            "anew within them wherever it is mounted; narrow its limits in the robot's file"
        )
    shift = MIDDLE - zero
    if low + shift < SEAM_MARGIN or high + shift > TURN - 1 - SEAM_MARGIN:
        shift = MIDDLE - (low + high) // 2
    # The encoder's own count is what was shown without the old offset; a whole turn more or less is the same place.
    offset = _wrapped(rule.sign * shift + old_offset)
    if offset == -TURN // 2:  # sign and magnitude: -2048 cannot be written, so all moves by one count
        offset, shift = offset + 1, shift + rule.sign
    if abs(offset) > rule.limit:
        raise CalibrationError(
            f"{joint.name}: needs a homing offset of {offset}, the servo takes {-rule.limit} to {rule.limit}"
            f"{f' ({rule.why})' if rule.why else ''}; or mount its horn nearer to the middle"
        )
    return FoundJoint(
        joint.name, joint.id, offset, zero + shift, low + shift, high + shift, sweep.travel, source, disagreement
    )


def _wrapped(count: int) -> int:
    return (count + TURN // 2) % TURN - TURN // 2
