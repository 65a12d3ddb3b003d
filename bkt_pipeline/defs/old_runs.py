"""Deletes the runs of old nights from Dagster, which would keep them, and their events, for ever."""

import datetime as dt

import dagster as dg

from bkt_pipeline.defs.installation import Installation
from bkt_pipeline.defs.tags import NIGHT_TAG

PAGE = 500  # run records read at a time


def delete_runs_before(instance: dg.DagsterInstance, installation: Installation, since: dt.date) -> int:
    """Delete the installation's runs of the nights before `since`, with their events; returns how many.

    A run that no night started counts as of the day when it was created. Unfinished runs stay.
    """
    old = []
    cursor, ours = None, dg.RunsFilter(tags=installation.tags)
    while records := instance.get_run_records(ours, limit=PAGE, cursor=cursor):
        for record in records:
            night = record.dagster_run.tags.get(NIGHT_TAG)
            day = dt.date.fromisoformat(night) if night else record.create_timestamp.astimezone(dt.UTC).date()
            if day < since and record.dagster_run.is_finished:
                old.append(record.dagster_run.run_id)
        cursor = records[-1].dagster_run.run_id
    for run_id in old:
        instance.delete_run(run_id)
    return len(old)
