#!/bin/sh
# What a workload does with the command line. Run by the recorder: see ../README.md.
# BAO_ADDR is the recording wire; TOKEN_* and the like are of the recording's cast.

echo "bao $(bao version | sed 's/^OpenBao v\([^ ]*\).*/\1/')"

as() { BAO_TOKEN=$1 && export BAO_TOKEN; }
# A refusal is an answer like any other.
run() { bao "$@" >/dev/null 2>&1 || true; }
give() { bao "$@" 2>/dev/null || true; }

unset BAO_TOKEN
run status
run read sys/health
run kv get secret/desk/one
run token lookup

as "$TOKEN_APP"
run status
run kv get secret/desk/one
run kv get secret/desk/odd
run kv get secret/desk/twice
run kv get -version=1 secret/desk/twice
run kv get -version=2 secret/desk/twice
run kv get -version=9 secret/desk/twice
run kv get -mount=secret desk/twice
run kv get secret/desk/deleted
run kv get secret/desk/destroyed
run kv get secret/desk/absent
run kv get secret/desk/folder/inner
run kv get secret/desk/folder
run kv metadata get secret/desk/twice
run kv metadata get secret/desk/deleted
run kv metadata get secret/desk/absent
run kv list secret/desk
run kv list secret/desk/folder
run kv list secret/desk/absent
run kv get plain/desk/one
run kv get plain/desk/absent
run kv list plain/desk
run kv list plain/desk/absent
run read secret/data/desk/one
run read secret/desk/one
run list secret/metadata/desk
run list secret/data/desk
run scan secret/metadata/desk
run kv get secret/desk/private/one
run kv list secret/desk/private
run kv metadata get secret/desk/private/one

lease=$(give read -field=lease_id database/creds/orders)
run lease lookup "$lease"
run lease renew "$lease"
run lease renew -increment=600 "$lease"
run lease lookup database/creds/orders/no-such-lease
run lease renew database/creds/orders/no-such-lease
run lease revoke "$lease"
run lease lookup "$lease"
run lease renew "$lease"

run token lookup
run token lookup "$TOKEN_NARROW"
run token lookup -accessor "$ACCESSOR_NARROW"
run token lookup "$TOKEN_DEAD"
run token lookup "$TOKEN_UNKNOWN"
run token lookup -accessor "$ACCESSOR_DEAD"
run token capabilities secret/data/desk/one
run token capabilities secret/metadata/desk/
run token capabilities secret/data/desk/private/one
run token capabilities sys/mounts
run token capabilities "$TOKEN_NARROW" secret/data/desk/one
run token capabilities "$TOKEN_DEAD" secret/data/desk/one
run token renew
run token renew -increment=1h
run token lookup

child=$(give token create -ttl=10m -policy=default -field=token)
run token lookup "$child"
run token renew "$child"
as "$child"
run token lookup
run kv get secret/desk/one
as "$TOKEN_APP"
run token revoke "$child"
run token lookup "$child"
run token create -ttl=10m -display-name=desk -metadata=shift=late
run token create -ttl=10m -role=orders
run token create -ttl=10m -role=no-such-role
run token create -ttl=10m -orphan
run token create -ttl=10m -policy=billing
run token create -ttl=10m -explicit-max-ttl=20m -renewable=false
run token create -ttl=10m -use-limit=2
run token create -ttl=10m -type=batch
run token create -ttl=10m -period=5m
run token revoke "$TOKEN_FALLEN"
run token revoke -accessor "$ACCESSOR_DROPPED"

run write auth/approle/login role_id="$APPROLE_ROLE_ID" secret_id="$APPROLE_SECRET_ID"
run write auth/approle/login role_id="$APPROLE_ROLE_ID" secret_id=wrong
run write auth/approle/login role_id="$APPROLE_ROLE_ID"
run login -no-store -method=userpass username=clerk password=not-a-secret

run read sys/mounts
run secrets list
run policy list
run policy read default
run read no-such-mount/x
run read secret/no-such-path
run read auth/token/lookup-self
run read auth/token/create
run read elsewhere/none

run kv put secret/elsewhere/written color=blue
run kv get secret/elsewhere/written
run kv patch secret/elsewhere/written size=small
run kv delete secret/elsewhere/written
run kv undelete -versions=1 secret/elsewhere/written
run kv destroy -versions=1 secret/elsewhere/written
run kv metadata put -max-versions=3 secret/elsewhere/written
run kv metadata delete secret/elsewhere/written
run kv put secret/desk/one color=blue
run kv get -wrap-ttl=60s secret/desk/one

as "$TOKEN_NARROW"
run kv get secret/desk/one
run kv list secret/desk
run read database/creds/orders
run token capabilities secret/data/desk/one
run token lookup "$TOKEN_APP"
run token create -ttl=10m

as "$TOKEN_DEAD"
run kv get secret/desk/one
run token lookup
run read secret/data/desk/one

as "$TOKEN_UNKNOWN"
run kv get secret/desk/one
run token lookup

as "$TOKEN_COUNTED"
run read secret/data/desk/one

as "$TOKEN_LEAVER"
run token lookup
run token revoke -self
run token lookup
