"""Keeps each skill's last window: one contract, and one module for each kind of store.

Reading a window from the platform's tables is in `db/attempts.py`.
"""
