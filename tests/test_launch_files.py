"""The ways to start several workers that come with the checkout: they name one another rightly, and only flags that exist."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from tests.conftest import ROOT
from trainer.config import TrainConfig
from trainer.training import distribution

FLAGS = ROOT / "flags"


def parsed(arguments: list[str]) -> TrainConfig:
    from absl import flags

    from trainer import config_flags

    values = flags.FlagValues()
    config_flags.define(values=values)
    flags.DEFINE_string("flagfile", "", "Read by absl.", flag_values=values)
    values(["trainer.main", *arguments])
    return config_flags.parsed(values)


@pytest.fixture
def manifest() -> dict[str, dict]:
    """The objects of the manifest by kind; labels, names and kinds are looked at by whoever asks."""
    found = list(yaml.safe_load_all((FLAGS / "multi_worker.yaml").read_text()))
    assert [part["apiVersion"] for part in found] == ["v1", "batch/v1"]
    return {part["kind"]: part for part in found}


def test_every_preset_holds_flags_that_exist_and_can_be_given_together():
    for path in FLAGS.glob("*.flags"):
        parsed([f"--flagfile={path}", "--workdir=run"])


def test_the_manifest_s_parts_find_one_another(manifest):
    service, job = manifest["Service"], manifest["Job"]
    pod = job["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert service["spec"]["clusterIP"] == "None" or service["spec"]["clusterIP"] is None
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    [container] = pod["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == service["spec"]["ports"][0]["port"] == 2222
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["spec"]["volumes"]
    }
    assert (
        pod["spec"]["restartPolicy"] == "OnFailure" and job["spec"]["completionMode"] == "Indexed"
    )
    mounted = container["volumeMounts"][0]["mountPath"]
    config = parsed([argument.replace("flags/", f"{FLAGS}/") for argument in container["args"]])
    assert (
        config.strategy == "multi_worker"
        and config.workdir.startswith(mounted)
        and config.data_dir.startswith(mounted)
    )


@pytest.mark.parametrize("index", [0, 1])
def test_the_manifest_s_workers_are_the_pods_of_the_job(manifest, index):
    job, pod = manifest["Job"], manifest["Job"]["spec"]["template"]["spec"]
    values = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
    cluster = values["TF_CONFIG"].replace("$(INDEX)", str(index))  # As Kubernetes fills it in.
    distribution._check_cluster(cluster)
    pods = [
        f"{job['metadata']['name']}-{number}.{pod['subdomain']}:2222"
        for number in range(job["spec"]["completions"])
    ]
    assert json.loads(cluster)["cluster"]["worker"] == pods and job["spec"]["parallelism"] == len(
        pods
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no bash")
def test_the_slurm_script_gives_each_node_its_place(tmp_path):
    stubs = {
        "scontrol": 'printf "node1\\nnode2\\n"',
        "srun": 'shift; for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@"; done',
        "python": 'echo "$TF_CONFIG"; echo "$@"',
    }
    for name, body in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", FLAGS / "multi_worker.slurm", "--workdir=/shared/my run"],
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
    lines = done.stdout.splitlines()
    for index, (cluster, command) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
        distribution._check_cluster(cluster)
        assert json.loads(cluster) == {
            "cluster": {"worker": ["node1:2222", "node2:2222"]},
            "task": {"type": "worker", "index": index},
        }
        assert (
            command
            == "-m trainer.main --flagfile=flags/multi_worker.flags --workdir=/shared/my run"
        )
    assert len(lines) == 4
