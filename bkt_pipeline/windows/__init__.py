"""Where each skill's last window is kept: one contract, one module for each kind of store.

Reading a window from the platform's tables is in `db/attempts.py`.
"""
