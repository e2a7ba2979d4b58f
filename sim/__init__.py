"""The stand-in for the physical arm: world, tasks, demonstrator, and drivers on top of them."""
