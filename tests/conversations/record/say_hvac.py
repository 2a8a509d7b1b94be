"""What a workload does with hvac. Run by the recorder: see ../README.md.

ADDRESS is the recording wire; TOKEN_* and the like are of the recording's cast.
"""

import importlib.metadata
import os

import hvac
import requests

print("hvac", importlib.metadata.version("hvac"))

vault = hvac.Client(url=os.environ["ADDRESS"])


def cast(name):
    return os.environ[name]


def be(name):
    vault.token = cast(name) if name else None


def call(what, *args, **kwargs):
    """A refusal is an answer like any other."""
    try:
        return what(*args, **kwargs)
    except (hvac.exceptions.VaultError, requests.exceptions.RequestException):
        return None


def raw(method, path, **kwargs):
    return call(vault.adapter.request, method, path, **kwargs)


kv1, kv2 = vault.secrets.kv.v1, vault.secrets.kv.v2
tokens, system = vault.auth.token, vault.sys

be(None)
call(system.read_health_status, method="HEAD")
call(system.read_health_status, method="GET")
call(system.read_health_status, method="GET", standby_ok=True, sealed_code=299)
call(system.read_seal_status)
call(system.read_leader_status)
call(system.is_initialized)
call(tokens.lookup_self)
call(kv2.read_secret_version, "desk/one", raise_on_deleted_version=True)

be("TOKEN_APP")
call(vault.is_authenticated)
for name in ["one", "odd", "twice", "deleted", "destroyed", "absent", "folder/inner", "folder", "private/one", "a b+c"]:
    call(kv2.read_secret_version, f"desk/{name}", raise_on_deleted_version=True)
for version in [1, 2, 9, 0]:
    call(kv2.read_secret_version, "desk/twice", version=version, raise_on_deleted_version=True)
call(kv2.read_secret_version, "desk/twice", version="two", raise_on_deleted_version=True)
for name in ["one", "twice", "deleted", "destroyed", "absent", "private/one"]:
    call(kv2.read_secret_metadata, f"desk/{name}")
for name in ["desk", "desk/", "desk/folder", "desk/absent", "desk/private"]:
    call(kv2.list_secrets, name)
call(vault.list, "secret/metadata/desk")
call(vault.read, "secret/data/desk/one")
call(vault.read, "secret/data/desk/")
call(kv1.read_secret, "desk/one", mount_point="plain")
call(kv1.read_secret, "desk/absent", mount_point="plain")
call(kv1.list_secrets, "desk", mount_point="plain")
call(kv1.list_secrets, "desk/absent", mount_point="plain")

lease = call(vault.secrets.database.generate_credentials, "orders")
lease = lease["lease_id"]
call(system.read_lease, lease)
call(system.renew_lease, lease)
call(system.renew_lease, lease, increment=600)
call(system.read_lease, "database/creds/orders/no-such-lease")
call(system.revoke_lease, lease)
call(system.read_lease, lease)

call(tokens.lookup_self)
call(tokens.lookup, cast("TOKEN_NARROW"))
call(tokens.lookup, cast("TOKEN_DEAD"))
call(tokens.lookup, cast("TOKEN_UNKNOWN"))
call(tokens.lookup_accessor, cast("ACCESSOR_NARROW"))
call(tokens.lookup_accessor, cast("ACCESSOR_DEAD"))
call(system.get_capabilities, ["secret/data/desk/one", "secret/metadata/desk/", "secret/data/desk/private/one", "sys/mounts"])
call(system.get_capabilities, ["secret/data/desk/one"])
call(system.get_capabilities, ["secret/data/desk/one"], token=cast("TOKEN_NARROW"))
call(system.get_capabilities, ["secret/data/desk/one"], accessor=cast("ACCESSOR_NARROW"))
call(system.get_capabilities, [])
call(tokens.renew_self)
call(tokens.renew_self, increment="1h")
call(tokens.renew_self, increment="soon")
call(tokens.lookup_self)

child = call(tokens.create, ttl="10m", policies=["default"])
child = child["auth"]["client_token"] if child else cast("TOKEN_UNKNOWN")
call(tokens.lookup, child)
call(tokens.renew, child)
call(tokens.revoke, child)
call(tokens.lookup, child)
call(tokens.create, ttl="10m", meta={"shift": "late", "desk": "<2>"}, display_name="desk & co")
call(tokens.create, ttl="10m", role_name="orders")
call(tokens.create, ttl="10m", role_name="no-such-role")
call(tokens.create, ttl="10m", policies=["billing"])
call(tokens.create, ttl="10m", no_parent=True)
call(tokens.create, ttl="10m", num_uses=2)
call(tokens.create, ttl="10m", no_default_policy=True, policies=["orders"])
call(tokens.create, ttl="soon")
call(tokens.create_orphan, ttl="10m")
call(tokens.renew, cast("TOKEN_NARROW"))
call(tokens.renew_accessor, cast("ACCESSOR_NARROW"))
call(tokens.revoke, cast("TOKEN_FALLEN"))
call(tokens.revoke_accessor, cast("ACCESSOR_DROPPED"))

call(vault.auth.approle.login, role_id=cast("APPROLE_ROLE_ID"), secret_id=cast("APPROLE_SECRET_ID"), use_token=False)
call(vault.auth.approle.login, role_id=cast("APPROLE_ROLE_ID"), secret_id="wrong", use_token=False)
call(vault.auth.approle.login, role_id="wrong", secret_id=cast("APPROLE_SECRET_ID"), use_token=False)
call(vault.auth.userpass.login, "clerk", "not-a-secret", use_token=False)

call(system.list_mounted_secrets_engines)
call(system.list_policies)
call(vault.read, "no-such-mount/x")
call(vault.read, "secret/no-such-path")
call(vault.read, "auth/token/create")
for malformed in [
    '{"paths": [', "[]", "null", "{", '{"paths" []}', '{"paths": tru}', '{"path": "a"} x', "{'path'}", '"text"', "3",
    '{"path": "a", "path": "sys/mounts"}', '{"path": "a",}', '{"path": 01}', '{"path": 1.}', '{"path": "\\x"}',
    '{"path": "a', '{"path": "a\nb"}', '{"paths": [1 2]}', '{"path": 3}', '{"paths": {"a": 1}}', "&", "",
]:
    raw("post", "/v1/sys/capabilities-self", data=malformed.encode())
raw("post", "/v1/sys/capabilities-self", data={"path": "sys/mounts"})
raw("post", "/v1/auth/token/lookup-accessor", json={})
raw("post", "/v1/auth/token/lookup-self")
raw("post", "/v1/sys/leases/lookup", json={})
raw("post", "/v1/sys/leases/renew", json={"lease_id": ""})
raw("put", "/v1/auth/token/renew-self", data=b"increment")
raw("get", "/v1/secret/metadata/desk?list=perhaps")
raw("get", "/v1/secret/data/desk/twice?version=1&version=2")
raw("get", "/v1/secret/data/desk/%74wice")
raw("post", "/v1/secret/data/desk/", json={})
raw("patch", "/v1/secret/data/desk/one", json={"data": {}})
raw("options", "/v1/secret/data/desk/one")
raw("head", "/v1/secret/data/desk/one")
raw("brew", "/v1/secret/data/desk/one")
raw("get", "/v1/sys/internal/ui/mounts")
raw("get", "/v1/sys/internal/ui/mounts/secret/desk/one")
raw("get", "/v1/sys/internal/ui/mounts/plain/desk/one")
raw("get", "/v1/sys/internal/ui/mounts/auth/token")
raw("get", "/v1/sys/internal/ui/mounts/no-such-mount/x")
raw("post", "/v1/sys/seal-status")
raw("get", "/v1/sys/health?activecode=2x")
raw("get", "/v1/sys/health?activecode=218")
raw("get", "/v1")
raw("get", "/elsewhere")

call(kv2.create_or_update_secret, "elsewhere/written", {"color": "blue"})
call(kv2.create_or_update_secret, "elsewhere/written", {"color": "red"}, cas=0)
call(kv2.patch, "elsewhere/written", {"size": "small"})
call(kv2.delete_latest_version_of_secret, "elsewhere/written")
call(kv2.undelete_secret_versions, "elsewhere/written", [1])
call(kv2.destroy_secret_versions, "elsewhere/written", [1])
call(kv2.update_metadata, "elsewhere/written", max_versions=3)
call(kv2.delete_metadata_and_all_versions, "elsewhere/written")
call(kv2.create_or_update_secret, "desk/one", {"color": "blue"})
call(vault.read, "secret/data/desk/one", wrap_ttl="60s")

be("TOKEN_NARROW")
call(kv2.read_secret_version, "desk/one", raise_on_deleted_version=True)
call(kv2.read_secret_version, "desk/absent", raise_on_deleted_version=True)
call(kv2.list_secrets, "desk")
call(vault.secrets.database.generate_credentials, "orders")
call(tokens.lookup_self)
call(tokens.lookup, cast("TOKEN_APP"))
call(tokens.create, ttl="10m")
call(system.read_lease, lease)

for name in ["TOKEN_DEAD", "TOKEN_UNKNOWN", "TOKEN_COUNTED"]:
    be(name)
    call(kv2.read_secret_version, "desk/one", raise_on_deleted_version=True)
    call(tokens.lookup_self)

be("TOKEN_LEAVER")
call(tokens.lookup_self)
call(tokens.revoke_self)
call(tokens.lookup_self)
call(tokens.revoke_self)
