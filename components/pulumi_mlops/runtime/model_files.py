"""Fetches the files of a model version before its servers start.

`python -m pulumi_mlops.runtime.model_files`, with the variables:

| variable | meaning |
|---|---|
| FETCHED_DIR | the folder to fill: `model`, and `manifest.json` with sizes and digests |
| MLOPS_MODEL_NAME, MLOPS_MODEL_VERSION | the version in the model registry |
| MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME, … | the tracking server |
| MLOPS_MODEL_COPY | optional: `s3://bucket/prefix` of a copy that outlives the registered version |

It is a process of its own, so that the credentials of the tracking server are not in the
environment of a server, which runs code that came with a model. A folder that is complete is not
fetched again. With a copy the tracking server is asked only once: later fetches read the copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pulumi_mlops.runtime.errors import ResourceError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MODEL_FOLDER = "model"
MANIFEST = "manifest.json"
_MLFLOW_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

Manifest = dict[str, dict[str, Any]]
"""`size` and `sha256` of each file by its path below the folder of the model."""


class NotRegisteredError(ResourceError):
    """The model registry does not have the version."""


def main(env: Mapping[str, str]) -> int:
    """Fetch; 1 with the reason on stderr if the files cannot be fetched."""
    folder = Path(env["FETCHED_DIR"])
    name, version = env["MLOPS_MODEL_NAME"], env["MLOPS_MODEL_VERSION"]
    copy = env.get("MLOPS_MODEL_COPY")
    try:
        if not problems(folder):
            print(f"{name} version {version} is complete in {folder}")
            return 0
        bucket_copy = BucketCopy.at(copy) if copy else None
        if bucket_copy is None or not bucket_copy.download(folder):
            fetch(name, version, folder)
            if bucket_copy is not None:
                bucket_copy.upload(folder)
    except NotRegisteredError as error:
        print(f"error: {error}. There is no copy of its files in {copy or folder}", file=sys.stderr)
        return 1
    except ResourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # whatever MLflow or the store raises: one line for the user
        text = " ".join(str(error).split())[:500]
        print(f"error: {name} version {version}: {type(error).__name__}: {text}", file=sys.stderr)
        return 1
    print(f"fetched {name} version {version}")
    return 0


def fetch(name: str, version: str, folder: Path) -> None:
    """Download the version from the model registry into `folder`, and write the manifest.

    Raises NotRegisteredError with the registered versions, ResourceError for files that are not a
    model or are incomplete, and what MLflow raises.
    """
    download(name, version, folder / MODEL_FOLDER)
    write_manifest(folder)


def download(name: str, version: str, target: Path) -> None:
    """Download the files of the version into `target`, which must not exist or is replaced."""
    for key, value in _MLFLOW_SETTINGS.items():
        os.environ.setdefault(key, value)
    import mlflow  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = mlflow.MlflowClient()
    try:
        # Not `models:/<name>/<version>`: such a URI cannot contain every name, such as one with ?.
        uri = client.get_model_version_download_uri(name, version)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise NotRegisteredError(not_registered(client, name, version)) from None
    partial = target.with_name(f".{target.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    downloaded = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(partial)))
    if not (downloaded / "MLmodel").is_file():
        raise ResourceError(f"{name} version {version}: {uri} has no file MLmodel")
    _check_sizes(mlflow, uri, downloaded)
    shutil.rmtree(target, ignore_errors=True)
    downloaded.rename(target)
    shutil.rmtree(partial, ignore_errors=True)


def _check_sizes(mlflow: Any, uri: str, folder: Path) -> None:
    """Raise ResourceError if a file has another size than in the artifact store."""
    for entry in _listing(mlflow, uri):
        # The paths of a listing begin with the last part of the URI for some stores.
        name = entry.path.rpartition("/")[2]
        if entry.is_dir or entry.file_size is None:
            continue
        size = (folder / name).stat().st_size
        if size != entry.file_size:
            raise ResourceError(f"{uri}: {name} has {size} bytes, not {entry.file_size}: try again")


def _listing(mlflow: Any, uri: str) -> list[Any]:
    if hasattr(mlflow.artifacts, "list_artifacts"):
        return list(mlflow.artifacts.list_artifacts(artifact_uri=uri))
    # MLflow 2.9
    from mlflow.store.artifact.artifact_repository_registry import (  # noqa: PLC0415
        get_artifact_repository,
    )

    return list(get_artifact_repository(uri).list_artifacts())


def not_registered(client: Any, name: str, version: str) -> str:
    """The message about a version that does not exist, with those that do."""
    condition = f"name = '{name}'" if "'" not in name else f'name = "{name}"'
    if "'" in name and '"' in name:
        # MLflow cannot escape a quotation mark. `_` matches any character.
        pattern = name.replace("'", "_")
        condition = f"name LIKE '{pattern}'"
    found = client.search_model_versions(condition)
    versions = sorted((str(item.version) for item in found if item.name == name), key=int)
    if not versions:
        return f"model '{name}' has no registered versions; version {version} was requested"
    return (
        f"version {version} of model '{name}' is not registered; registered: {', '.join(versions)}"
    )


def write_manifest(folder: Path) -> None:
    """Write the manifest of the model's files, in one step."""
    model = folder / MODEL_FOLDER
    manifest: Manifest = {
        str(path.relative_to(model)): {"size": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(model.rglob("*"))
        if path.is_file()
    }
    partial = folder / f".{MANIFEST}.new"
    partial.write_text(json.dumps(manifest, indent=1))
    partial.replace(folder / MANIFEST)


def problems(folder: Path, *, digests: bool = False) -> list[str]:
    """Which files of the manifest are missing or have another size. Empty: complete.

    `digests` also compares the content.
    """
    try:
        manifest: Manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return ["the manifest is missing or incomplete"]
    found = []
    for name, entry in manifest.items():
        path = folder / MODEL_FOLDER / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != entry["size"] or (digests and _digest(path) != entry["sha256"]):
            found.append(f"{name} differs")
    return found


def _digest(path: Path) -> str:
    # Not hashlib.file_digest: a model may need Python 3.10.
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class BucketCopy:
    """A copy of the files in a bucket. The manifest is written last, so it marks a complete copy.

    Credentials, region and endpoint are read from the AWS variables.
    """

    def __init__(self, client: S3Client, bucket: str, prefix: str) -> None:
        from boto3.s3.transfer import S3Transfer  # noqa: PLC0415

        self._client, self._bucket, self._prefix = client, bucket, prefix
        self._transfer = S3Transfer(client)  # in parts: a put has at most 5 GiB

    @classmethod
    def at(cls, uri: str) -> BucketCopy:
        """The copy at `s3://bucket/prefix`."""
        from pulumi_mlops.runtime.s3.client import S3Endpoint  # noqa: PLC0415

        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        return cls(S3Endpoint.of_environment(str).client(), bucket, prefix.strip("/"))

    def download(self, folder: Path) -> bool:
        """Fill `folder` from the copy. False if there is no complete copy.

        Raises ResourceError if a file differs from the manifest.
        """
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(MANIFEST))
        except self._client.exceptions.NoSuchKey:
            return False
        text = answer["Body"].read()
        manifest: Manifest = json.loads(text)
        shutil.rmtree(folder / MODEL_FOLDER, ignore_errors=True)
        for name in manifest:
            path = folder / MODEL_FOLDER / name
            path.parent.mkdir(parents=True, exist_ok=True)
            key = self._key(f"{MODEL_FOLDER}/{name}")
            self._transfer.download_file(self._bucket, key, str(path))
        (folder / MANIFEST).write_bytes(text)
        if damaged := problems(folder, digests=True):
            (folder / MANIFEST).unlink()
            raise ResourceError(
                f"the copy s3://{self._bucket}/{self._prefix} is damaged: {damaged[0]}"
            )
        return True

    def upload(self, folder: Path) -> None:
        """Store the files, the manifest last."""
        manifest: Manifest = json.loads((folder / MANIFEST).read_text())
        for name in manifest:
            self._put(folder / MODEL_FOLDER / name, f"{MODEL_FOLDER}/{name}")
        self._put(folder / MANIFEST, MANIFEST)

    def _put(self, path: Path, key: str) -> None:
        self._transfer.upload_file(str(path), self._bucket, self._key(key))

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name


if __name__ == "__main__":
    sys.exit(main(os.environ))
