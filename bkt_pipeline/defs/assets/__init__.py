"""The assets, one module for each part of the graph."""
