"""What may differ between two worlds of block stacking: cameras, light, colours, bodies, servos, table.

`Conditions` are concrete values, `NOMINAL` those of the world as it was designed; `sample_conditions` draws the named
variations from the ranges in variation.yaml. `sim.world` applies them. Knows no physics. Lengths in m, angles in rad.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import Any, Literal

import numpy as np
import yaml

from sim.shapes import EDGE

VARIATIONS = (
    "camera_pose",
    "camera_fov",
    "light",
    "colours",
    "block_size",
    "block_mass",
    "friction",
    "servo_gain",
    "backlash",
    "delay",
    "table",
)

Triple = tuple[float, float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Conditions:
    """One world's. What is said of "each block" is in the order red, green, blue."""

    fixed_shift: Triple = (0.0, 0.0, 0.0)  # m, of the fixed camera, in the world's axes
    fixed_turn: Triple = (0.0, 0.0, 0.0)  # rad, about its own right, up and forward axes
    wrist_shift: Triple = (0.0, 0.0, 0.0)  # m, of the wrist camera, along its own right, up and forward axes
    wrist_turn: Triple = (0.0, 0.0, 0.0)  # rad
    fixed_zoom: float = 1.0  # factor on the tangent of half the field of view
    wrist_zoom: float = 1.0
    light_direction: Triple = (0.3, 0.0, 1.0)  # towards the light
    light_colour: Colour = (1.0, 1.0, 1.0)
    light_ambient: float = 0.6
    light_diffuse: float = 0.45
    block_colours: tuple[Colour, Colour, Colour] = ((0.85, 0.1, 0.1), (0.1, 0.85, 0.1), (0.1, 0.1, 0.85))
    arm_light: float = 0.82  # grey
    arm_dark: float = 0.25
    block_edges: Triple = (EDGE, EDGE, EDGE)  # m, of the cube that each block is, or is a deformation of
    block_masses: Triple = (0.030, 0.030, 0.030)  # kg, of a cube of edge `EDGE` of each block's material
    block_friction: float = 1.0
    finger_friction: float = 1.5
    servo_gain: float = 1.0  # factor on the share of the position error that a servo closes in a substep
    backlash: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)  # rad, whole play of each arm joint
    delay: float = 0.0  # s
    table_height: float = 0.0  # m
    table_grey: float = 0.55
    table_friction: float = 0.9


NOMINAL = Conditions()


class VariationError(ValueError):
    """There is no such variation, or no such condition; one line."""


@functools.cache
def ranges() -> Mapping[str, Mapping[str, tuple[float, float]]]:
    """Lowest and highest value of each part of each variation, as in variation.yaml."""
    content = yaml.safe_load((resources.files("sim") / "variation.yaml").read_text(encoding="utf-8"))
    return {name: {part: (low, high) for part, (low, high) in parts.items()} for name, parts in content.items()}


def sample_conditions(rng: np.random.Generator, names: Collection[str]) -> Conditions:
    """Conditions with the variations `names` drawn from their full ranges, and all else nominal.

    Raises `VariationError` for a name that is not in `VARIATIONS`. The order of `names` does not matter.
    """
    for name in names:
        if name not in VARIATIONS:
            raise VariationError(f"no variation {name!r}; there are {', '.join(VARIATIONS)}")
    changes: dict[str, Any] = {}
    for name in VARIATIONS:
        if name in names:
            changes |= _SAMPLERS[name](_Drawn(rng, ranges()[name]))
    return replace(NOMINAL, **changes)


def conditions_at(name: str, end: Literal["low", "high"]) -> Conditions:
    """Conditions with every part of one variation at that end of its range, and all else nominal."""
    if name not in VARIATIONS:
        raise VariationError(f"no variation {name!r}; there are {', '.join(VARIATIONS)}")
    at = {part: (limits[end == "high"],) * 2 for part, limits in ranges()[name].items()}
    return replace(NOMINAL, **_SAMPLERS[name](_Drawn(np.random.default_rng(0), at)))


class _Drawn:
    """Uniform draws from one variation's ranges."""

    def __init__(self, rng: np.random.Generator, parts: Mapping[str, tuple[float, float]]) -> None:
        self._rng, self._parts = rng, parts

    def one(self, part: str) -> float:
        return float(self._rng.uniform(*self._parts[part]))

    def three(self, part: str) -> Triple:
        return self.one(part), self.one(part), self.one(part)


def _camera_pose(drawn: _Drawn) -> dict[str, Any]:
    return {part: drawn.three(part) for part in ("fixed_shift", "fixed_turn", "wrist_shift", "wrist_turn")}


def _camera_fov(drawn: _Drawn) -> dict[str, Any]:
    return {part: drawn.one(part) for part in ("fixed_zoom", "wrist_zoom")}


def _light(drawn: _Drawn) -> dict[str, Any]:
    azimuth, elevation = drawn.one("azimuth"), drawn.one("elevation")
    level = math.cos(elevation)
    return {
        "light_direction": (level * math.cos(azimuth), level * math.sin(azimuth), math.sin(elevation)),
        "light_colour": drawn.three("tint"),
        "light_ambient": drawn.one("ambient"),
        "light_diffuse": drawn.one("strength"),
    }


def _colours(drawn: _Drawn) -> dict[str, Any]:
    colours = [list(drawn.three("dull")) for _ in range(3)]
    for channel, colour in enumerate(colours):
        colour[channel] = drawn.one("bright")
    return {
        "block_colours": tuple(tuple(colour) for colour in colours),
        "table_grey": drawn.one("table_grey"),
        "arm_light": drawn.one("arm_light"),
        "arm_dark": drawn.one("arm_dark"),
    }


def _table(drawn: _Drawn) -> dict[str, Any]:
    return {
        "table_height": drawn.one("height"),
        "table_grey": drawn.one("grey"),
        "table_friction": drawn.one("friction"),
    }


_SAMPLERS = {
    "camera_pose": _camera_pose,
    "camera_fov": _camera_fov,
    "light": _light,
    "colours": _colours,
    "block_size": lambda drawn: {"block_edges": drawn.three("edge")},
    "block_mass": lambda drawn: {"block_masses": drawn.three("mass")},
    "friction": lambda drawn: {"block_friction": drawn.one("block"), "finger_friction": drawn.one("finger")},
    "servo_gain": lambda drawn: {"servo_gain": drawn.one("gain")},
    "backlash": lambda drawn: {"backlash": tuple(drawn.one("play") for _ in range(5))},
    "delay": lambda drawn: {"delay": drawn.one("seconds")},
    "table": _table,
}


def parse_conditions(values: Mapping[str, object]) -> Conditions:
    """The conditions that a mapping of their names names, as in a robot's YAML; what is left out is nominal.

    A single number where several are asked stands for each of them. Raises `VariationError`.
    """
    known = {field.name for field in fields(Conditions)}
    for name in values:
        if name not in known:
            raise VariationError(f"no condition {name!r}; there are {', '.join(sorted(known))}")
    return replace(NOMINAL, **{name: _as_nominal(name, value) for name, value in values.items()})


def _as_nominal(name: str, value: object) -> Any:
    """`value` in the form that the nominal value has. Raises `VariationError`."""
    nominal = np.array(getattr(NOMINAL, name))
    try:
        given = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        given = np.array(np.nan)
    if given.shape not in ((), nominal.shape) or (given.ndim == 0 and nominal.ndim > 1) or not np.isfinite(given).all():
        wanted = " x ".join(map(str, nominal.shape)) + " numbers" if nominal.ndim else "one number"
        raise VariationError(f"{name}: {wanted}, not {value!r}")
    values = np.broadcast_to(given, nominal.shape).tolist()
    if nominal.ndim == 2:
        return tuple(tuple(row) for row in values)
    return tuple(values) if nominal.ndim else float(values)
