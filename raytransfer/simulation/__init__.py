"""Simulations of theory."""
