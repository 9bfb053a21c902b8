"""The closed vocabulary of captions whose truth can be checked in a clip without any network.

The demo's scenes are drawn from these words and :mod:`tadp.demo.captions.alignment` looks for them again, so both sides
read the one definition here. This module imports nothing, so that reading the words costs nothing.
"""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (225, 35, 35),
    "green": (40, 180, 60),
    "blue": (45, 80, 235),
    "yellow": (240, 225, 45),
    "purple": (185, 50, 220),
    "cyan": (60, 215, 225),
    "orange": (245, 135, 25),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "star")
RADII: dict[str, float] = {"small": 0.10, "": 0.14, "large": 0.19}
"""Radius of a shape by its size word, as a fraction of the frame's side; the middle size has no word."""
MOTIONS = ("stands still", "moves left", "moves right", "moves up", "moves down", "bounces", "orbits", "grows")

TRAVEL = 0.52
"""Way of a moving shape over a whole clip, as a fraction of the frame's side."""
BOUNCE_HEIGHT = 0.30
"""Height of a bounce, as a fraction of the frame's side; a whole clip has two."""
ORBIT_RADIUS = 0.16
"""Radius of an orbit, as a fraction of the frame's side; a whole clip has one turn."""
GROWTH = 1.0
"""What a growing shape gains over a whole clip, in units of its first radius."""
