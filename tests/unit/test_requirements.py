"""Requirements files and what they refer to; the requirements of a model server."""

from __future__ import annotations

import re
from pathlib import Path

import pulumi
import pytest
from packaging.requirements import Requirement

from pulumi_mlops import runtime
from pulumi_mlops.requirements import RequirementSet, read_requirements, with_model_server

SERVER_FILE = Path(runtime.__path__[0], "requirements-model-server.txt")
SERVER = [
    line for line in SERVER_FILE.read_text().splitlines() if line and not line.startswith("#")
]
LOCK = Path(__file__).parents[2] / "requirements.lock"


def test_the_servers_upper_bounds_are_the_locked_versions() -> None:
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", LOCK.read_text(), re.MULTILINE))
    shared_with_models = {"pyarrow", "boto3"}
    for line in SERVER:
        requirement = Requirement(line)
        upper = [each.version for each in requirement.specifier if each.operator == "<="]
        expected = [] if requirement.name in shared_with_models else [locked[requirement.name]]
        assert upper == expected, line
        assert requirement.specifier.contains(locked[requirement.name]), line


def test_a_requirement_of_the_model_replaces_the_servers() -> None:
    assert with_model_server(
        ["Prometheus_Client==0.20"], ["prometheus-client>=0.18", "orjson"]
    ) == [
        "Prometheus_Client==0.20",
        "orjson",
    ]


@pytest.mark.parametrize("mlflow", ["mlflow==2.9.2", "mlflow==2.12.2", "MLflow<2.15,>=2.9"])
def test_an_mlflow_that_imports_pkg_resources_gets_it(mlflow: str) -> None:
    assert "setuptools<81" in with_model_server([mlflow], SERVER)
    assert "setuptools<81" not in with_model_server([mlflow, "setuptools==68"], SERVER)


@pytest.mark.parametrize(
    "mlflow", ["mlflow==2.22.0", "mlflow>=2.9", "mlflow", "mlflow>=3.5,<4", "mlflow==3.17.2"]
)
def test_a_later_mlflow_gets_no_setuptools(mlflow: str) -> None:
    assert with_model_server([mlflow], SERVER) == [mlflow, *SERVER]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_txt", ".txt").replace("_toml", ".toml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def read(folder: Path, requirements: str | list[str] = "requirements.txt") -> RequirementSet:
    return read_requirements("train.requirements", requirements, folder)


def refusal(folder: Path, requirements: str | list[str] = "requirements.txt") -> str:
    with pytest.raises(pulumi.RunError) as refused:
        read(folder, requirements)
    return str(refused.value).replace(str(folder), "")


def test_comments_empty_lines_and_continuations(tmp_path: Path) -> None:
    write(
        tmp_path, requirements_txt="# a\n\na==1  # why\nb \\\n  >=2\nc#d @ https://x.example/c#d\n"
    )
    assert read(tmp_path).lines == ["a==1", "b   >=2", "c#d @ https://x.example/c#d"]


def test_options_of_the_index_are_kept(tmp_path: Path) -> None:
    lines = [
        "--index-url https://x.example/simple",
        "--pre",
        "--no-binary :all:",
        "a==1 --hash=sha256:1",
    ]
    assert read(tmp_path, lines).lines == lines


def test_included_files_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    write(
        tmp_path,
        train__requirements_txt="-r ../common/base.txt\n--constraint=limits.txt\na\n",
        common__base_txt="-rmore.txt\n-c limits.txt\nb\n",
        common__more_txt="c\n-r base.txt\n",
        common__limits_txt="c<3\n",
        train__limits_txt="a<2\n-r deep.txt\n",
        train__deep_txt="b<2\n",
    )
    found = read(tmp_path, "train/requirements.txt")
    assert found.lines == ["c", "b", "a"]
    assert found.constraints == ["c<3", "a<2", "b<2"]


def test_a_list_is_relative_to_its_folder(tmp_path: Path) -> None:
    write(tmp_path, base_txt="a==1\n")
    assert read(tmp_path, ["-r base.txt", "b"]).lines == ["a==1", "b"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("./mylib", "./projects/mylib"),
        ("-e ./mylib", "./projects/mylib"),
        ("--editable=../train/mylib", "./projects/mylib"),
        ("./mylib[a,b] ; os_name == 'nt'", "./projects/mylib[a,b] ; os_name == 'nt'"),
        ("mylib @ ./mylib", "mylib @ ./projects/mylib"),
        ("mylib[gpu] @ file:./mylib", "mylib[gpu] @ ./projects/mylib"),
        ("file:mylib", "./projects/mylib"),
    ],
)  # fmt: skip
def test_a_local_project(tmp_path: Path, line: str, expected: str) -> None:
    write(tmp_path, train__mylib__pyproject_toml="", train__requirements_txt=line)
    found = read(tmp_path, "train/requirements.txt")
    assert found.lines == [expected]
    assert found.projects == {"mylib": tmp_path / "train" / "mylib"}


def test_local_wheels_and_folders_of_packages(tmp_path: Path) -> None:
    write(
        tmp_path, wheels__a="", requirements_txt="wheels/x-1-py3-none-any.whl\n-f wheels\ny.whl\n"
    )
    for name in ("wheels/x-1-py3-none-any.whl", "y.whl"):
        (tmp_path / name).touch()
    found = read(tmp_path)
    assert found.lines == [
        "./projects/x-1-py3-none-any.whl",
        "--find-links ./projects/wheels",
        "./projects/y.whl",
    ]


def test_two_projects_of_one_name_and_one_named_twice(tmp_path: Path) -> None:
    write(tmp_path, a__lib__pyproject_toml="", b__lib__pyproject_toml="")
    found = read(tmp_path, ["./a/lib", "./b/lib", "-e a/lib"])
    assert found.lines == ["./projects/lib", "./projects/2/lib", "./projects/lib"]
    assert found.projects == {"lib": tmp_path / "a" / "lib", "2/lib": tmp_path / "b" / "lib"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-r none.txt", "/requirements.txt, line 2: /none.txt: No such file or directory"),
        ("-c none.txt", "/requirements.txt, line 2: /none.txt: No such file or directory"),
        ("./none", "/requirements.txt, line 2: ./none: /none does not exist: correct the path"),
        ("-e .", "/requirements.txt, line 2:  has no pyproject.toml and no setup.py"),
        ("???", "/requirements.txt, line 2: '???' is not a requirement"),
        ("a==", "/requirements.txt, line 2: 'a==' is not a requirement"),
        ("-r https://x.example/r.txt", "a requirements file must be on this machine"),
    ],
)
def test_what_an_update_cannot_do_is_refused(tmp_path: Path, line: str, expected: str) -> None:
    write(tmp_path, requirements_txt=f"a\n{line}\n")
    assert f"train.requirements: {expected}" in refusal(tmp_path) or expected in refusal(tmp_path)


def test_what_uv_reads_itself_is_kept(tmp_path: Path) -> None:
    lines = [
        "git+https://x.example/lib.git@v1",
        "lib @ git+ssh://git@x.example/lib.git",
        "https://x.example/lib-1-py3-none-any.whl",
        "-c https://x.example/constraints.txt",
        "lib[a,b]==1.*; python_version >= '3.10'",
    ]
    assert read(tmp_path, lines).lines == lines
