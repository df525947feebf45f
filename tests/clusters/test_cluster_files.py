"""The files that start clusters, checked without one: by Ray's own validation, and for what that does not look at."""

import re
import shutil
import socket
import subprocess
import threading
import time
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount
from ray.scripts.scripts import cli

from raytransfer.config import load_config
from raytransfer.errors import UserError
from raytransfer.experiments import EXPERIMENTS
from raytransfer.experiments.yosinski.config import GridConfig
from tests.helpers import ROOT

AWS = ROOT / "cluster.yaml"
CLUSTERS = [AWS, *sorted((ROOT / "sweeps" / "clusters").glob("on_*.yaml"))]
JOB = ROOT / "sweeps" / "clusters" / "rayjob.yaml"
RAY = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE).group(1)
PYTHON = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["python_version"]
SECRET = r"AKIA[0-9A-Z]{16}|PRIVATE KEY|(?i:secret|password|token|access_key)\w*['\"]?\s*[:=]\s*['\"]?[\w/+-]{16,}"
PROVIDER = {"type", "region", "availability_zone", "cache_stopped_nodes", "security_group", "use_internal_ips"}
MACHINE = {
    "InstanceType",
    "ImageId",
    "IamInstanceProfile",
    "BlockDeviceMappings",
    "InstanceMarketOptions",
    "SecurityGroupIds",
}


def ray_options(command):
    return {option for parameter in cli.commands[command].params for option in parameter.opts}


def cluster_faults(text):
    """What is wrong with a cluster file, as a list of sentences."""
    config = yaml.safe_load(text)
    try:
        validate_config(prepare_config(yaml.safe_load(text)))
    except (jsonschema.ValidationError, ValueError, AssertionError) as error:
        return [f"Ray refuses it: {str(error).splitlines()[0]}"]
    kinds = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    commands = {kind: config.get(f"{kind}_commands", []) for kind in kinds}
    every = [command for kind in kinds for command in commands[kind]]
    head, worker = (" ".join(commands[f"{role}_start_ray"]) for role in ("head", "worker"))
    faults = [f"bash cannot read {command!r}" for command in every if not bash_reads(command)]
    for command, options in ray_calls(every):
        known = ray_options(command) if command in cli.commands else set()
        faults += [f"ray {command} has no {option}" for option in options if option not in known]
        faults += [] if command in cli.commands else [f"ray has no command {command}"]
    mounts = config.get("file_mounts", {})
    faults += [
        f"{path} is not there to mount" for path in mounts.values() if path[0] != "~" and not (ROOT / path).exists()
    ]
    named = re.findall(r"[\w/]+\.(?:txt|toml|py)\b", " ".join(commands["setup"]))
    faults += [f"{name} does not exist" for name in named if not (ROOT / name).exists()]
    pins = re.findall(r"\bray(?:\[\w+\])?(?:==([\d.]+))?'", " ".join(every))
    says = {
        "the head has CPUs to train on": "--num-cpus=0" not in head,
        "the head has GPUs to train on": "--num-gpus=0" not in head,
        "the autoscaler is not told where Ray puts this file": "--autoscaling-config=~/ray_bootstrap_config.yaml"
        not in head,
        "workers look for the head at another port": re.findall(r"--port=(\d+)", head)
        != re.findall(r"RAY_HEAD_IP:(\d+) --", worker),
        "others than the head reach the dashboard": bool(re.search(r"dashboard-host=(?!127\.0\.0\.1)", head)),
        "constraints.txt is not used": "-c constraints.txt -e ." not in " ".join(commands["setup"]),
        f"Ray is not pinned to {RAY}": any(pin != RAY for pin in pins),
        "the token is not asked for": "RAY_AUTH_MODE=token" not in " ".join(commands["setup"]),
        "the token is not handed on": mounts.get("~/.ray/auth_token") != "~/.ray/auth_token",
        "there is something like a secret in it": bool(re.search(SECRET, text)),
        ".git is copied": ".git" not in config.get("rsync_exclude", []),
    }
    faults += [sentence for sentence, wrong in says.items() if wrong]
    return faults + (aws_faults(text, config) if config["provider"]["type"] == "aws" else [])


def bash_reads(command):
    return subprocess.run(["bash", "-n", "-c", command], capture_output=True).returncode == 0


def ray_calls(commands):
    """Ray's commands in lines of shell, each with the options it is given."""
    for line in "\n".join(commands).replace("\\\n", " ").splitlines():
        for command, rest in re.findall(r"(?:^|[\s;(])ray ([a-z][a-z-]*)([^;&|]*)", line):
            yield command, re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)


def aws_faults(text, config):
    provider, types = config["provider"], dict(config["available_node_types"])
    machines = {name: kind["node_config"] for name, kind in types.items()}
    faults = [f"Ray's AWS provider has no {key}" for key in provider.keys() - PROVIDER]
    zones = provider.get("availability_zone", "").split(",")
    faults += [f"zone {zone} is in another region" for zone in zones if zone[:-1] != provider["region"]]
    faults += [f"{name} is no node type" for name in set(re.findall(r"\bgpu_\w+", text)) - types.keys()]
    for name, machine in machines.items():
        faults += [f"{name}: {key} is no setting of a machine" for key in machine.keys() - MACHINE]
        if not re.fullmatch(r"[a-z]+\d[a-z]*\.(\d*x)?(large|metal)", machine["InstanceType"]):
            faults.append(f"{name}: {machine['InstanceType']} is no instance type")
        if bool(re.match(r"[gp]\d", machine["InstanceType"])) != (types[name]["resources"].get("GPU", 0) > 0):
            faults.append(f"{name}: {machine['InstanceType']} and its GPU resources disagree")
        if not re.fullmatch(r"ami-[0-9a-f]{17}|resolve:ssm:/aws/service/[\w./-]+/ami-id", machine["ImageId"]):
            faults.append(f"{name}: {machine['ImageId']} is no image")
        if machine["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] < 100:
            faults.append(f"{name}: the disk is too small for the image, torch and data")
        if not re.search(rf"^#     {machine['IamInstanceProfile']['Name']} ", text, re.MULTILINE):
            faults.append(f"{name}: no word on the rights of {machine['IamInstanceProfile']['Name']}")
    head = types.pop(config["head_node_type"])
    spot = {name for name in machines if machines[name].get("InstanceMarketOptions") == {"MarketType": "spot"}}
    least, most = ([kind.get(f"{end}_workers", 0) for kind in types.values()] for end in ("min", "max"))
    says = {
        "the head has CPUs to train on": head["resources"] != {"CPU": 0},
        "the head is a spot machine": config["head_node_type"] in spot,
        "no worker is a spot machine": not spot & types.keys(),
        "spot machines do not come first": max(types, key=lambda name: types[name].get("priority", 0)) not in spot,
        "a worker has no CPUs": not all(kind["resources"].get("CPU") for kind in types.values()),
        "fewer machines at most than at least": not all(low <= high for low, high in zip(least, most, strict=True)),
        "machines stay when nothing runs": bool(sum(least)) or not config.get("idle_timeout_minutes"),
        "more ports are open than ssh": bool(provider.get("security_group", {}).get("IpPermissions")),
        f"Python is not {PYTHON}": f"--python {PYTHON} " not in " ".join(config["setup_commands"]),
        "Ray's dashboard and boto3 are not installed": not re.search(r"ray\[default\]==.*boto3>=", text, re.DOTALL),
        "nothing watches for AWS to take a machine back": "spot/instance-action"
        not in config["worker_start_ray_commands"][-1],
    }
    return faults + [sentence for sentence, wrong in says.items() if wrong]


def job_faults(text):
    """What is wrong with a manifest of a RayJob and its service account, as a list of sentences."""
    account, job = yaml.safe_load_all(text)
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    pods = [group["template"]["spec"] for group in (head, *workers)]
    containers = [pod["containers"][0] for pod in pods]
    _, script, *overrides = spec["entrypoint"].split()
    faults = [] if (ROOT / script).exists() else [f"{script} does not exist"]
    try:
        load_config(GridConfig, EXPERIMENTS["yosinski"].defaults, overrides)
    except UserError as error:
        faults.append(str(error))
    for group in (head, *workers):
        parameters = group["rayStartParams"]
        faults += [f"ray start has no --{name}" for name in parameters if f"--{name}" not in ray_options("start")]
        faults += [f"{name} is no string" for name, value in parameters.items() if not isinstance(value, str)]
    for worker, pod in zip(workers, pods[1:], strict=True):
        asked, environment = pod["containers"][0]["resources"], pod["containers"][0]["env"]
        (drain,) = [float(entry["value"]) for entry in environment if "DRAIN_TIMEOUT" in entry["name"]]
        if asked["requests"] != asked["limits"] or int(asked["limits"].get("nvidia.com/gpu", 0)) < 1:
            faults.append("a worker has no GPU to itself")
        if not 0 <= worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]:
            faults.append("fewer workers at most than at least")
        if not 0 < drain < pod["terminationGracePeriodSeconds"]:
            faults.append("a pod is killed before Ray has drained it")
    says = {
        "it is no RayJob": (job["apiVersion"], job["kind"]) != ("ray.io/v1", "RayJob"),
        f"Ray is not pinned to {RAY}": {cluster["rayVersion"], *re.findall(r"ray\[default\]==([\d.]+)", text)} != {RAY},
        "Ray's image has another Ray or Python": f" rayproject/ray:{RAY}-py{PYTHON.replace('.', '')}-" not in text,
        "constraints.txt is not used": "-c constraints.txt -e ." not in text,
        "images differ, or are not pinned": len({container["image"] for container in containers}) > 1
        or not all(re.search(r":\d", container["image"]) for container in containers),
        "the head has CPUs to train on": head["rayStartParams"].get("num-cpus") != "0",
        "the cluster does not grow": cluster.get("enableInTreeAutoscaling") is not True,
        "the cluster stays": not (spec.get("shutdownAfterJobFinishes") is True and spec.get("ttlSecondsAfterFinished")),
        "the token is not asked for": cluster.get("authOptions") != {"mode": "token"},
        "a pod has another service account": any(
            pod["serviceAccountName"] != account["metadata"]["name"] for pod in pods
        ),
        "results stay in a pod": not any(override.startswith("out=s3://") for override in overrides),
        "there is something like a secret in it": bool(re.search(SECRET, text)),
    }
    return faults + [sentence for sentence, wrong in says.items() if wrong]


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)
def test_cluster_files_are_sound(path, monkeypatch):
    def refuse(*_):
        raise AssertionError("looked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert cluster_faults(path.read_text()) == []


def test_the_manifest_is_sound():
    assert job_faults(JOB.read_text()) == []


BROKEN_CLUSTERS = [
    ("idle_timeout_minutes", "idle_timeout_minute", "Ray refuses it: Additional properties"),
    ("head_node_type: head", "head_node_type: heads", "Ray refuses it: `head_node_type` must be one of"),
    ('resources: {"CPU": 8', 'resource: {"CPU": 8', "Ray refuses it"),
    ("availability_zone:", "availability_zones:", "Ray's AWS provider has no availability_zones"),
    ("us-west-2c", "us-east-1c", "zone us-east-1c is in another region"),
    ("  gpu_spot:", "  spot:", "gpu_spot is no node type"),
    ("InstanceMarketOptions:", "InstanceMarketOption:", "gpu_spot: InstanceMarketOption is no setting of a machine"),
    ("g6.2xlarge", "g6-2xlarge", "gpu_spot: g6-2xlarge is no instance type"),
    ("g5.2xlarge", "m5.2xlarge", "gpu_on_demand: m5.2xlarge and its GPU resources disagree"),
    ("m6i.xlarge", "g6.xlarge", "head: g6.xlarge and its GPU resources disagree"),
    (', "GPU": 1}', "}", "gpu_spot: g6.2xlarge and its GPU resources disagree"),
    ('{"CPU": 8, ', "{", "a worker has no CPUs"),
    ("  resolve:ssm:/aws", "  ssm:/aws", "gpu_spot: ssm:/aws"),
    ("VolumeSize: 150", "VolumeSize: 30", "head: the disk is too small"),
    ("{Name: raytransfer-head}", "{Name: ray-head}", "head: no word on the rights of ray-head"),
    ('resources: {"CPU": 0}', 'resources: {"CPU": 4}', "the head has CPUs to train on"),
    ("--num-cpus=0 ", "", "the head has CPUs to train on"),
    ("--num-gpus=0 ", "", "the head has GPUs to train on"),
    ("'boto3>=", "'boto>=", "Ray's dashboard and boto3 are not installed"),
    ("m6i.xlarge", "m6i.xlarge\n      InstanceMarketOptions: {MarketType: spot}", "the head is a spot machine"),
    ("{MarketType: spot}", "{}", "no worker is a spot machine"),
    ("priority: 1 ", "priority: -1 ", "spot machines do not come first"),
    ("min_workers: 0", "min_workers: 5", "Ray refuses it: The specified global `max_workers`"),
    (
        "min_workers: 0\n    max_workers: 4",
        "min_workers: 2\n    max_workers: 1",
        "fewer machines at most than at least",
    ),
    ("min_workers: 0", "min_workers: 1", "machines stay when nothing runs"),
    ("GroupName: raytransfer", "IpPermissions: [{FromPort: 8265, ToPort: 8265}]", "more ports are open than ssh"),
    ("--python 3.11", "--python 3.13", "Python is not 3.11"),
    ("'ray[default]==", "'ray[default]==1.", "Ray is not pinned to"),
    (f"'ray[default]=={RAY}'", "'ray[default]'", "Ray is not pinned to"),
    ("-c constraints.txt", "-c constraint.txt", "constraint.txt does not exist"),
    ("~/raytransfer: .", "~/raytransfer: ../no-such-folder", "../no-such-folder is not there to mount"),
    ("~/.ray/auth_token: ~", "~/.ray/token: ~", "the token is not handed on"),
    ("RAY_AUTH_MODE=token ", "", "the token is not asked for"),
    ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "others than the head reach the dashboard"),
    ("--dashboard-host", "--dashboard-hosts", "ray start has no --dashboard-hosts"),
    ("--deadline-remaining-seconds", "--deadline", "ray drain-node has no --deadline"),
    ("ray drain-node", "ray drain-nodes", "ray has no command drain-nodes"),
    ("bootstrap_config", "config", "the autoscaler is not told where Ray puts this file"),
    ("--port=6379", "--port=6380", "workers look for the head at another port"),
    ("spot/instance-action", "instance-action", "nothing watches for AWS to take a machine back"),
    ("      done'", "      done", "bash cannot read"),
    ("[.git, ", "[", ".git is copied"),
    ("ssh_user: ubuntu", "ssh_user: AKIAIOSFODNN7EXAMPLE", "there is something like a secret in it"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN_CLUSTERS)
def test_a_broken_cluster_file_is_found_out(old, new, message):
    text = AWS.read_text()
    start = text.index("\ncluster_name:")  # the comment before it stays as it is
    assert old in text[start:]
    faults = cluster_faults(text[:start] + text[start:].replace(old, new, 1))
    assert any(fault.startswith(message) for fault in faults), faults


BROKEN_JOBS = [
    ("ray.io/v1\n", "ray.io/v1alpha1\n", "it is no RayJob"),
    ("yosinski_grid.py", "yosinski.py", "sweeps/yosinski.py does not exist"),
    ("gpus_per_trial=", "gpus=", "gpus in the command line is no option"),
    ("out=s3://my-bucket/cifar10", "out=results", "results stay in a pod"),
    (f'rayVersion: "{RAY}"', 'rayVersion: "2.9.0"', "Ray is not pinned to"),
    (f"rayproject/ray:{RAY}-py311", f"rayproject/ray:{RAY}-py39", "Ray's image has another Ray or Python"),
    ("-c constraints.txt ", "", "constraints.txt is not used"),
    ("image: registry.example/raytransfer:0.1.0", "image: raytransfer:latest", "images differ, or are not pinned"),
    ('num-cpus: "0"', "num-cpus: 0", "num-cpus is no string"),
    ('num-cpus: "0"', 'num-cpu: "0"', "ray start has no --num-cpu"),
    ('num-cpus: "0"', 'num-cpus: "2"', "the head has CPUs to train on"),
    ("enableInTreeAutoscaling: true", "enableInTreeAutoscaling: false", "the cluster does not grow"),
    ("shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false", "the cluster stays"),
    ("      mode: token", "      mode: disabled", "the token is not asked for"),
    ("serviceAccountName: raytransfer", "serviceAccountName: default", "a pod has another service account"),
    (', nvidia.com/gpu: "1"}', "}", "a worker has no GPU to itself"),
    ("minReplicas: 0", "minReplicas: 5", "fewer workers at most than at least"),
    ("GracePeriodSeconds: 120", "GracePeriodSeconds: 30", "a pod is killed before Ray has drained it"),
    ('value: "100"}', 'value: "100"}  # AKIAIOSFODNN7EXAMPLE', "there is something like a secret in it"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN_JOBS)
def test_a_broken_manifest_is_found_out(old, new, message):
    text = JOB.read_text()
    assert old in text
    faults = job_faults(text.replace(old, new, 1))
    assert any(fault.startswith(message) for fault in faults), faults


@pytest.mark.parametrize(("spot", "expected"), [(4, {"gpu_spot": 4}), (0, {"gpu_on_demand": 4})])
def test_trials_get_spot_machines_or_others_where_there_may_be_none(spot, expected):
    config = prepare_config(yaml.safe_load(AWS.read_text()))
    types = config["available_node_types"]
    types["gpu_spot"]["max_workers"] = spot
    kinds = {
        name: NodeTypeConfig(
            name=name,
            min_worker_nodes=kind["min_workers"],
            max_worker_nodes=kind["max_workers"],
            resources=kind["resources"],
            priority=kind.get("priority", 0),
        )
        for name, kind in types.items()
    }
    trial = ResourceRequestUtil.make({"GPU": 0.25})
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=kinds,
        max_num_nodes=config["max_workers"],
        resource_requests=[ResourceRequestByCount(request=trial, count=100)],
    )
    reply = ResourceDemandScheduler(event_logger=None).schedule(request)
    assert {launch.instance_type: launch.count for launch in reply.to_launch} == expected


class Metadata(BaseHTTPRequestHandler):
    """AWS's service that tells a machine about itself; ``notice`` on the server: whether AWS takes the machine back."""

    def do_PUT(self):
        assert self.path == "/latest/api/token"
        self._reply(200 if "X-aws-ec2-metadata-token-ttl-seconds" in self.headers else 400, "its-token")

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["X-aws-ec2-metadata-token"]))
        self._reply(200 if self.server.notice else 404, '{"action": "terminate"}')

    def _reply(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    server.notice, server.asked = False, []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def wait_until(holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(not all(map(shutil.which, ("curl", "flock", "setsid"))), reason="needs curl, flock and setsid")
def test_a_spot_machine_is_drained_once_when_aws_says_it_takes_it_back(metadata, tmp_path):
    watch = yaml.safe_load(AWS.read_text())["worker_start_ray_commands"][-1]
    for old, new in {
        "http://169.254.169.254": f"http://127.0.0.1:{metadata.server_port}",
        "sleep 5": "sleep 0.05",
        "/tmp/spot_watch": f"{tmp_path}/spot_watch",
        "setsid ": "setsid timeout 30 ",
    }.items():
        assert old in watch
        watch = watch.replace(old, new)
    ray = tmp_path / "ray"
    ray.write_text(f'#!/bin/sh\necho "$RAY_ADDRESS $@" >> {tmp_path}/drained\n')
    ray.chmod(0o700)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "RAY_HEAD_IP": "10.0.0.1"}
    for _ in range(2):  # ray up -y starts it again where it still runs
        subprocess.run(["bash", "-c", watch], env=environment, check=True, timeout=10)
    wait_until(lambda: len(metadata.asked) >= 3)
    assert set(metadata.asked) == {("/latest/meta-data/spot/instance-action", "its-token")}
    assert not (tmp_path / "drained").exists()
    metadata.notice = True
    wait_until((tmp_path / "drained").exists)
    count = len(metadata.asked)
    time.sleep(0.3)
    assert len(metadata.asked) == count
    (drained,) = (tmp_path / "drained").read_text().splitlines()
    assert drained.startswith("10.0.0.1:6379 drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message ")
    assert drained.endswith(" --deadline-remaining-seconds 100")
