"""Calibrations as files: written whole or not at all, named in the robot's YAML without disturbing the rest of it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from calibration.errors import CalibrationError

DIGITS: Final = 8  # of the numbers in a file: far below what any of them is worth


def write_calibration(path: Path, calibration: BaseModel) -> None:
    """The calibration as YAML; the old file stays whole until the new one is."""
    content = _plain(calibration.model_dump(mode="json", exclude_none=True))
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    _replace(path, f"# Written by gato-arm calibrate.\n{text}")


def edit_robot(path: Path, change: Callable[[Any], None]) -> None:
    """Let `change` alter the mapping of a robot's YAML; comments, order and layout of the rest stay.

    Raises `CalibrationError` when the file is no YAML.
    """
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 120
    editor.indent(mapping=2, sequence=4, offset=2)  # as the robots of this package are written
    try:
        content = editor.load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise CalibrationError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    change(content)
    text = io.StringIO()
    editor.dump(content, text)
    _replace(path, text.getvalue())


def name_camera_calibration(robot: Path, camera: str, calibration: Path) -> None:
    """Set `cameras.CAMERA.calibration` in a robot's YAML, as seen from its folder."""
    name = os.path.relpath(calibration.resolve(), robot.resolve().parent)
    edit_robot(robot, lambda content: content["cameras"][camera].__setitem__("calibration", name))


def outputs_beside(robot: str, what: str, out: Path | None) -> tuple[Path, Path | None]:
    """Where a calibration of a robot goes, and the robot's own file, if it is one: the package's are not changed."""
    file = Path(robot) if Path(robot).suffix in (".yaml", ".yml") else None
    if out is not None:
        return out, file
    return (file.with_name(f"{file.stem}.{what}.yaml") if file else Path(f"{robot}.{what}.yaml")), file


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
