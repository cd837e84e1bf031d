"""A distributed run on a real cluster: its workers find one another as PyTorch would have them."""

from __future__ import annotations

import json

import pytest
from platform_on_cluster import Platform

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(1800)]

# What torch.distributed's TCP store does: all connect to rank 0, which answers when all are there.
WORKER = """\
import json, os, socket, time

rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
leader = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
assert os.environ["PET_MASTER_ADDR"] == leader[0]
assert os.environ["PET_NODE_RANK"] == str(rank) and os.environ["PET_NNODES"] == str(world)
if rank == 0:
    server = socket.create_server(("", leader[1]))
    others = [server.accept()[0] for _ in range(world - 1)]
    ranks = sorted(int(other.recv(16)) for other in others)
    for other in others:
        other.sendall(b"go")
    with open(os.environ["MLOPS_OUTPUTS"], "w") as file:
        json.dump({"ranks": [0, *ranks]}, file)
else:
    while True:
        try:
            connection = socket.create_connection(leader, 5)
            break
        except OSError:
            time.sleep(0.2)
    connection.settimeout(None)  # the last worker may come much later
    connection.sendall(str(rank).encode())
    assert connection.recv(16) == b"go"
"""


def test_the_workers_of_a_run_find_one_another(platform: Platform) -> None:
    (platform.folder / "pipelines" / "distributed").mkdir()
    (platform.folder / "pipelines" / "distributed" / "requirements.txt").touch()
    # Any image with Python will do: the program is in the command.
    (image,) = [each["reference"] for each in platform.images() if "-router:" in each["reference"]]
    platform.config["mlops:kubernetes"]["images"] = {"platform-distributed-pipeline": image}
    platform.config["platform:pipelines"]["distributed"] = {
        "source": "pipelines/distributed", "command": ["python", "-c", WORKER], "workers": 3,
    }  # fmt: skip
    try:
        platform.up()
        pods = platform.pods("platform-distributed-pipeline-job")
    finally:
        del platform.config["platform:pipelines"]["distributed"]
        del platform.config["mlops:kubernetes"]["images"]
    told = [
        pod["status"]["containerStatuses"][0]["state"]["terminated"].get("message") for pod in pods
    ]
    assert sorted(filter(None, told)) == [json.dumps({"ranks": [0, 1, 2]})]
    assert len(pods) == 3
