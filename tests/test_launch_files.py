"""Tests of the files in flags/: presets, the Kubernetes manifest and the Slurm script."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from absl import flags

from tests.conftest import ROOT
from trainer import config_flags
from trainer.config import TrainConfig
from trainer.training import distribution

FOLDER = ROOT / "flags"


def parse(arguments: list[str]) -> TrainConfig:
    """Parses arguments as trainer.main does."""
    values = flags.FlagValues()
    config_flags.define_flags(values=values)
    flags.DEFINE_string("flagfile", "", "Read by absl.", flag_values=values)
    values(["trainer.main", *arguments])
    return config_flags.parse_flags(values)


@pytest.fixture
def manifest() -> dict[str, dict]:
    """The objects of the manifest by kind."""
    objects = list(yaml.safe_load_all((FOLDER / "multi_worker.yaml").read_text(encoding="utf-8")))
    assert [entry["apiVersion"] for entry in objects] == ["v1", "batch/v1"]
    return {entry["kind"]: entry for entry in objects}


def test_presets_hold_flags_that_exist_and_can_be_combined():
    presets = list(FOLDER.glob("*.flags"))
    assert presets
    for path in presets:
        parse([f"--flagfile={path}", "--workdir=run"])


def test_objects_of_the_manifest_refer_to_each_other(manifest):
    service = manifest["Service"]
    job = manifest["Job"]
    pod = job["spec"]["template"]
    # The service finds the pods by their labels.
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["clusterIP"] in ("None", None)
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert pod["spec"]["restartPolicy"] == "OnFailure"
    assert job["spec"]["completionMode"] == "Indexed"
    [container] = pod["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == service["spec"]["ports"][0]["port"] == 2222
    # Every mount has a volume, and every volume is mounted.
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["spec"]["volumes"]}


def test_manifest_writes_to_the_mounted_volume(manifest):
    [container] = manifest["Job"]["spec"]["template"]["spec"]["containers"]
    mount_path = container["volumeMounts"][0]["mountPath"]
    # The test may run in another folder than the job.
    arguments = [argument.replace("flags/", f"{FOLDER}/") for argument in container["args"]]
    config = parse(arguments)
    assert config.strategy == "multi_worker"
    assert config.workdir.startswith(mount_path)
    assert config.data_dir.startswith(mount_path)


@pytest.mark.parametrize("index", [0, 1])
def test_workers_of_the_manifest_are_the_pods_of_the_job(manifest, index):
    job = manifest["Job"]
    pod = job["spec"]["template"]["spec"]
    environment = pod["containers"][0]["env"]
    values = {variable["name"]: variable.get("value") for variable in environment}
    cluster = values["TF_CONFIG"].replace("$(INDEX)", str(index))  # as Kubernetes does
    distribution._check_cluster(cluster)
    count = job["spec"]["completions"]
    name = job["metadata"]["name"]
    # An indexed job names its pods NAME-INDEX; the subdomain makes them resolvable.
    hosts = [f"{name}-{number}.{pod['subdomain']}:2222" for number in range(count)]
    assert json.loads(cluster)["cluster"]["worker"] == hosts
    assert job["spec"]["parallelism"] == count


@pytest.mark.skipif(sys.platform == "win32", reason="no bash")
def test_slurm_script_gives_each_node_its_index(tmp_path):
    # The script runs with these in place of Slurm's commands and of Python.
    stubs = {
        "scontrol": 'printf "node1\\nnode2\\n"',
        "srun": 'shift; for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@"; done',
        "python": 'echo "$TF_CONFIG"; echo "$@"',
    }
    for name, body in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    result = subprocess.run(
        ["bash", FOLDER / "multi_worker.slurm", "--workdir=/shared/my run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_JOB_ID": "1",
        },
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 4  # two for each node: TF_CONFIG and the command
    for index, cluster in enumerate(lines[::2]):
        distribution._check_cluster(cluster)
        assert json.loads(cluster) == {
            "cluster": {"worker": ["node1:2222", "node2:2222"]},
            "task": {"type": "worker", "index": index},
        }
    command = "-m trainer.main --flagfile=flags/multi_worker.flags --workdir=/shared/my run"
    assert lines[1::2] == [command, command]
