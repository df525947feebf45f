"""Simulations that test theory."""
