"""Devices: arms, cameras and the buses they hang on. Knows nothing of policies, tasks or simulators."""
