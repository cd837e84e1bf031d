"""One platform, provisioned by the commands of the README in a temporary checkout."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from doc_pages import blocks
from doc_reader import Checkout, copy_checkout, reader_environment


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A checkout in which nothing is up yet."""
    folder = tmp_path_factory.mktemp("docs") / "pulumi-mlops"
    copy_checkout(folder)
    plain = Checkout(folder, reader_environment(folder.parent / "home"))
    shell = plain.run('eval "$(make -s env)"', "env -0").split("\0")
    env = dict(line.split("=", 1) for line in shell if "=" in line)
    assert env["PULUMI_STACK"] == "dev"
    made = Checkout(folder, env)
    try:
        yield made
    finally:
        made.outputs.clear()
        made.run("make down")


@pytest.fixture(scope="session")
def platform(checkout: Checkout) -> Checkout:
    """A checkout whose environment `dev` is up. Its pipeline has run twice, and its stack file is
    edited to the README's traffic table: two model versions, not yet applied."""
    checkout.run("make up")
    checkout.run("mlops run penguins")
    _edit(checkout, "dev", "README.md")
    return checkout


def _edit(checkout: Checkout, stack: str, page: str) -> None:
    """Change a stack file as the first configuration on a page shows it."""
    edit = next(yaml.safe_load(block.text) for block in blocks("yaml") if block.page == page)
    file = checkout.folder / "stacks" / f"Pulumi.{stack}.yaml"
    values = yaml.safe_load(file.read_text())["config"]
    endpoints = edit["config"].pop("platform:endpoints", {})
    values |= edit["config"]
    for name, endpoint in endpoints.items():
        values["platform:endpoints"][name] |= endpoint
    file.write_text(yaml.safe_dump({"config": values}, sort_keys=False))


@pytest.fixture(scope="session")
def scratch(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Another checkout, for commands that change its files."""
    folder = tmp_path_factory.mktemp("scratch") / "pulumi-mlops"
    copy_checkout(folder)
    return Checkout(folder, checkout.env)


@pytest.fixture(scope="session")
def rendering(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Another checkout, a git repository with a remote. Its environment renders manifests."""
    folder = tmp_path_factory.mktemp("gitops") / "pulumi-mlops"
    copy_checkout(folder)
    made = Checkout(folder, {**checkout.env, "PULUMI_STACK": "cluster"})
    _edit(made, "cluster", "docs/gitops.md")
    project = yaml.safe_load((folder / "Pulumi.yaml").read_text())
    standin = {"name": "kubernetes", "path": "tests/kubernetes/provider"}
    project["plugins"]["providers"].append(standin)
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project))
    made.run(
        "git init --quiet --initial-branch main",
        "git config user.name Reader",
        "git config user.email reader@example.com",
        "git add --all",
        "git commit --quiet --message Before",
        "git init --quiet --bare ../remote",
        "git remote add origin ../remote",
        "git push --quiet --set-upstream origin main",
    )
    try:
        yield made
    finally:
        made.outputs.clear()
        made.run("make down")
