"""The real-time runtime: clock, safety, supervisor, servo loop, control loop, recorder, command line."""
