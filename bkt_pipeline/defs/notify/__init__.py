"""Tells people about a night: what a message says, and how it is delivered."""
