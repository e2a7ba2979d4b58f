"""`gato-arm bench`: every figure beside its floor and its alternatives, measured in the same run, in turns."""
