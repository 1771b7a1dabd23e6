"""Databases that Limosa can read and write."""
