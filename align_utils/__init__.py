"""Thin library behind the six notebooks of the ALIGN companion; one noun a module."""

__version__ = "0.1.0"
