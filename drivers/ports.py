"""Which serial port an arm's adapter is on now: by its path, or by its USB serial number under whatever path.

Knows no servo and opens nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from serial.tools.list_ports import comports

from drivers.bus import BusError


class PortInfo(Protocol):
    """What is used of pyserial's description of a port."""

    @property
    def device(self) -> str: ...

    @property
    def serial_number(self) -> str | None: ...


ListPorts = Callable[[], Iterable[PortInfo]]


def find_port(port: str | None, usb_serial: str | None, list_ports: ListPorts = comports) -> str:
    """The device path to open: that of the adapter with this USB serial number, or without one `port` itself.

    Raises `BusError` (one line) when no adapter has that number, naming those that are there.
    """
    if usb_serial is None:
        if port is None:
            raise BusError("arm.port: missing, and no arm.usb_serial either; say where the arm's adapter is")
        return port
    found = {info.serial_number: info.device for info in list_ports() if info.serial_number}
    if usb_serial not in found:
        there = ", ".join(f"{number} on {device}" for number, device in sorted(found.items())) or "no adapter at all"
        raise BusError(f"no adapter has the USB serial number {usb_serial} (found: {there}); is it plugged in?")
    return found[usb_serial]
