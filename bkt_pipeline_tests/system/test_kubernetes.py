"""deploy/kubernetes without a cluster: the dagster.yaml that the chart makes of our values, loaded by Dagster.

Only what our values set is written here as the chart's template templates/configmap-instance.yaml writes it.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest
import yaml

from bkt_pipeline.settings import settings
from bkt_pipeline_tests.conftest import AS_OF, PROJECT, Databases, Platform
from bkt_pipeline_tests.helpers.schools import enrol

dagster_k8s = pytest.importorskip("dagster_k8s", reason="the extra `k8s` is not installed")

VALUES: dict[str, Any] = yaml.safe_load((PROJECT / "deploy/kubernetes/values.yaml").read_text())
# A client of a cluster that is never asked for anything.
KUBECONFIG = {
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": ""}}],
    "current-context": "none",
}
LAUNCHER = VALUES["runLauncher"]["config"]["k8sRunLauncher"]


def snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def dagster_yaml(storage_url: str, kubeconfig: Path) -> dict[str, Any]:
    postgres, daemon = VALUES["postgresql"], VALUES["dagsterDaemon"]
    parts = urlsplit(storage_url)
    database = {
        "postgres_db": {
            "username": parts.username,
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            # The test's server listens only on a socket.
            "hostname": "",
            "db_name": parts.path.removeprefix("/"),
            "port": postgres["service"]["port"],
            "params": dict(pair.split("=") for pair in parts.query.split("&") if pair.startswith("host=")),
            "scheme": postgres["postgresqlScheme"],
        }
    }
    storages = {
        "run_storage": ("dagster_postgres.run_storage", "PostgresRunStorage"),
        "event_log_storage": ("dagster_postgres.event_log", "PostgresEventLogStorage"),
        "schedule_storage": ("dagster_postgres.schedule_storage", "PostgresScheduleStorage"),
    }
    return {
        **{
            name: {"module": module, "class": kind, "config": database}
            for name, (module, kind) in storages.items()
        },
        "run_launcher": {
            "module": "dagster_k8s",
            "class": VALUES["runLauncher"]["type"],
            "config": {
                "load_incluster_config": False,
                "kubeconfig_file": str(kubeconfig),
                "job_namespace": "bkt",
                "image_pull_policy": LAUNCHER["imagePullPolicy"],
                "service_account_name": "bkt-dagster",
                "dagster_home": "/opt/dagster/dagster_home",
                "instance_config_map": "bkt-dagster-instance",
                "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
                "resources": LAUNCHER["resources"],
                "run_k8s_config": {snake_case(name): part for name, part in LAUNCHER["runK8sConfig"].items()},
            },
        },
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": {
                snake_case(name): value
                for name, value in daemon["runCoordinator"]["config"]["queuedRunCoordinator"].items()
            },
        },
        "run_monitoring": {snake_case(name): value for name, value in daemon["runMonitoring"].items()},
        "run_retries": {snake_case(name): value for name, value in daemon["runRetries"].items()},
        "retention": {
            kind: {"purge_after_days": VALUES["retention"][kind]["purgeAfterDays"]}
            for kind in ("schedule", "sensor")
        },
        "telemetry": VALUES["telemetry"],
        **VALUES["additionalInstanceConfig"],
    }


@pytest.mark.slow
def test_dagster_loads_the_values_and_a_night_runs_on_the_charts_storage(
    databases: Databases, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bkt_pipeline.db.database import open_database
    from bkt_pipeline.definitions import build_definitions
    from bkt_pipeline.defs.night import run_night

    enrol(platform, [20])
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    for variable in deployment["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    url = databases.create()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(dagster_yaml(url, kubeconfig)))
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", platform.url)
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, dagster_k8s.K8sRunLauncher)
        tags = settings().shard_tags
        context = launcher.get_container_context_for_run(dg.DagsterRun(job_name="calibration"))
        assert context.run_k8s_config.container_config["resources"] == LAUNCHER["resources"]
        assert context.run_k8s_config.job_spec_config == LAUNCHER["runK8sConfig"]["jobSpecConfig"]
        of_shards = dagster_k8s.job.get_user_defined_k8s_config(tags)
        assert of_shards.container_config["resources"]["requests"] == {"cpu": "2", "memory": "4Gi"}
        with open_database() as database:
            night = run_night(database, build_definitions(), instance, AS_OF, [], with_items=False)
    assert night.result["count"] == 1
    databases.drop(url)


def test_the_secrets_of_the_values_are_those_of_the_page() -> None:
    page = (PROJECT / "deploy/kubernetes/README.md").read_text()
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    for secret in (
        VALUES["global"]["postgresqlSecretName"],
        *(one["name"] for one in deployment["envSecrets"]),
    ):
        assert f"create secret generic {secret} " in page
