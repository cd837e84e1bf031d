"""What an image is built from: the same everywhere, without junk, without secrets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pulumi_mlops import sources
from pulumi_mlops.images import catalog, context
from pulumi_mlops.images.context import Recipe
from pulumi_mlops.images.options import BuildOptions, ImageError

from .images_fixtures import INDEX, PASSWORD, certificates, recipe, source, tree


def test_the_same_recipe_is_the_same_bytes_modes_and_times(tmp_path: Path) -> None:
    first = context.write(recipe(source(tmp_path / "a")), tmp_path / "one")
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    before = os.umask(0o077)
    try:
        second = context.write(recipe(tmp_path / "elsewhere"), tmp_path / "two")
    finally:
        os.umask(before)
    assert first.name == second.name
    assert tree(first) == tree(second)
    assert first.stat().st_mtime_ns == second.stat().st_mtime_ns
    again = tree(first)
    assert context.write(recipe(tmp_path / "a"), tmp_path / "one") == first
    assert tree(first) == again
    assert [entry.name for entry in (tmp_path / "one").iterdir()] == [first.name]


def test_what_is_deployed_is_there_for_any_user_and_junk_is_not(tmp_path: Path) -> None:
    written = context.write(recipe(source(tmp_path / "a")), tmp_path / "contexts")
    code = written / "code"
    found = {str(file.relative_to(code)) for file in code.rglob("*") if file.is_file()}
    assert found == {"run.py", "package/__init__.py", "tool.sh"}
    assert found == {
        str(file.relative_to(tmp_path / "a")) for file in sources.source_files(tmp_path / "a")
    }
    assert (code / "run.py").stat().st_mode & 0o777 == 0o644
    assert (code / "tool.sh").stat().st_mode & 0o777 == 0o755
    assert code.stat().st_mode & 0o777 == 0o755
    assert (written / "requirements.txt").read_text() == "idna==3.20\n"


def test_code_goes_where_it_is_imported_from(tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "__init__.py").touch()
    written = context.write(
        Recipe(
            requirements=[],
            code={"pulumi_mlops/runtime": tmp_path / "runtime", ".": source(tmp_path / "a")},
        ),
        tmp_path / "contexts",
    )
    code = written / "code"
    assert (code / "pulumi_mlops" / "runtime" / "__init__.py").exists()
    assert not (code / "pulumi_mlops" / "__init__.py").exists()
    subprocess.run(
        [sys.executable, "-S", "-c", "import pulumi_mlops.runtime, package, run"],
        env={"PYTHONPATH": str(code)}, check=True,
    )  # fmt: skip


def test_projects_and_constraints_are_part_of_the_image(tmp_path: Path) -> None:
    library = source(tmp_path / "lib")
    wheel = tmp_path / "x-1-py3-none-any.whl"
    wheel.write_text("1")
    made = Recipe(
        requirements=["./projects/lib", "./projects/2/x-1-py3-none-any.whl"],
        constraints=["numpy<3"],
        projects={"lib": library, "2/x-1-py3-none-any.whl": wheel},
    )
    written = context.write(made, tmp_path / "contexts")
    assert (written / "constraints.txt").read_text() == "numpy<3\n"
    assert (written / "projects" / "lib" / "run.py").stat().st_mode & 0o777 == 0o644
    assert (written / "projects" / "2" / wheel.name).read_text() == "1"
    versions = {written.name}
    wheel.write_text("2")
    versions.add(context.version(made))
    (library / "run.py").write_text("print('changed')")
    versions.add(context.version(made))
    versions.add(context.version(replace(made, constraints=["numpy<2"])))
    assert len(versions) == 4
    shutil.rmtree(library)
    with pytest.raises(ImageError, match="a local requirement"):
        context.version(made)


def _changed(tmp_path: Path) -> dict[str, Any]:
    return {
        "requirements": recipe(tmp_path / "a", requirements=["idna==3.19"]),
        "python": recipe(tmp_path / "a", python="3.12"),
        "base": recipe(tmp_path / "a", base="registry.example/python@sha256:abc"),
        "system packages": recipe(tmp_path / "a", system_packages=["libgomp1"]),
        "authority": recipe(tmp_path / "a", ca=certificates(tmp_path / "ca.pem")),
        "index": recipe(tmp_path / "a", index_url="https://other.example/simple"),
        "further index": recipe(tmp_path / "a", extra_index_urls=["https://x.example/simple"]),
        "place": Recipe(requirements=["idna==3.20"], code={"inside": tmp_path / "a"}),
        "no code": recipe(),
    }


def test_the_version_changes_with_what_changes_the_image(tmp_path: Path) -> None:
    before = context.version(recipe(source(tmp_path / "a")))
    assert re.fullmatch("[0-9a-f]{16}", before)
    versions = {what: context.version(each) for what, each in _changed(tmp_path).items()}
    assert before not in versions.values()
    assert len(set(versions.values())) == len(versions)
    (tmp_path / "a" / "run.py").write_text("x = 2\n")
    assert context.version(recipe(tmp_path / "a")) not in {before, *versions.values()}


def test_the_version_changes_with_the_dockerfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = context.version(recipe())
    other = tmp_path / "Dockerfile"
    other.write_text("FROM scratch\n")
    monkeypatch.setattr(context, "_DOCKERFILE", other)
    assert context.version(recipe()) != before


def test_the_version_stays_with_what_changes_only_the_build() -> None:
    before = context.version(recipe(index_url="https://packages.example/simple"))
    same = recipe(index_url=INDEX, proxies={"https_proxy": "http://p:1"}, network="host")
    assert context.version(same) == before
    assert context.version(recipe(python=None)) == context.version(recipe(python="3.11"))


def test_credentials_are_in_a_file_of_the_build_alone(tmp_path: Path) -> None:
    wanted = recipe(index_url=INDEX, extra_index_urls=["https://more.example/simple"])
    image = catalog.prepare(tmp_path / "images", "registry.example/x", "A_name", wanted)
    holders = [
        file.name
        for file in (tmp_path / "images").rglob("*")
        if file.is_file() and PASSWORD.encode() in file.read_bytes()
    ]
    assert holders == ["netrc"]
    netrc = image.context / "netrc"
    assert netrc.read_text() == f"machine packages.example login reader password {PASSWORD}\n"
    assert netrc.stat().st_mode & 0o777 == 0o600
    assert image.folder.stat().st_mode & 0o777 == 0o700
    assert image.build_args["INDEX_URL"] == "https://packages.example/simple"
    assert image.build_args["EXTRA_INDEX_URLS"] == "https://more.example/simple"
    assert PASSWORD not in repr(wanted) + repr(image)


def test_changed_credentials_are_taken_over(tmp_path: Path) -> None:
    written = context.write(recipe(index_url=INDEX), tmp_path)
    times = tree(written)["netrc"][1]
    same = context.write(recipe(index_url=INDEX.replace(PASSWORD, "other")), tmp_path)
    assert same == written
    assert "password other" in (written / "netrc").read_text()
    assert tree(written)["netrc"][1] == times


def test_the_dockerfile_keeps_the_index_out_of_the_image() -> None:
    text = Path(context.__file__).with_name("Dockerfile").read_text()
    _, base, build, code, final = re.split(r"^FROM ", text, flags=re.MULTILINE)
    assert "netrc" in build
    assert "INDEX_URL" in build
    assert not re.search("netrc|INDEX|UV_", base + code + final)
    assert "USER 10001:10001" in final
    # What only BuildKit knows.
    assert not re.search(r"--mount|--chmod|<<|^# *syntax", text, flags=re.MULTILINE)


def test_the_companys_authority(tmp_path: Path) -> None:
    written = context.write(recipe(ca=certificates(tmp_path / "ca.pem")), tmp_path / "contexts")
    assert (written / "ca.crt").read_text().endswith("-----END CERTIFICATE-----\n")
    assert (context.write(recipe(), tmp_path / "contexts") / "ca.crt").read_text() == ""


def test_the_arguments_of_the_build() -> None:
    wanted = recipe(
        python="3.12",
        system_packages=["libgomp1", "git", "git"],
        proxies={"http_proxy": "http://proxy:3128"},
    )
    assert context.build_args(wanted, name="p") == {
        "BASE": "python:3.12-slim",
        "PYTHON": "3.12",
        "SYSTEM_PACKAGES": "git libgomp1",
        "INDEX_URL": "",
        "EXTRA_INDEX_URLS": "",
        "NAME": "p",
        "VERSION": context.version(wanted),
        "HTTP_PROXY": "http://proxy:3128",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"python": "three"}, "python: 'three' is not a version"),
        ({"requirements": [f"--index-url {INDEX}"]}, "set the index as a build option"),
        ({"system_packages": ["x; rm -rf /"]}, "is not a name of a Debian package"),
        ({"proxies": {"PATH": "/"}}, "proxies: 'PATH' is none of"),
        ({"index_url": "packages.example"}, "is not a URL"),
        ({"index_url": "https://token@packages.example/"}, "needs a user and a password"),
        ({"index_url": "https://u:a%20b@packages.example/"}, "without spaces"),
        (
            {"index_url": INDEX, "extra_index_urls": ["https://a:b@packages.example/x"]},
            "packages.example has two users",
        ),
    ],
)
def test_what_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ImageError, match=re.escape(said)) as raised:
        recipe(**given)
    assert PASSWORD not in str(raised.value)
    assert "a%20b" not in str(raised.value)


@pytest.mark.parametrize("place", ["/etc", "../up", "a/../../b"])
def test_code_stays_in_its_folder(tmp_path: Path, place: str) -> None:
    with pytest.raises(ImageError, match="is outside /opt/code"):
        Recipe(requirements=[], code={place: tmp_path})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ImageError, match=r"ca: .*gone: No such file.*PEM"):
        context.version(recipe(ca=tmp_path / "gone"))
    with pytest.raises(ImageError, match="has no certificate in PEM"):
        context.version(recipe(ca=tmp_path / "empty"))
    with pytest.raises(ImageError, match=r"gone cannot be read"):
        context.version(recipe(tmp_path / "gone"))


@pytest.mark.parametrize("links", [True, False])
def test_contexts_with_the_same_code_share_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(f"no link of {source} at {target}")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    folder = source(tmp_path / "a")
    (folder / "run.py").write_text(f"here = {str(tmp_path)!r}\n")
    first = context.write(recipe(folder), tmp_path / "one")
    second = context.write(recipe(folder), tmp_path / "two")
    assert tree(first) == tree(second)
    assert (second / "code" / "run.py").samefile(first / "code" / "run.py") is links
    # The second one is whole without the first.
    shutil.rmtree(first)
    third = context.write(recipe(folder), tmp_path / "three")
    assert tree(third) == tree(second)


def test_a_context_that_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    code = recipe(source(tmp_path / "a"))
    image = catalog.prepare(tmp_path / "images", "registry.example/team", "p", code)
    files = [image.folder / "image.json", image.context / "netrc"]
    before = [file.stat().st_ino for file in files]
    assert catalog.prepare(tmp_path / "images", "registry.example/team", "p", code) == image
    assert [file.stat().st_ino for file in files] == before
    catalog.prepare(tmp_path / "images", "other.example/team", "p", code)
    assert [image.reference for image in catalog.images_in(tmp_path / "images")] == [
        f"other.example/team/p:{image.version}"
    ]


def test_code_that_changes_while_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = source(tmp_path / "a")
    # No context of another test has this code.
    (folder / "run.py").write_text(f"here = {str(tmp_path)!r}\n")
    copy = sources.copy

    def slow(source: Path, to: Path) -> None:
        copy(source, to)
        (source / "run.py").write_text("changed = True\n")

    monkeypatch.setattr(sources, "copy", slow)
    with pytest.raises(ImageError, match="changed during the copy"):
        context.write(recipe(folder), tmp_path / "contexts")
    assert list((tmp_path / "contexts").iterdir()) == []


def test_a_stacks_images(tmp_path: Path) -> None:
    images = tmp_path / "images"
    first = catalog.prepare(images, "registry.example/team", "p-Tracking_env", recipe())
    assert first.reference == f"registry.example/team/p-tracking-env:{first.version}"
    assert catalog.images_in(images) == [first]
    second = catalog.prepare(
        images, "registry.example/team", "p-Tracking_env", recipe(python="3.12")
    )
    assert catalog.images_in(images) == [second]
    assert not first.context.exists()
    (second.folder / "image.json").write_text("{")
    with pytest.raises(ImageError, match="pulumi preview"):
        catalog.images_in(images)
    catalog.remove(images, "p-Tracking_env")
    assert catalog.images_in(images) == []


def test_a_name_without_letters() -> None:
    assert catalog.reference("", "A", "1") == "a:1"
    with pytest.raises(ImageError, match="no letter or digit"):
        catalog.reference("r", "--", "1")


def test_options_may_be_left_out() -> None:
    assert BuildOptions().netrc() == ""
    assert BuildOptions().base_for("3.13") == "python:3.13-slim"
