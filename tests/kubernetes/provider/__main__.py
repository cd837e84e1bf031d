"""`pulumi-resource-kubernetes`, the stand-in: Python runs this folder as a program."""

from __future__ import annotations

import sys

from standin.server import serve

addresses = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
serve(addresses[0] if addresses else "")
