"""An S3 store of four processes: OpenStack Swift, on one folder, each thing kept once.

Good for a machine and for tests. Its tenants are apart: workers keep data and checkpoints there,
MLflow its artifacts, and nobody has the keys of both.
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import Any

from infra.local.parts import Part
from infra.local.settings import BACKENDS, BUCKETS, STORE, Settings, s3
from infra.local.waiting import answers
from lcm_lora.errors import UserError
from lcm_lora.files import write_bytes

_DISK = "disk"


def parts(folder: Path, settings: Settings) -> list[Part]:
    """Return how the store's servers are started."""
    return [_part(folder, settings, name) for name in (*BACKENDS, STORE)]


def make(folder: Path, settings: Settings) -> None:
    """Write the configuration of the store, and its place on disk.

    Raises:
        UserError: The file system cannot hold it.
    """
    place = folder / STORE
    disk = place / "disks" / _DISK
    disk.mkdir(parents=True, exist_ok=True)
    _check_attributes(disk)
    _write(place / "swift.conf", _SWIFT.format(paths=settings.secrets.paths))
    for name in BACKENDS:
        kind = _kind(name)
        head = _head(place, settings.ports[name])
        _write(place / f"{kind}.conf", head + _BACKEND.format(kind=kind, place=place))
        if not (place / f"{kind}.ring.gz").exists():
            _make_ring(place / f"{kind}.ring.gz", settings.ports[name])
    tenants = "".join(
        f"user_{tenant}_{tenant} = {key} .admin\n"
        for tenant, key in settings.secrets.tenants.items()
    )
    _write(place / "proxy.conf", _head(place, settings.ports[STORE]) + _PROXY + tenants)


def make_buckets(settings: Settings) -> None:
    """Make each tenant's bucket, in a store that answers; one that is there stays."""
    for tenant, bucket in BUCKETS.items():
        client = _client(settings, tenant)
        if bucket not in {there["Name"] for there in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=bucket)


def _client(settings: Settings, tenant: str) -> Any:
    from botocore.config import Config
    from botocore.session import Session

    access = s3(settings, tenant)
    return Session().create_client(
        "s3",
        endpoint_url=access["AWS_ENDPOINT_URL"],
        region_name=access["AWS_DEFAULT_REGION"],
        aws_access_key_id=access["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=access["AWS_SECRET_ACCESS_KEY"],
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _part(folder: Path, settings: Settings, name: str) -> Part:
    kind = _kind(name)
    program = Path(sys.executable).parent / f"swift-{kind}-server"
    place = folder / STORE
    return Part(
        name=name,
        command=(sys.executable, str(program), str(place / f"{kind}.conf"), "--verbose"),
        environment={},
        place=place,
        answers=lambda born: answers(f"{settings.address(name)}/healthcheck"),
    )


def _kind(name: str) -> str:
    """Return what Swift calls a part."""
    return "proxy" if name == STORE else name.removeprefix(f"{STORE}-")


def _head(place: Path, port: int) -> str:
    return _HEAD.format(place=place, port=port, user=pwd.getpwuid(os.geteuid()).pw_name)


def _write(path: Path, text: str) -> None:
    write_bytes(path, text.encode())
    path.chmod(0o600)


def _make_ring(path: Path, port: int) -> None:
    """Write the map from names to places: all of them are one folder behind one port."""
    from swift.common.ring import RingBuilder

    server = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port}
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    builder.add_dev({"id": 0, "device": _DISK, "weight": 1.0, "meta": "", **server})
    builder.rebalance()
    builder.get_ring().save(str(path))


def _check_attributes(disk: Path) -> None:
    try:
        os.setxattr(disk, "user.lcm-lora", b"1")
    except OSError as error:
        raise UserError(
            f"{disk}: its file system keeps no extended attributes ({error.strerror}), which the "
            "store needs; give a --folder elsewhere"
        ) from None


_SWIFT = """\
[swift-hash]
swift_hash_path_suffix = {paths}
"""

_HEAD = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {place}
devices = {place}/disks
mount_check = false
disable_fallocate = true
workers = 0
log_level = WARNING
client_timeout = 120
"""

# The patience of a disk of a cluster is too short for a machine that trains beside it: what is not
# entered into a list in time would be missing there.
_BACKEND = """\
container_update_timeout = 60
conn_timeout = 10
node_timeout = 60
[pipeline:main]
pipeline = healthcheck same_user {kind}-server
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:same_user]
paste.filter_factory = infra.local.same_user:filter_factory
[app:{kind}-server]
use = egg:swift#{kind}
recon_cache_path = {place}
[{kind}-updater]
recon_cache_path = {place}
"""

_PROXY = """\
expose_info = false
[pipeline:main]
pipeline = catch_errors healthcheck s3api tempauth copy slo dlo symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 10
node_timeout = 60
recoverable_node_timeout = 60
# There is no other copy to ask, so a server that came back is asked at once.
error_suppression_interval = 0.5
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = no
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:symlink]
use = egg:swift#symlink
[filter:tempauth]
use = egg:swift#tempauth
"""
