"""The serial ports of this machine, and how long their FTDI adapters keep bytes back. Reads only; opens no port.

Knows no servo. `sysfs` is where Linux describes its USB serial adapters; elsewhere nothing is found there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

USB_SERIAL = Path("/sys/bus/usb-serial/devices")
LATENCY_MAX_MS = 1  # an FTDI adapter hands over what it has received after this time; its driver's default is 16
LATENCY_RULE = 'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"'


def serial_ports(sysfs: Path = USB_SERIAL) -> list[dict[str, Any]]:
    """The serial ports, by device: what they are, their USB serial numbers, and their latency timers, ms."""
    from serial.tools import list_ports

    return [
        {
            "device": str(port.device),
            "product": port.product or port.description or "",
            "serial_number": port.serial_number or "",
            "hardware": port.hwid or "",
            "latency_ms": latency_ms(str(port.device), sysfs),
        }
        for port in sorted(list_ports.comports(), key=lambda port: str(port.device))
    ]


def latency_ms(port: str, sysfs: Path = USB_SERIAL) -> int | None:
    """The latency timer of the adapter behind `port` (a device or a link to one), ms; None where there is none."""
    try:
        return int(_timer(port, sysfs).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def latency_problem(port: str, sysfs: Path = USB_SERIAL) -> str | None:
    """One line that says what is wrong with the latency timer of `port`, and how it is mended; None if it is well."""
    timer = latency_ms(port, sysfs)
    if timer is None or timer <= LATENCY_MAX_MS:
        return None
    return (
        f"{port}: its adapter keeps bytes back for {timer} ms; now: echo 1 | sudo tee {_timer(port, sysfs)}; for good, "
        f"in /etc/udev/rules.d/99-gato-arm.rules: {LATENCY_RULE}"
    )


def _timer(port: str, sysfs: Path) -> Path:
    return sysfs / Path(port).resolve().name / "latency_timer"
