"""The verbs of `gato-arm`, one module each; runtime/cli.py registers them."""
