"""Imported by the server process of children.py alone: loads once what every child needs."""

import pytest

from bkt_pipeline.definitions import build_definitions
from bkt_pipeline.model import warm_up
from bkt_pipeline_tests.conftest import draw_no_pictures
from bkt_pipeline_tests.helpers import children as children

draw_no_pictures(pytest.MonkeyPatch())
build_definitions()
warm_up()
