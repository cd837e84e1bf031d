"""The first process of a route's pod: `python -m pulumi_mlops.runtime.router`.

Starts HAProxy and its agent and keeps both running. Configured by HOST, PORT, PORT_METRICS,
PORT_STATE, RUNTIME_DIR, NAMESPACE, MLOPS_ENDPOINT and MLOPS_TABLE, the ConfigMap with the traffic
table.
"""

from __future__ import annotations

import os
import sys

from .pod import Pod

if __name__ == "__main__":
    sys.exit(Pod(os.environ).run())
