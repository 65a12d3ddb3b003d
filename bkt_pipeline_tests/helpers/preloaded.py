"""Imported by the server process of children.py alone: loads once what every child needs."""

from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.model import warm_up
from bkt_pipeline_tests.helpers import children as children

build_definitions()
warm_up()
