"""Ray Serve in front of four actors in a gloo group that do one all-reduce per request: the same work as `echo`.

Plain actors with torch.distributed, one Serve deployment as the HTTP door, one replica. No dashboard.
Argument: the number of ranks.
"""

import asyncio
import json
import logging
import os
import socket
import sys
import tempfile

import ray
import torch
import torch.distributed as dist
from ray import serve
from starlette.requests import Request

HIDDEN = {"RAY_DEDUP_LOGS": "0", "RAY_SERVE_LOG_TO_STDERR": "0", "OMP_NUM_THREADS": "1", "RAY_usage_stats_enabled": "0"}


@ray.remote(num_cpus=0)
class Rank:
    def __init__(self, rank: int, world: int, port: int) -> None:
        os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)

    def ready(self) -> bool:
        return True

    def run(self, text: str) -> dict[str, object]:
        total = torch.ones(1)
        dist.all_reduce(total)
        return {"text": text, "sum": int(total)}


@serve.deployment(num_replicas=1, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0})
class Door:
    def __init__(self, world: int, port: int) -> None:
        self.ranks = [Rank.remote(rank, world, port) for rank in range(world)]
        ray.get([rank.ready.remote() for rank in self.ranks])

    async def __call__(self, request: Request) -> dict[str, object]:
        body = await request.json()
        answers = await asyncio.gather(*[rank.run.remote(body["text"]) for rank in self.ranks])
        return answers[0]


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def main() -> None:
    world = int(sys.argv[1])
    os.environ |= HIDDEN
    said = os.dup(1)
    os.dup2(2, 1)  # Ray talks on standard output
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        ray.init(
            num_cpus=4,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            _temp_dir=folder,
            object_store_memory=100 << 20,
        )
        port = _free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(Door.bind(world, _free_port()), route_prefix="/")
        os.write(said, (json.dumps({"url": f"http://127.0.0.1:{port}", "ray": ray.__version__}) + "\n").encode())
        sys.stdin.read()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
