"""Workstream model for lane-level execution and integration state."""
