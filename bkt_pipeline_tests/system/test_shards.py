"""The same night in one shard run and in several concurrent ones, each in a separate process on one database."""

from collections.abc import Callable

from bkt_pipeline.defs.partitions import RANGE_END, RANGE_START, shards
from bkt_pipeline.defs.tags import SHARD_TAG
from bkt_pipeline_tests.conftest import Platform
from bkt_pipeline_tests.helpers import children
from bkt_pipeline_tests.helpers.nights import AS_OF, Night
from bkt_pipeline_tests.helpers.schools import enrol
from bkt_pipeline_tests.helpers.state import snapshot, torn

SIZES = [20] * 11 + [3]


def test_the_rows_do_not_depend_on_the_number_of_shards(
    platform: Platform, make_night: Callable[[Platform], Night]
) -> None:
    keys = list(enrol(platform, SIZES))
    rows = {}
    for number in (1, 2, 4):
        night = make_night(platform)
        with night.instance() as instance:
            instance.add_dynamic_partitions("skill", keys)
        requests = shards(keys, keys, len(keys) // number)
        assert len(requests) == number
        outputs = {tags[SHARD_TAG]: night.output.with_name(tags[SHARD_TAG]) for tags in requests}
        started = [
            children.start(
                children.click,
                *(tags[RANGE_START], tags[RANGE_END], AS_OF),
                environment=night.environment,
                output=outputs[tags[SHARD_TAG]],
            )
            for tags in requests
        ]
        for child in started:
            child.join()
        printed = {shard: output.read_text() for shard, output in outputs.items()}
        assert [child.exitcode for child in started] == [0] * number, printed
        assert torn(night.url) == {}
        rows[number] = snapshot(night.url)
    assert len(rows[1]["skill_bkt_params"]) == 11
    assert len(rows[1]["night_skills"]) == 12
    assert rows[2] == rows[1]
    assert rows[4] == rows[1]
