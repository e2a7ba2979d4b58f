"""What the emulated servos keep without power, in a file: ids, offsets, limits and the rest of their EEPROM.

A JSON list with one object for each servo in the bus's order, register names to raw values.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from sim.faults import EmulatorError
from sim.servo_table import TableServo

FILE_LIMIT = 1_000_000  # bytes


def load_eeprom(path: Path, servos: Sequence[TableServo]) -> None:
    """Set the servos' EEPROM from the file, if there is one. Raises `EmulatorError` when it is not these servos'."""
    if not path.exists():
        return
    try:
        kept = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= FILE_LIMIT else None
        if not isinstance(kept, list) or len(kept) != len(servos):
            raise ValueError(f"it is not a list of {len(servos)} servos")
        for servo, values in zip(servos, kept, strict=True):
            if not isinstance(values, dict) or values.keys() != servo.eeprom().keys():
                raise ValueError("its registers are not those of this protocol")
            servo.restore({str(name): int(value) for name, value in values.items()})
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise EmulatorError(f"--eeprom {path}: cannot be used ({error}); delete it to begin anew") from None


def save_eeprom(path: Path, servos: Sequence[TableServo]) -> None:
    """Write the servos' EEPROM, the old file whole until the new one is. Raises `EmulatorError`."""
    text = json.dumps([servo.eeprom() for servo in servos], indent=1)
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_text(text + "\n", encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise EmulatorError(f"--eeprom {path}: cannot be written ({error.strerror}); choose another place") from None
