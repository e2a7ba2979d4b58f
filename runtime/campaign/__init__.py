"""The fault campaign: breaks things on purpose while the emulated arm moves, and judges by the servos' own trace."""
