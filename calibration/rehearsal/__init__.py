"""Calibration tried where the truth is known: rigs at random, boards drawn as a camera sees them."""
