"""What one installation of the graph has to itself, in a Dagster that other teams and other installations use too."""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import dagster as dg

from bkt_pipeline import __version__
from bkt_pipeline.defs.metadata.tables import OWNERS
from bkt_pipeline.defs.tags import PARTITIONS_TAG
from bkt_pipeline.errors import InvalidSettings
from bkt_pipeline.settings import settings

CRON = "0 7 * * *"  # in UTC
RESOURCES = ("database", "settings", "item_settings", "progress")
IO_MANAGER = (
    "bkt_io_manager"  # not Dagster's default name, which every other asset in the code location would use
)
PARTITIONED = ("attempt_window", "skill_bkt_params", "item_irt_params")


@dataclass(frozen=True)
class Installation:
    """The names of one installation.

    Attributes
    ----------
    partitions_name
        The name of its partitions in Dagster. All of its runs have it in a tag, so that it finds its own.
    key_prefix
        Goes before the keys of its assets and the names of its jobs, sensors, schedule and resources. With a different one
        each, several installations fit into one code location.
    group_name
        The group of its assets; None for the groups `platform`, `calibration` and `items`.
    cron
        When its nights start, in UTC.
    """

    partitions_name: str = "skill"
    key_prefix: tuple[str, ...] = ()
    group_name: str | None = None
    cron: str = CRON

    @classmethod
    def named(
        cls,
        partitions_name: str | None = None,
        key_prefix: str | Sequence[str] | None = None,
        group_name: str | None = None,
        cron: str | None = None,
    ) -> Self:
        """The installation with these names. Without a `partitions_name`, BKT_PARTITIONS follows the prefix.

        Raises
        ------
        InvalidSettings
            Dagster does not take a name.
        """
        parts = (key_prefix,) if isinstance(key_prefix, str) else tuple(key_prefix or ())
        for part in [*parts, *([group_name] if group_name else [])]:
            if not re.fullmatch(r"[A-Za-z0-9_]+", part):
                raise InvalidSettings(
                    f"{part!r} is not a name for Dagster; key_prefix and group_name may have letters, digits and _"
                )
        if partitions_name is None:
            partitions_name = "_".join([*parts, settings().partitions])
        if not partitions_name.strip():
            raise InvalidSettings("partitions_name is empty; give the installation's partitions a name")
        return cls(partitions_name, parts, group_name, cron or CRON)

    @property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        """The partitions, one for each skill."""
        return dg.DynamicPartitionsDefinition(name=self.partitions_name)

    @property
    def tags(self) -> dict[str, str]:
        """The tags that all of its runs have."""
        return {PARTITIONS_TAG: self.partitions_name}

    def key(self, asset: str) -> dg.AssetKey:
        """The key of an asset."""
        return dg.AssetKey([*self.key_prefix, asset])

    def name(self, what: str) -> str:
        """The name of a job, sensor, schedule or resource."""
        return "_".join([*self.key_prefix, what])

    def owns(self, run: dg.DagsterRun) -> bool:
        """Whether the run is one of this installation's.

        The runs of its jobs have its tag. A run of chosen assets gets the tag when it starts; until then only the assets
        that were chosen show whose it is.
        """
        if PARTITIONS_TAG in run.tags:
            return run.tags[PARTITIONS_TAG] == self.partitions_name
        return bool(set(run.asset_selection or ()) & {self.key(asset) for asset in PARTITIONED})

    def asset(
        self,
        compute: Callable[..., Any],
        *,
        group: str,
        deps: Iterable[str | dg.AssetDep] = (),
        partitioned: bool = False,
        **arguments: Any,
    ) -> dg.AssetsDefinition:
        """The asset that `compute` computes, with its name and its docstring.

        Each parameter of `compute` after the context is the resource of that name, or this installation, or else the asset
        upstream of that name.
        """
        signature = inspect.signature(compute)
        parameters = list(signature.parameters)[1:]
        resources = {name: self.name(name) for name in parameters if name in RESOURCES}
        own = {"installation": self} if "installation" in parameters else {}
        upstream = [name for name in parameters if name not in {*resources, *own}]

        def computed(context: dg.AssetExecutionContext, **loaded: Any) -> Any:
            given = {name: getattr(context.resources, key) for name, key in resources.items()}
            return compute(context, **given, **own, **loaded)

        computed.__annotations__["return"] = signature.return_annotation
        if partitioned:
            arguments |= {
                "partitions_def": self.partitions,
                "backfill_policy": dg.BackfillPolicy.single_run(),
                "io_manager_key": self.name(IO_MANAGER),
            }
        declared: dg.AssetsDefinition = dg.asset(
            name=compute.__name__,
            description=inspect.getdoc(compute),
            key_prefix=self.key_prefix or None,
            group_name=self.group_name or group,
            ins={name: dg.AssetIn(self.key(name)) for name in upstream},
            deps=[self.key(dep) if isinstance(dep, str) else dep for dep in deps],
            required_resource_keys=set(resources.values()),
            owners=OWNERS,
            code_version=__version__,
            **arguments,
        )(computed)
        return declared
