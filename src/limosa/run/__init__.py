"""Managed runs: a plan file, and what drives a migration to its end as it says."""
