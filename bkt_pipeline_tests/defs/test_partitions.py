import dagster as dg
from hypothesis import given, settings
from hypothesis import strategies as st

from bkt_pipeline.defs.partitions import ranges
from bkt_pipeline.defs.registration import partition_change


def test_new_skills_are_added_and_inactive_ones_retired() -> None:
    change = partition_change(["b", "c"], ["a", "b"], ["a", "b"])
    assert (change.added, change.retired, change.refused) == (["c"], ["a"], [])


def test_ids_that_dagster_refuses_are_reported_and_not_added() -> None:
    change = partition_change(["fine", "tab\there", "dots...", ""], [], [])
    assert change.added == ["fine"]
    assert change.refused == ["", "dots...", "tab\there"]


def test_adjacent_keys_in_store_order_share_a_range() -> None:
    assert list(ranges({"a", "c", "d"}, ["d", "c", "b", "a"], at_most=10)) == [("d", "c"), ("a", "a")]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 30).map(str), unique=True),
    st.sets(st.integers(0, 30).map(str)),
    st.integers(1, 5),
)
def test_ranges_cover_exactly_the_chosen(order: list[str], chosen: set[str], at_most: int) -> None:
    covered = []
    for start, end in ranges(chosen, order, at_most):
        keys = order[order.index(start) : order.index(end) + 1]
        assert 1 <= len(keys) <= at_most
        covered += keys
    assert covered == [key for key in order if key in chosen]


def test_partition_changes_by_another_process_are_seen(instance: dg.DagsterInstance) -> None:
    def both() -> tuple[list[str], list[str]]:
        return instance.get_dynamic_partitions("skill"), other.get_dynamic_partitions("skill")

    with dg.DagsterInstance.get() as other:
        assert both() == ([], [])
        instance.add_dynamic_partitions("skill", ["b", "a", "c"])
        assert both() == (["b", "a", "c"], ["b", "a", "c"])
        other.delete_dynamic_partition("skill", "c")
        instance.add_dynamic_partitions("skill", ["d"])
        assert both() == (["b", "a", "d"], ["b", "a", "d"])
        instance.delete_dynamic_partition("skill", "b")
        instance.add_dynamic_partitions("skill", ["b"])
        assert both() == (["a", "d", "b"], ["a", "d", "b"])
        other.add_dynamic_partitions("another", ["z"])
        seen, _ = both()
        seen.clear()
        assert both() == (["a", "d", "b"], ["a", "d", "b"])
