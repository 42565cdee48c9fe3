"""Thin library behind the six notebooks of the ALIGN companion: ten places, each with its public functions."""

__version__ = "0.1.0"
