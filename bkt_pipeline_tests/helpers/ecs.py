"""An AWS account in a moto server, set up as in deploy/aws/README.md, and a substitute for ECS's machines.

moto stores tasks but does not run them. Here each task's command runs as a local process with the environment
and the secrets from its task definition, as on ECS. The endpoint with a task's metadata is local too.
"""

import base64
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import requests

from bkt_pipeline_tests.conftest import PROJECT, REGION

AWS = PROJECT / "deploy/aws"
ACCOUNT = "123456789012"
CLUSTER = "bkt"
CODE_PORT = "4000"
PARTS = ("run", "code", "daemon", "webserver")
ROLES = ("execution", "run", "daemon", "webserver")  # the code location asks AWS for nothing
# Variables that AWS sets for a container's role, and those that a local process needs to find programs.
KEPT = ("HOME", "LANG", "PYTHONPATH", "AWS_ENDPOINT_URL")


def key_of(part: str) -> str:
    """The access key in a part's requests, which identifies the part."""
    return f"AKIA{part.upper():0<16}"


def client(service: str) -> Any:
    """A client of the account's administrator; each part has its own key."""
    return boto3.Session(aws_access_key_id=key_of("owner"), aws_secret_access_key="hers").client(service)


def rendered(path: str, **values: str) -> Any:
    return json.loads(Template((AWS / path).read_text()).substitute(values))


def image_command(target: str) -> list[str]:
    """The command of a container of the Dockerfile's target."""
    of_target = (PROJECT / "deploy/Dockerfile").read_text().split(f" AS {target}\n")[1].split("\nFROM ")[0]
    found = re.search(r"^CMD (\[.*\])$", of_target, re.MULTILINE)
    assert found is not None, target
    return list(json.loads(found[1]))


@dataclass
class Account:
    """The account: its values, the policies of its roles, its network, and the running tasks of its cluster."""

    folder: Path
    values: dict[str, str]
    policies: dict[str, Any]
    subnet: str
    group: str
    metadata_url: str
    code_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def set_up(
        cls, folder: Path, metadata_url: str, bucket: str, database_url: str, dagster_url: str
    ) -> "Account":
        """Create what the README lists: secrets, roles, cluster, log group, task definitions; and the image's /opt/dagster."""
        code_port = free_port()
        config = (AWS / "dagster.yaml").read_text()
        # A container has its own /tmp; here other tests on the machine may use the same one.
        (folder / "dagster.yaml").write_text(
            config.replace("/tmp/compute_logs", str(folder / "compute_logs"))
        )
        workspace = (AWS / "workspace.yaml").read_text()
        (folder / "workspace.yaml").write_text(workspace.replace(CODE_PORT, str(code_port)))
        secrets = client("secretsmanager")
        values = {
            "AWS_ACCOUNT": ACCOUNT,
            "AWS_REGION": REGION,
            "BUCKET": bucket,
            "REPOSITORY": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/bkt-pipeline",
            "VERSION": "1",
            "DATABASE_SECRET": secrets.create_secret(
                Name=f"{bucket}/database-url", SecretString=database_url
            )["ARN"],
            "DAGSTER_SECRET": secrets.create_secret(Name=f"{bucket}/dagster-url", SecretString=dagster_url)[
                "ARN"
            ],
        }
        iam = client("iam")
        policies = {}
        for part in ROLES:
            trust, policy = rendered("iam/trust.json", **values), rendered(f"iam/{part}.json", **values)
            iam.create_role(RoleName=f"bkt-{part}", AssumeRolePolicyDocument=json.dumps(trust))
            iam.put_role_policy(RoleName=f"bkt-{part}", PolicyName="bkt", PolicyDocument=json.dumps(policy))
            policies[part] = policy["Statement"]
        ecs, ec2 = client("ecs"), client("ec2")
        ecs.create_cluster(clusterName=CLUSTER)
        client("logs").create_log_group(logGroupName="bkt")
        for part in PARTS:
            definition = rendered(f"task-definitions/{part}.json", **values)
            # moto sums the containers' reservations, and fails on a container without any.
            definition["containerDefinitions"][0]["memoryReservation"] = 512
            ecs.register_task_definition(**definition)
        (subnet, *_) = ec2.describe_subnets()["Subnets"]
        group = ec2.create_security_group(
            GroupName="bkt-tasks", Description="tasks of bkt", VpcId=subnet["VpcId"]
        )["GroupId"]
        return cls(folder, values, policies, subnet["SubnetId"], group, metadata_url, code_port)

    def code_command(self) -> list[str]:
        """The code location's command, with a port that is free on this machine."""
        return [word.replace(CODE_PORT, str(self.code_port)) for word in image_command("code")]

    def code_answers(self) -> bool:
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", self.code_port)) == 0

    def task(self, task_arn: str) -> Any:
        """ECS's description of a task."""
        (task,) = client("ecs").describe_tasks(cluster=CLUSTER, tasks=[task_arn], include=["TAGS"])["tasks"]
        return task

    def run_task(self, part: str, *command: str, **environment: str) -> str:
        """Request a task from ECS like a service or a user; returns its ARN."""
        (task,) = client("ecs").run_task(
            cluster=CLUSTER,
            taskDefinition=f"bkt-{part}",
            launchType="FARGATE",
            networkConfiguration={
                "awsvpcConfiguration": {"subnets": [self.subnet], "securityGroups": [self.group]}
            },
            overrides={
                "containerOverrides": [
                    {
                        "name": part,
                        "command": list(command),
                        "environment": [
                            {"name": name, "value": value} for name, value in environment.items()
                        ],
                    }
                ]
            },
        )["tasks"]
        return str(task["taskArn"])

    def start(self, task_arn: str) -> None:
        """Do what ECS does with a task: fetch its secrets, run its command in its environment."""
        task = self.task(task_arn)
        part = task["taskDefinitionArn"].rpartition("/")[2].partition(":")[0].removeprefix("bkt-")
        (override,) = task["overrides"]["containerOverrides"]
        assert override["name"] == part
        environment = {
            **self.environment_of(part),
            **{pair["name"]: pair["value"] for pair in override.get("environment", [])},
            "ECS_CONTAINER_METADATA_URI_V4": f"{self.metadata_url}/{part}/{task_arn}",
        }
        command = override.get("command") or image_command(part)
        with (self.folder / f"{part}.log").open("ab") as log:
            log.write(f"+ {shlex.join(command)[:200]}\n".encode())
            self.processes[task_arn] = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def environment_of(self, part: str) -> dict[str, str]:
        """A part's environment, from its task definition, secrets, role and image."""
        definition = client("ecs").describe_task_definition(taskDefinition=f"bkt-{part}")["taskDefinition"]
        (container,) = definition["containerDefinitions"]
        fetch = client("secretsmanager").get_secret_value
        return {
            **{name: os.environ[name] for name in KEPT if name in os.environ},
            **{pair["name"]: pair["value"] for pair in container["environment"]},
            **{
                secret["name"]: fetch(SecretId=secret["valueFrom"])["SecretString"]
                for secret in container["secrets"]
            },
            # On AWS, Cloud Map resolves the name.
            "BKT_CODE_HOST": "127.0.0.1",
            "AWS_ACCESS_KEY_ID": key_of(part),
            "AWS_SECRET_ACCESS_KEY": "of its role",
            "DAGSTER_HOME": str(self.folder),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }

    def start_what_is_asked_for(self) -> None:
        """Start the tasks that were requested from ECS, and report those that have ended."""
        ecs = client("ecs")
        for task_arn in ecs.list_tasks(cluster=CLUSTER)["taskArns"]:
            if task_arn not in self.processes:
                self.start(task_arn)
            elif self.processes[task_arn].poll() is not None:
                ecs.stop_task(cluster=CLUSTER, task=task_arn, reason="Essential container in task exited")

    def logs_of(self, run_id: str) -> list[str]:
        """The keys of the run's logs in S3."""
        found = client("s3").list_objects_v2(Bucket=self.values["BUCKET"], Prefix=f"logs/storage/{run_id}/")
        return [item["Key"] for item in found.get("Contents", [])]

    def stop_all(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def output(self) -> str:
        """The ends of the containers' logs."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log"))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def metadata_endpoint() -> Iterator[str]:
    """Serve a container its name and its task, like ECS; both are in the URL that the container gets."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, part, task_arn = self.path.removesuffix("/task").split("/", 2)
            cluster = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{CLUSTER}"
            metadata = (
                {"Cluster": cluster, "TaskARN": task_arn} if self.path.endswith("/task") else {"Name": part}
            )
            body = json.dumps(metadata).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


# --------------------------------------------------------------------------------------------------------
# Requests to AWS

S3_ACTIONS = {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "DELETE": "DeleteObject"}


@contextmanager
def recording(url: str) -> Iterator[list[tuple[str, str, str]]]:
    """The requests to AWS in the meantime as (part, action, resource), as IAM would see them."""
    asked: list[tuple[str, str, str]] = []
    requests.post(f"{url}/moto-api/recorder/reset-recording", timeout=10)
    requests.post(f"{url}/moto-api/recorder/start-recording", timeout=10)
    try:
        yield asked
    finally:
        requests.post(f"{url}/moto-api/recorder/stop-recording", timeout=10)
    lines = requests.get(f"{url}/moto-api/recorder/download-recording", timeout=10).text.splitlines()
    owners = {key_of(part): part for part in PARTS}
    for entry in map(json.loads, lines):
        found = re.search(r"Credential=(\w+)/\d+/[\w-]+/(\w+)/", entry["headers"].get("Authorization", ""))
        if found and found[1] in owners:
            asked.append((owners[found[1]], *_as_iam_sees_it(found[2], entry)))


def _as_iam_sees_it(service: str, entry: dict[str, Any]) -> tuple[str, str]:
    target = entry["headers"].get("X-Amz-Target", "")
    body = (
        base64.b64decode(entry["body"]).decode(errors="replace") if entry["body_encoded"] else entry["body"]
    )
    if service == "s3":
        bucket, _, key = urlsplit(entry["url"]).path.removeprefix("/").partition("/")
        action = S3_ACTIONS[entry["method"]] if key else "ListBucket"
        return f"s3:{action}", f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")
    if service == "ec2":
        return f"ec2:{parse_qs(body)['Action'][0]}", "*"
    request, action = json.loads(body or "{}"), target.rpartition(".")[2]
    if action == "RunTask":
        definition = request["taskDefinition"]
        return "ecs:RunTask", definition
    if action in ("DescribeTasks", "StopTask"):
        return f"{service}:{action}", request.get("task") or request["tasks"][0]
    return f"{service}:{action}", "*"


def allows(statements: list[Any], action: str, resource: str) -> bool:
    """Whether a policy allows the action; conditions count as met."""
    return any(
        any(fnmatchcase(action, pattern) for pattern in as_list(statement["Action"]))
        and any(fnmatchcase(resource, pattern) for pattern in as_list(statement["Resource"]))
        for statement in statements
    )


def as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
