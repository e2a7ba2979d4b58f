"""The one exception of this package: what is wrong with a calibration, and what to do about it."""


class CalibrationError(Exception):
    """A calibration that is refused; the message says in one line what is wrong and what to do."""
