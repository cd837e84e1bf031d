"""`python -m pulumi_mlops.cli` is `mlops`."""

import sys

from . import main

sys.exit(main())
