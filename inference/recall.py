"""`python -m inference.recall`: what a pod does before it is told to go, so that its gang may finish its request.

Kubernetes runs it as `preStop`, beside the ranks, and sends SIGTERM when it ends. It tells the service, which gives the
gang no new work, and stays while there is work under way. Once that is done the ranks end by themselves, the container
with them, and this as well. Does not import torch, and never fails: a pod that cannot ask goes at once.
"""

import argparse
import os
import sys
import time

from inference.contact import Contact
from inference.environment import ConfigurationError, api_urls, gang_id, gang_token, node_name, scratch_folder
from inference.service import Answered, Service, Unreachable

ASK_EVERY_S = 2.0
GIVE_UP_S = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask for no new work, and stay until what is under way is done.")
    parser.add_argument("--seconds", type=float, required=True, help="stay no longer than this")
    stay_until_done(parser.parse_args().seconds)
    return 0


def stay_until_done(seconds: float) -> None:
    """Returns after `seconds` at the latest, when nothing is under way, or when nobody answers."""
    until = time.monotonic() + seconds
    node = node_name(os.environ)
    try:
        service = Service(
            api_urls(os.environ),
            gang_id(os.environ),
            gang_token(os.environ),
            Contact.of_node(scratch_folder(os.environ), node),
        )
        while service.recall(node, give_up_s=GIVE_UP_S) and time.monotonic() < until:
            time.sleep(min(ASK_EVERY_S, max(0.0, until - time.monotonic())))
    except (Answered, Unreachable, ConfigurationError) as why:
        print(f"muster: goes at once: {why}", file=sys.stderr, flush=True)  # noqa: T201 (the pod's events)


if __name__ == "__main__":
    sys.exit(main())
