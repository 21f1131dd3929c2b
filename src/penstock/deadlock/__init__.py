"""Deadlocks: who waits for what, and what will never be woken."""
