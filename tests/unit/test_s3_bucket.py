"""`mlops:s3:Bucket` against moto (an AWS that has everything) and a real SeaweedFS."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from pulumi_mlops.plugin.errors import GoneError, ResourceError
from pulumi_mlops.plugin.handler import Context
from pulumi_mlops.plugin.s3_bucket import BucketHandler
from pulumi_mlops.plugin.s3_inputs import broken_name_rules
from pulumi_mlops.plugin.values import UNKNOWN
from pulumi_mlops.runtime.s3.client import S3Endpoint
from pulumi_mlops.runtime.s3.settings import owner_of

from .provider_fixtures import Log, make_context, problems

HANDLER = BucketHandler()
WEED = Path(sys.executable).with_name("weed")
SECRET = "the-secret-that-no-message-shows"


@cache
def _client(url: str, key: str, secret: str) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(proxies={}, s3={"addressing_style": "path"}),
    )


@dataclass(frozen=True)
class Store:
    kind: str
    url: str
    key: str = "key"
    secret: str = SECRET

    def client(self) -> Any:
        return _client(self.url, self.key, self.secret)

    def inputs(self, bucket: str, **more: Any) -> Any:
        return HANDLER.inputs.model_validate(self.plain(bucket, **more))

    def plain(self, bucket: str, **more: Any) -> dict[str, Any]:
        reach = {"accessKeyId": self.key, "secretAccessKey": self.secret}
        return {"bucket": bucket, "endpointUrl": self.url, **reach, **more}


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


@pytest.fixture(scope="module")
def moto() -> Iterator[Store]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield Store("moto", f"http://{host}:{port}")
    server.stop()


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("weed")
    key = {"accessKey": "key", "secretKey": SECRET}
    reader = {"accessKey": "reader", "secretKey": SECRET}
    identities = [
        {"name": "all", "credentials": [key], "actions": ["Admin"]},
        {"name": "reader", "credentials": [reader], "actions": ["Read", "List"]},
    ]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    names = ["master", "volume", "filer", "s3", "admin"]
    ports = free_ports(2 * len(names))
    told = [f"-{name}.port={port}" for name, port in zip(names, ports, strict=False)]
    told += [f"-{name}.port.grpc={port}" for name, port in zip(names, ports[5:], strict=True)]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "S3_"))}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(WEED, "-logtostderr=true", "mini", f"-dir={folder}"),
                *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", *told, f"-s3.config={config}"),
                *("-master.telemetry=false", "-master.volumeSizeLimitMB=16"),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"),
                *("-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false"),
                *(f"-filer.localSocket={folder}/f", f"-s3.localSocket={folder}/s"),
            ],
            cwd=folder,
            env=env,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{ports[names.index('s3')]}"
    try:
        with httpx.Client(trust_env=False) as client:
            while True:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                try:
                    if client.get(f"{url}/healthz").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.05)
        yield Store("seaweed", url)
    finally:
        process.kill()  # nobody needs the data any more
        process.wait()
        for name, port in zip(names, ports[5:], strict=True):  # it has no option for their place
            Path(f"/tmp/seaweedfs-{name}-grpc-{port}.sock").unlink(missing_ok=True)


@pytest.fixture(params=["moto", "seaweed"])
def store(request: pytest.FixtureRequest) -> Store:
    return request.getfixturevalue(request.param)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def ctx(tmp_path: Path, log: Log) -> Context:
    return make_context(tmp_path, HANDLER.token, "models", log=log)


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A name of the test's own: the stores live as long as the module."""
    return f"b{abs(hash(request.node.nodeid)):x}"


def create(ctx: Context, store: Store, bucket: str, **more: Any) -> dict[str, Any]:
    """Create it; the state as the engine keeps it."""
    resource_id, outputs = HANDLER.create(ctx, store.inputs(bucket, **more))
    assert resource_id == bucket
    return {**store.plain(bucket, **more), **outputs}


def update(ctx: Context, store: Store, old: dict[str, Any], **more: Any) -> dict[str, Any]:
    new = store.plain(old["bucket"], **more)
    outputs = HANDLER.update(ctx, old["bucket"], old, HANDLER.inputs.model_validate(new))
    return {**new, **outputs}


def drift(ctx: Context, state: dict[str, Any]) -> dict[str, Any]:
    """What a read finds other than recorded."""
    found = HANDLER.read(ctx, state["bucket"], state)
    assert found is not None
    return {key: value for key, value in found.items() if state.get(key) != value}


EVERYTHING: dict[str, Any] = {
    "versioning": True,
    "lifecycle": {
        "expireNoncurrentDays": 30.0,  # the engine sends numbers as floats
        "abortIncompleteUploadDays": 2.0,
        "expireDays": 7.0,
        "prefix": "tmp/",
    },
    "encryption": "AES256",
    "tags": {"team": "ml", "cost-center": "42"},
}


# -- what a check finds ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ab", "3 to 63 characters, not 2"),
        ("a" * 64, "3 to 63 characters, not 64"),
        ("Models", "may contain only a-z"),
        ("my_models", "a-z, 0-9"),
        ("-models", "begin and end"),
        ("models.", "begin and end"),
        ("mo..dels", "two dots"),
        ("192.168.5.4", "IP address"),
        ("xn--models", "xn--"),
        ("models-s3alias", "-s3alias"),
    ],
)
def test_a_broken_name_is_told(ctx: Context, name: str, told: str) -> None:
    found = problems(HANDLER, ctx, bucket=name)
    assert [where for where, _ in found] == ["bucket"] * len(found)
    assert any(told in what for _, what in found)


@given(st.from_regex(r"[a-w][a-z0-9-]{1,40}[a-z0-9]", fullmatch=True))
def test_a_plain_name_is_good(name: str) -> None:
    reserved = name.startswith(("sthree-", "amzn-s3-demo-")) or name.endswith(
        ("-s3alias", "--ol-s3", "--x-s3", "--table-s3")
    )
    assert bool(broken_name_rules(name)) == reserved


@pytest.mark.parametrize(
    ("inputs", "where", "told"),
    [
        ({"endpointUrl": "127.0.0.1:8333"}, "endpointUrl", "http://host:port"),
        ({"accessKeyId": "a"}, "secretAccessKey", "are required together"),
        ({"secretAccessKey": SECRET}, "accessKeyId", "are required together"),
        ({"lifecycle": {}}, "lifecycle", "is empty"),
        ({"lifecycle": {"expireDays": 3.0}}, "lifecycle", "requires prefix"),
        (
            {"lifecycle": {"prefix": "a", "expireNoncurrentDays": 3.0}},
            "lifecycle",
            "prefix requires expireDays",
        ),
        ({"tags": {"aws:x": "y"}}, "tags", "reserved"),
        ({"tags": {"mlops:urn": "y"}}, "tags", "reserved"),
        ({"tags": {"k": "v" * 257}}, "tags", "256"),
        ({"tags": {str(n): "v" for n in range(49)}}, "tags", "48, not 49"),
    ],
)
def test_other_broken_inputs_are_told(
    ctx: Context, inputs: dict[str, Any], where: str, told: str
) -> None:
    [(found, what)] = problems(HANDLER, ctx, bucket="models", **inputs)
    assert found == where
    assert told in what
    assert SECRET not in what


def test_what_is_not_known_yet_is_not_checked(ctx: Context) -> None:
    names = ["bucket", "endpointUrl", "accessKeyId", "secretAccessKey", "tags", "lifecycle"]
    assert problems(HANDLER, ctx, **dict.fromkeys(names, UNKNOWN)) == []


# -- create, read, update, delete --------------------------------------------------------------


def test_life(store: Store, ctx: Context, log: Log, bucket: str) -> None:
    state = create(ctx, store, bucket, **EVERYTHING)
    assert state["uri"] == f"s3://{bucket}"
    assert state["arn"] == f"arn:aws:s3:::{bucket}"
    assert drift(ctx, state) == {}
    s3 = store.client()
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="a")["ServerSideEncryption"] == "AES256"

    state = update(ctx, store, state, tags={"team": "data"})
    assert drift(ctx, state) == {}
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Suspended"
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}
    assert tags.pop("mlops:urn") == owner_of(ctx.urn)
    assert tags.pop("mlops:claim") == state["claim"]
    assert tags == {"team": "data"}
    with pytest.raises(s3.exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)

    state = update(ctx, store, state, forceDestroy=True)
    HANDLER.delete(ctx, bucket, state)
    assert HANDLER.read(ctx, bucket, state) is None
    HANDLER.delete(ctx, bucket, state)  # what is gone is no error
    assert not any(SECRET in line for _, line in log.lines)


def test_every_setting_that_somebody_changes_is_seen(
    store: Store, ctx: Context, bucket: str
) -> None:
    state = create(ctx, store, bucket, **EVERYTHING)
    s3 = store.client()
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert drift(ctx, state) == {"versioning": False}
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert drift(ctx, state) == {"versioning": False, "tags": {"a": "b"}}
    rule = {"ID": "mine", "Status": "Enabled", "Filter": {"Prefix": "x"}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    assert drift(ctx, state)["lifecycle"] == {"otherRules": ["mine"]}
    s3.delete_bucket_lifecycle(Bucket=bucket)
    assert drift(ctx, state)["lifecycle"] is None
    if store.kind == "moto":
        s3.delete_public_access_block(Bucket=bucket)
        assert drift(ctx, state)["publicAccessBlock"] is False

    state = update(ctx, store, {**state, **drift(ctx, state)}, **EVERYTHING)
    assert drift(ctx, state) == {}


def test_a_disabled_rule_of_ours_is_seen(store: Store, ctx: Context, bucket: str) -> None:
    state = create(ctx, store, bucket, lifecycle={"expireNoncurrentDays": 3.0})
    s3 = store.client()
    [rule] = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [{**rule, "Status": "Disabled"}]}
    )
    assert "lifecycle" in drift(ctx, state)


def test_defaults_are_no_drift(store: Store, ctx: Context, bucket: str) -> None:
    state = create(ctx, store, bucket)
    assert drift(ctx, state) == {}
    assert HANDLER.drift(ctx, bucket, state) == {}


def test_what_the_store_does_not_have(
    moto: Store, seaweed: Store, ctx: Context, log: Log, bucket: str
) -> None:
    state = create(ctx, moto, bucket)
    assert state["unsupported"] == []
    block = moto.client().get_public_access_block(Bucket=bucket)
    assert set(block["PublicAccessBlockConfiguration"].values()) == {True}
    assert log.of("warning") == []

    state = create(ctx, seaweed, bucket)
    assert state["unsupported"] == ["publicAccessBlock"]
    assert "no public access block" in log.of("warning")[0]

    with pytest.raises(ResourceError, match=r"no public access block \(input publicAccessBlock\)"):
        create(ctx, seaweed, f"{bucket}x", publicAccessBlock=True)
    with pytest.raises(seaweed.client().exceptions.ClientError, match="404"):
        seaweed.client().head_bucket(Bucket=f"{bucket}x")  # nothing was left behind


def test_encryption_that_refuses_every_object_is_refused(
    seaweed: Store, ctx: Context, bucket: str
) -> None:
    """SeaweedFS takes aws:kms as a setting and has no KMS: every put would fail."""
    with pytest.raises(ResourceError, match="stores no object under encryption aws:kms"):
        create(ctx, seaweed, bucket, encryption="aws:kms")
    assert bucket not in {each["Name"] for each in seaweed.client().list_buckets()["Buckets"]}


# -- whose bucket it is ------------------------------------------------------------------------


def test_an_interrupted_create_converges(store: Store, ctx: Context, log: Log, bucket: str) -> None:
    store.client().create_bucket(Bucket=bucket)  # all that a killed create did
    state = create(ctx, store, bucket, versioning=True)
    assert drift(ctx, state) == {}
    assert "is adopted; it holds nothing" in log.of("info")[0]


def test_kept_data_comes_back(store: Store, ctx: Context, log: Log, bucket: str) -> None:
    first = create(ctx, store, bucket)
    store.client().put_object(Bucket=bucket, Key="model", Body=b"weights")
    second = create(ctx, store, bucket)  # the stack was removed, the data kept
    assert store.client().get_object(Bucket=bucket, Key="model")["Body"].read() == b"weights"
    assert "1 object (first: model)" in log.of("info")[0]
    assert first["claim"] != second["claim"]


def test_the_delete_of_a_replaced_one_spares_its_successor(
    store: Store, ctx: Context, log: Log, bucket: str
) -> None:
    """`pulumi up --replace`: the new one takes the bucket over, then the old one is deleted."""
    old = create(ctx, store, bucket, forceDestroy=True)
    store.client().put_object(Bucket=bucket, Key="model", Body=b"weights")
    new = create(ctx, store, bucket, forceDestroy=True)
    HANDLER.delete(ctx, bucket, old)
    assert store.client().get_object(Bucket=bucket, Key="model")["Body"].read() == b"weights"
    assert "another resource owns it now" in log.of("info")[-1]
    HANDLER.delete(ctx, bucket, new)
    assert HANDLER.read(ctx, bucket, new) is None


def test_a_bucket_with_data_of_somebody_else_is_refused(
    store: Store, ctx: Context, bucket: str
) -> None:
    s3 = store.client()
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="theirs", Body=b"x")
    hint = rf"holds 1 object \(first: theirs\).*pulumi import mlops:s3:Bucket models {bucket}"
    with pytest.raises(ResourceError, match=hint):
        create(ctx, store, bucket)
    with pytest.raises(ResourceError, match=hint):
        HANDLER.preview(ctx, store.inputs(bucket), None)
    assert s3.get_object(Bucket=bucket, Key="theirs")["Body"].read() == b"x"


def test_an_empty_bucket_of_another_resource_is_refused(
    store: Store, ctx: Context, tmp_path: Path, bucket: str
) -> None:
    create(make_context(tmp_path, HANDLER.token, "other"), store, bucket)
    with pytest.raises(ResourceError, match=r"belongs to urn:pulumi:dev::project::.*::other"):
        create(ctx, store, bucket)


def test_urn_as_a_tag_value() -> None:
    urn = "urn:pulumi:dev::p::mlops:index:Platform$mlops:s3:Bucket::models"
    assert owner_of(urn) == "urn:pulumi:dev::p::mlops:index:Platform/mlops:s3:Bucket::models"
    assert len(owner_of(urn * 9)) == 256


def test_import_by_name(
    store: Store, ctx: Context, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.client().create_bucket(Bucket=bucket)
    store.client().put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret)
    found = HANDLER.read(ctx, bucket, {})
    assert found is not None
    assert (found["bucket"], found["endpointUrl"], found["versioning"]) == (bucket, store.url, True)
    assert SECRET not in str(found)
    assert HANDLER.read(ctx, f"{bucket}x", {}) is None
    state = update(ctx, store, found, versioning=True)
    assert drift(ctx, state) == {}


# -- another address ---------------------------------------------------------------------------


@pytest.fixture
def elsewhere(store: Store) -> Iterator[Store]:
    """The same store under another port."""
    port = int(store.url.rsplit(":", 1)[1])
    server = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def pump(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        finally:
            one.close()
            other.close()

    def accept() -> None:
        while not stop.is_set():
            try:
                near, _ = server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield replace(store, url=f"http://127.0.0.1:{server.getsockname()[1]}")
    stop.set()
    server.close()


def test_a_moved_store_keeps_its_bucket(
    store: Store, elsewhere: Store, ctx: Context, bucket: str
) -> None:
    state = create(ctx, store, bucket)
    store.client().put_object(Bucket=bucket, Key="model", Body=b"weights")
    new = elsewhere.inputs(bucket)
    assert HANDLER.replaces({"endpointUrl", "accessKeyId", "region"}, state, new) == set()
    assert HANDLER.replaces({"bucket"}, state, new) == {"bucket"}
    assert HANDLER.preview(ctx, new, state)["claim"] == state["claim"]
    state = update(ctx, elsewhere, state)
    assert drift(ctx, state) == {}
    assert store.client().get_object(Bucket=bucket, Key="model")["Body"].read() == b"weights"


def test_a_bucket_that_is_gone_is_made_anew(
    store: Store, ctx: Context, log: Log, bucket: str
) -> None:
    state = create(ctx, store, bucket, tags={"a": "b"})
    store.client().delete_bucket(Bucket=bucket)
    assert HANDLER.read(ctx, bucket, state) is None
    assert list(HANDLER.drift(ctx, bucket, state)) == ["uri"]
    state = update(ctx, store, state, tags={"a": "b"})
    assert drift(ctx, state) == {}
    assert "a new, empty one is created" in str(log.of("warning"))


# -- deleting what holds data ------------------------------------------------------------------


def test_data_is_not_deleted_unasked(store: Store, ctx: Context, bucket: str) -> None:
    state = create(ctx, store, bucket)
    s3 = store.client()
    for key in ("a/1", "a/2", "b"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    with pytest.raises(
        ResourceError, match=r"contains 3 objects \(first: a/1\).*forceDestroy: true"
    ):
        HANDLER.delete(ctx, bucket, state)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 3


@pytest.mark.parametrize("what", ["versions", "upload"])
def test_data_that_a_listing_does_not_show_is_not_deleted_either(
    store: Store, ctx: Context, bucket: str, what: str
) -> None:
    """SeaweedFS deletes such a bucket without a word."""
    state = create(ctx, store, bucket, versioning=True)
    s3 = store.client()
    if what == "versions":
        s3.put_object(Bucket=bucket, Key="a", Body=b"x")
        s3.delete_object(Bucket=bucket, Key="a")
        told = r"contains 1 older version and 1 delete marker \(first: a\)"
    else:
        s3.create_multipart_upload(Bucket=bucket, Key="big")
        told = r"contains 1 unfinished upload \(first: big\)"
    with pytest.raises(ResourceError, match=told):
        HANDLER.delete(ctx, bucket, state)
    assert HANDLER.read(ctx, bucket, state) is not None
    HANDLER.delete(ctx, bucket, {**state, "forceDestroy": True})
    assert HANDLER.read(ctx, bucket, state) is None


def test_force_destroy_takes_all(
    store: Store, ctx: Context, log: Log, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulumi_mlops.runtime.s3.contents._BATCH", 10)
    state = create(ctx, store, bucket, versioning=True, forceDestroy=True)
    s3 = store.client()
    for turn in range(2):
        for number in range(15):
            s3.put_object(Bucket=bucket, Key=f"k/{number} +ü&", Body=str(turn).encode())
    s3.delete_object(Bucket=bucket, Key="k/1 +ü&")
    s3.create_multipart_upload(Bucket=bucket, Key="big")
    HANDLER.delete(ctx, bucket, state)
    assert HANDLER.read(ctx, bucket, state) is None
    assert [line for line in log.of("status") if "31 objects" in line]


def test_an_interrupt_stops_the_emptying(store: Store, ctx: Context, bucket: str) -> None:
    state = create(ctx, store, bucket, forceDestroy=True)
    store.client().put_object(Bucket=bucket, Key="a", Body=b"x")
    ctx.cancelled.set()
    with pytest.raises(ResourceError, match="interrupted"):
        HANDLER.delete(ctx, bucket, state)
    assert store.client().get_object(Bucket=bucket, Key="a")["Body"].read() == b"x"


def test_a_failed_create_leaves_nothing(
    store: Store, ctx: Context, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("at the last step")

    monkeypatch.setattr("pulumi_mlops.runtime.s3.settings._write_encryption", fail)
    with pytest.raises(RuntimeError):
        create(ctx, store, bucket)
    assert bucket not in {each["Name"] for each in store.client().list_buckets()["Buckets"]}


# -- endpoints that do not do what they should -------------------------------------------------


Operation = Callable[[Context, Store, str], Any]
OPERATIONS: dict[str, Operation] = {
    "create": lambda ctx, at, name: HANDLER.create(ctx, at.inputs(name)),
    "update": lambda ctx, at, name: HANDLER.update(ctx, name, at.plain(name), at.inputs(name)),
    "delete": lambda ctx, at, name: HANDLER.delete(ctx, name, at.plain(name)),
}


@pytest.fixture
def nobody() -> Iterator[Store]:
    """A port that is taken and refuses: nobody else can come to listen on it meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield Store("nobody", f"http://127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nobody_answers(nobody: Store, ctx: Context, bucket: str, operation: str) -> None:
    with pytest.raises(ResourceError) as caught:
        OPERATIONS[operation](ctx, nobody, bucket)
    told = f"no S3 service answers at {nobody.url} (connection refused): start it, or correct"
    assert str(caught.value).startswith(told)
    assert "endpointUrl" in str(caught.value)


def test_a_store_that_is_down_is_no_error_at_preview_and_refresh(
    nobody: Store, ctx: Context, log: Log, bucket: str
) -> None:
    known = HANDLER.preview(ctx, nobody.inputs(bucket), None)
    assert known["uri"] == f"s3://{bucket}"
    assert "not checked at preview: no S3 service answers" in log.of("warning")[0]
    assert HANDLER.read(ctx, bucket, nobody.plain(bucket)) == {}
    assert "the recorded state is kept" in log.of("warning")[1]
    assert HANDLER.drift(ctx, bucket, nobody.plain(bucket)) == {}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"key": "nokey"}, "knows no such access key (input accessKeyId)"),
        ({"secret": "wrong"}, "does not belong to the access key (input secretAccessKey)"),
    ],
)
def test_wrong_credentials(
    seaweed: Store, ctx: Context, bucket: str, operation: str, change: dict[str, str], told: str
) -> None:
    seaweed.client().create_bucket(Bucket=bucket)
    with pytest.raises(ResourceError) as caught:
        OPERATIONS[operation](ctx, replace(seaweed, **change), bucket)
    assert str(caught.value).startswith(f"{seaweed.url} ")
    assert told in str(caught.value)
    assert change.get("secret", SECRET) not in str(caught.value)


def test_a_key_without_the_right(seaweed: Store, ctx: Context, bucket: str) -> None:
    with pytest.raises(ResourceError, match=rf"may not create bucket {bucket} .*AccessDenied"):
        create(ctx, replace(seaweed, key="reader"), bucket)


def test_wrong_credentials_at_preview_are_a_warning(
    seaweed: Store, ctx: Context, log: Log, bucket: str
) -> None:
    seaweed.client().create_bucket(Bucket=bucket)
    HANDLER.preview(ctx, replace(seaweed, key="nokey").inputs(bucket), None)
    assert "the update fails unless it changes the access" in log.of("warning")[0]


def test_preview_of_a_store_that_is_yet_to_be(ctx: Context, log: Log) -> None:
    new = {"bucket": "models", "endpointUrl": UNKNOWN, "region": UNKNOWN}
    known = HANDLER.preview(ctx, HANDLER.inputs.model_validate(new), None)
    assert known == {"uri": "s3://models", "arn": "arn:aws:s3:::models"}
    assert log.lines == []
    assert HANDLER.preview(ctx, HANDLER.inputs.model_validate({"bucket": UNKNOWN}), None) == {}


def test_no_endpoint_is_aws_whatever_the_shell_says(
    monkeypatch: pytest.MonkeyPatch, nobody: Store
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", nobody.url)
    client = S3Endpoint(None, "eu-central-1", "a", SECRET).client()
    assert client.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"
    assert SECRET not in repr(S3Endpoint(None, "eu-central-1", "a", SECRET))


def test_no_credentials(moto: Store, ctx: Context, bucket: str, tmp_path: Path,
                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    new = HANDLER.inputs.model_validate({"bucket": bucket, "endpointUrl": moto.url})
    with pytest.raises(ResourceError, match="give accessKeyId and secretAccessKey"):
        HANDLER.create(ctx, new)


def test_region(moto: Store, ctx: Context, bucket: str) -> None:
    state = create(ctx, moto, bucket, region="eu-central-1")
    assert drift(ctx, state) == {}
    place = moto.client().get_bucket_location(Bucket=bucket)
    assert place["LocationConstraint"] == "eu-central-1"


def test_a_bucket_is_gone_with_its_store(ctx: Context) -> None:
    """As in a namespace that somebody deleted."""

    def reach(url: str) -> str:
        raise GoneError("there is no Service store in team")

    gone = replace(ctx, reach=reach)
    state = {"bucket": "a-bucket", "endpointUrl": "http://store.team.svc:8333", "claim": "c"}
    assert HANDLER.read(gone, "a-bucket", state) is None
    HANDLER.delete(gone, "a-bucket", state)
