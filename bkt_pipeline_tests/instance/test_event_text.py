import random
from typing import Any

import dagster as dg

from bkt_pipeline.defs.private import AssetCheckEvaluationTargetMaterializationData
from bkt_pipeline.instance.event_text import EventTexts

TEXTS = "a", "", 'quo"te', "é\n", "value 0", "value 3", "value 99", "1.5", '"value 1"', "𝄞", "null"
VALUES = (
    *TEXTS,
    *(0, 1, -7, 10**30, True, False, None),
    *(0.5, -0.0, 1e-320, 1e300, 0.1 + 0.2, float("nan"), float("inf"), float("-inf")),
    *([1, 2], {"a": {"b": [1.5]}}),
    dg.MetadataValue.md("| a |"),
    dg.MetadataValue.timestamp(1.75e9),
    dg.MetadataValue.url("https://example.org"),
)
ASSET = dg.AssetKey(["school", "skill_bkt_params"])


def test_each_text_is_dagsters_own() -> None:
    """Also of values, names and partitions that look like the places in a template, and of ones that cannot be a key."""
    draw = random.Random(1)
    of_event, of_planned = of_a_run()

    def target() -> Any:
        return AssetCheckEvaluationTargetMaterializationData(
            storage_id=draw.randrange(9), run_id=draw.choice(TEXTS), timestamp=draw.random()
        )

    def metadata() -> dict[str, Any]:
        names = draw.sample(("one", "two", "value 0", 'a "b"', "é"), draw.randrange(6))
        return {name: draw.choice(VALUES) for name in names}

    def evaluation(about: Any) -> dg.AssetCheckEvaluation:
        return dg.AssetCheckEvaluation(
            asset_key=ASSET,
            check_name=draw.choice(("one", "two")),
            passed=draw.random() < 0.5,
            description=draw.choice((*TEXTS, None)),
            metadata=metadata(),
            target_materialization_data=draw.choice((about, target(), None)),
            severity=draw.choice(list(dg.AssetCheckSeverity)),
            blocking=draw.choice((None, False)),
            partition=draw.choice((*TEXTS, None)),
        )

    def materialisation() -> Any:
        made = dg.AssetMaterialization(
            ASSET,
            description=draw.choice((*TEXTS, None)),
            metadata=metadata(),
            partition=draw.choice((*TEXTS, None)),
            tags=draw.choice((None, {"school": "value-1"})),
        )
        return of_event._replace(materialization=made)

    def planned() -> Any:
        return of_planned._replace(partition=draw.choice((*TEXTS, None)))

    texts = EventTexts()
    for _ in range(300):
        about = target()
        for _ in range(10):
            for data in (evaluation(about), materialisation(), planned()):
                assert texts.of(data) == dg.serialize_value(data)


def of_a_run() -> list[Any]:
    """What the events of a materialisation, and of its plan, hold in a run."""
    kinds = dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([dg.asset(name="one")(lambda: None)], instance=instance).run_id
        (found,) = zip(*(instance.all_logs(run, of_type=kind) for kind in kinds), strict=True)
    return [event.get_dagster_event().event_specific_data for event in found]
