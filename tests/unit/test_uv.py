"""Finding uv from many threads at once."""

import subprocess
import sys

PROGRAM = """
import sys, threading
sys.setswitchinterval(1e-6)
from pulumi_mlops.targets.local.host.uv import uv_bin
found = []
threads = [threading.Thread(target=lambda: found.append(uv_bin())) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), len(set(found)))
"""


def test_threads_that_ask_first_at_once():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert (done.stdout.split(), done.stderr) == (["8", "1"], "")
