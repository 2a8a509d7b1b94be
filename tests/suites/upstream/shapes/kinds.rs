//! Everything that is mirrored, by the request that brings it, with what must be in its good answer.

use serde_json::{Value, json};

use super::{
    spoilt::{self, Around, Spoilt, field, of_json},
    stand_in::Asked,
};

/// One kind of path.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Its request.
    pub(super) asked: Asked,
    /// Good answers, as they are around their data.
    around: Around,
    /// What has it asked.
    pub(super) drive: Drive,
    /// What is written at the primary before, so that it is asked.
    pub(super) touch: Touch,
    /// Beginnings of the names of all that comes of its answer, as [`super::picture`] has them.
    pub(super) brings: &'static [&'static str],
    /// The same of what must be verified all the same.
    pub(super) spares: &'static [&'static str],
    /// What the status names.
    pub(super) named: &'static str,
    /// Fields that a good answer must have, by pointers.
    fields: &'static [&'static str],
    /// What is wrong with it in ways of its own.
    own: Vec<Spoilt>,
    /// Whether 204 is a good answer: that there is nothing.
    may_be_nothing: bool,
}

/// What has something asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Drive {
    Authority,
    Mirror(&'static str),
    Token,
}

/// What is written before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Touch {
    Nothing,
    /// Another version of a key, which is deleted at once.
    Deleted(&'static str),
    /// Its lease is ended.
    Lease,
    /// Another version of a key.
    Write(&'static str),
}

impl Kind {
    fn new(
        name: &'static str,
        method: &'static str,
        path: &str,
        around: Around,
        drive: Drive,
    ) -> Self {
        let path = path.to_owned();
        Self {
            name,
            asked: Asked { method, path },
            around,
            drive,
            touch: Touch::Nothing,
            brings: &[],
            spares: &[],
            named: "",
            fields: &[],
            own: Vec::new(),
            may_be_nothing: false,
        }
    }

    /// Every way in which its answer is spoilt.
    pub(super) fn spoilt(&self) -> Vec<&Spoilt> {
        self.own.iter().collect()
    }

    /// With all that is wrong in it.
    fn with(mut self, own: Vec<Spoilt>) -> Self {
        let fields = self.fields.iter().flat_map(|pointer| field(pointer));
        let mut all = spoilt::all(self.around);
        all.extend(fields);
        all.extend(own);
        if !self.may_be_nothing {
            all.push(spoilt::nothing());
        }
        self.own = all;
        self
    }
}

const METADATA: &[&str] = &[
    "/data/cas_required",
    "/data/created_time",
    "/data/current_version",
    "/data/custom_metadata",
    "/data/delete_version_after",
    "/data/max_versions",
    "/data/oldest_version",
    "/data/updated_time",
    "/data/versions",
];

const VERSION: &[&str] = &[
    "/data/data",
    "/data/metadata",
    "/data/metadata/created_time",
    "/data/metadata/custom_metadata",
    "/data/metadata/deletion_time",
    "/data/metadata/destroyed",
    "/data/metadata/version",
];

const LOOK_UP: &[&str] = &[
    "/data/accessor",
    "/data/creation_time",
    "/data/creation_ttl",
    "/data/display_name",
    "/data/entity_id",
    "/data/expire_time",
    "/data/explicit_max_ttl",
    "/data/meta",
    "/data/num_uses",
    "/data/orphan",
    "/data/path",
    "/data/policies",
    "/data/ttl",
    "/data/type",
];

/// Values of KV mounts.
pub(super) fn of_kv() -> Vec<Kind> {
    let kind = |name, method, path: &str, mirror| {
        Kind::new(name, method, path, Around::Envelope, Drive::Mirror(mirror))
    };
    vec![
        Kind {
            touch: Touch::Write("secret/data/shop/a"),
            brings: &["record secret/data/shop/a", "key secret/data/shop/a"],
            spares: &["record secret/data/shop/b"],
            named: "secret/data/shop/a",
            fields: VERSION,
            ..kind(
                "a value of KV v2",
                "GET",
                "secret/data/shop/a",
                "secret/data/shop/*",
            )
        }
        .with(vec![
            of_json("another version", |all| {
                all["data"]["metadata"]["version"] = json!(1)
            }),
            of_json("a destroyed one", |all| {
                all["data"]["metadata"]["destroyed"] = json!(true)
            }),
            of_json("no moment", |all| {
                all["data"]["metadata"]["created_time"] = json!("now")
            }),
        ]),
        Kind {
            touch: Touch::Deleted("secret/data/shop/gone"),
            brings: &["record secret/data/shop/gone", "key secret/data/shop/gone"],
            spares: &["record secret/data/shop/b"],
            named: "secret/data/shop/gone",
            fields: VERSION,
            ..kind(
                "a deleted version",
                "GET",
                "secret/data/shop/gone",
                "secret/data/shop/*",
            )
        }
        .with(vec![
            of_json("a value in it", |all| {
                all["data"]["data"] = json!({ "a": 1 })
            }),
            of_json("not deleted", |all| {
                all["data"]["metadata"]["deletion_time"] = json!("")
            }),
            of_json("another version", |all| {
                all["data"]["metadata"]["version"] = json!(1)
            }),
        ]),
        Kind {
            brings: &["record secret/data/shop/", "key secret/data/shop/"],
            named: "secret/detailed-metadata/shop/",
            fields: &["/data/keys", "/data/key_info"],
            ..kind(
                "a SCAN of detailed metadata",
                "SCAN",
                "secret/detailed-metadata/shop/",
                "secret/data/shop/*",
            )
        }
        .with(vec![
            of_json("a key that is a number", |all| {
                all["data"]["keys"][0] = json!(1)
            }),
            of_json("a key without a name", |all| {
                all["data"]["keys"][0] = json!("")
            }),
            of_json("metadata of a key that is not listed", |all| {
                all["data"]["key_info"]["other"] = all["data"]["key_info"]["b"].clone();
            }),
        ]),
        of_listed_metadata(),
        Kind {
            brings: &["record secret/data/one", "key secret/data/one"],
            named: "secret/data/one",
            fields: METADATA,
            ..kind(
                "metadata of KV v2",
                "GET",
                "secret/metadata/one",
                "secret/data/one",
            )
        }
        .with(vec![
            of_json("an older current version", |all| {
                all["data"]["current_version"] = json!(0)
            }),
            of_json("a version that is a list", |all| {
                all["data"]["versions"]["1"] = json!([])
            }),
        ]),
        Kind {
            brings: &["record listed/data/", "key listed/data/"],
            named: "listed/metadata/",
            fields: &["/data/keys"],
            ..kind(
                "a LIST of KV v2",
                "LIST",
                "listed/metadata/",
                "listed/data/*",
            )
        }
        .with(of_names()),
        Kind {
            brings: &["record listed/data/a", "key listed/data/a"],
            spares: &["record listed/data/b"],
            named: "listed/data/a",
            fields: METADATA,
            ..kind(
                "metadata beside a LIST",
                "GET",
                "listed/metadata/a",
                "listed/data/*",
            )
        }
        .with(Vec::new()),
        Kind {
            brings: &["record kv1/a", "key kv1/a"],
            spares: &["record kv1/b"],
            named: "kv1/a",
            ..kind("a value of KV v1", "GET", "kv1/a", "kv1/*")
        }
        .with(Vec::new()),
        Kind {
            brings: &["record kv1/", "key kv1/"],
            named: "kv1/",
            fields: &["/data/keys"],
            ..kind("a SCAN of KV v1", "SCAN", "kv1/", "kv1/*")
        }
        .with(of_names()),
        Kind {
            brings: &["record kv1listed/", "key kv1listed/"],
            named: "kv1listed/",
            fields: &["/data/keys"],
            ..kind("a LIST of KV v1", "LIST", "kv1listed/", "kv1listed/*")
        }
        .with(of_names()),
    ]
}

/// One key's metadata in a SCAN: the other keys count.
fn of_listed_metadata() -> Kind {
    let spoil = |name: &'static str, change: fn(&mut Value)| {
        of_json(name, move |all| change(&mut all["data"]["key_info"]["a"]))
    };
    let mut own = vec![
        spoil("null", |key| *key = Value::Null),
        spoil("a list", |key| *key = json!([])),
        spoil("a text", |key| *key = json!("metadata")),
        spoil("an empty object", |key| *key = json!({})),
        spoil("an older current version", |key| {
            key["current_version"] = json!(0)
        }),
        spoil("a version that is none", |key| {
            key["versions"] = json!({ "one": {} })
        }),
        spoil("a version of nothing", |key| {
            key["versions"]["1"] = json!({})
        }),
        spoil("a version that is null", |key| {
            key["versions"]["1"] = Value::Null
        }),
        spoil("a time that is none", |key| {
            key["updated_time"] = json!("today")
        }),
        of_json("none at all", |all| {
            all["data"]["key_info"].as_object_mut().unwrap().remove("a");
        }),
    ];
    for pointer in METADATA {
        let pointer = pointer.replacen("/data", "/data/key_info/a", 1);
        own.extend(field(&pointer));
    }
    Kind {
        brings: &["record secret/data/shop/a", "key secret/data/shop/a"],
        spares: &["record secret/data/shop/b"],
        named: "secret/data/shop/a",
        own,
        ..Kind::new(
            "one key in a SCAN",
            "SCAN",
            "secret/detailed-metadata/shop/",
            Around::Envelope,
            Drive::Mirror("secret/data/shop/*"),
        )
    }
}

fn of_names() -> Vec<Spoilt> {
    vec![
        of_json("a name that is a number", |all| {
            all["data"]["keys"][0] = json!(1)
        }),
        of_json("a name that is null", |all| {
            all["data"]["keys"][0] = Value::Null
        }),
        of_json("an empty name", |all| all["data"]["keys"][0] = json!("")),
        of_json("names as one text", |all| {
            all["data"]["keys"] = json!("a,b")
        }),
        of_json("names by their numbers", |all| {
            all["data"]["keys"] = json!({ "0": "a" })
        }),
        of_json("no names", |all| all["data"]["keys"] = json!([])),
    ]
}

/// Paths that are kept as they answer, and leases.
pub(super) fn of_paths() -> Vec<Kind> {
    let kind = |name, path: &'static str, around| {
        Kind::new(name, "GET", path, around, Drive::Mirror(path))
    };
    let lease = "database/creds/orders";
    vec![
        Kind {
            brings: &["record secret/config"],
            named: "secret/config",
            ..kind("an enveloped path", "secret/config", Around::Envelope)
        }
        .with(Vec::new()),
        Kind {
            brings: &["record pki/ca/pem"],
            named: "pki/ca/pem",
            ..kind("a path of text", "pki/ca/pem", Around::Text)
        }
        .with(Vec::new()),
        Kind {
            brings: &["record identity/oidc/.well-known/keys"],
            named: "identity/oidc/.well-known/keys",
            ..kind("a path of JSON", "identity/oidc/.well-known/keys", Around::Object)
        }
        .with(vec![of_json("an envelope", |all| {
            *all = json!({ "request_id": "r", "lease_id": "", "renewable": false, "lease_duration": 0,
                "data": { "keys": [] }, "wrap_info": null, "warnings": null, "auth": null });
        })]),
        Kind {
            touch: Touch::Lease,
            brings: &["lease "],
            named: lease,
            ..kind("a lease", lease, Around::Lease)
        }
        .with(Vec::new()),
        Kind {
            brings: &["lease "],
            named: "sys/leases/lookup",
            fields: &["/data/id", "/data/ttl", "/data/renewable", "/data/expire_time"],
            ..Kind::new(
                "a look-up of a lease",
                "POST",
                "sys/leases/lookup",
                Around::Envelope,
                Drive::Mirror(lease),
            )
        }
        .with(vec![of_json("of another lease", |all| {
            all["data"]["id"] = json!("database/creds/orders/another");
        })]),
    ]
}

/// What decisions go by.
pub(super) fn of_authority(entity: &str, group: &str) -> Vec<Kind> {
    let all = &["cluster", "policies", "workload"][..];
    let kind = |name, method, path: &str| {
        Kind::new(name, method, path, Around::Envelope, Drive::Authority)
    };
    let whole = |name, method, path: &'static str| Kind {
        brings: all,
        named: path,
        ..kind(name, method, path)
    };
    let bare = |name, path: &'static str| Kind {
        around: Around::Object,
        ..whole(name, "GET", path)
    };
    let mount = |at: &'static str| {
        vec![
            of_json("a mount that is null", move |all| {
                all["data"][at] = Value::Null
            }),
            of_json("a mount without its type", move |all| {
                all["data"][at].as_object_mut().unwrap().remove("type");
            }),
            of_json("a mount without its accessor", move |all| {
                all["data"][at].as_object_mut().unwrap().remove("accessor");
            }),
            of_json("no mounts", |all| all["data"] = json!({})),
            of_json("no path", |all| {
                all["data"]["path"] = all["data"]["token/"].clone()
            }),
        ]
    };
    vec![
        Kind {
            fields: &[
                "/sealed",
                "/initialized",
                "/cluster_id",
                "/cluster_name",
                "/version",
            ],
            ..bare("the seal's status", "sys/seal-status")
        }
        .with(vec![
            of_json("a seal that is closed", |all| all["sealed"] = json!(true)),
            of_json("not initialized", |all| all["initialized"] = json!(false)),
        ]),
        Kind {
            fields: &["/sealed", "/cluster_id", "/replication_performance_mode"],
            ..bare("health", "sys/health")
        }
        .with(vec![of_json("another cluster", |all| {
            all["cluster_id"] = json!("other")
        })]),
        whole("mounts", "GET", "sys/mounts").with(mount("secret/")),
        whole("auth mounts", "GET", "sys/auth").with(mount("token/")),
        Kind {
            fields: &["/data/default_lease_ttl", "/data/max_lease_ttl"],
            ..whole("a mount's tune", "GET", "sys/mounts/auth/token/tune")
        }
        .with(Vec::new()),
        Kind {
            brings: &["polic", "workload"],
            spares: &["cluster"],
            fields: &["/data/key_info"],
            ..whole("policies", "LIST", "sys/policies/detailed/acl/")
        }
        .with(vec![of_json("no policies", |all| {
            all["data"] = json!({ "key_info": {}, "keys": [] })
        })]),
        Kind {
            brings: &["policy orders", "workload"],
            spares: &["cluster"],
            fields: &["/data/key_info/orders/name", "/data/key_info/orders/policy"],
            ..whole(
                "a policy among the others",
                "LIST",
                "sys/policies/detailed/acl/",
            )
        }
        .with(vec![
            of_json("a policy of another name", |all| {
                all["data"]["key_info"]["orders"]["name"] = json!("billing");
            }),
            of_json("a policy that expires some day", |all| {
                all["data"]["key_info"]["orders"]["expiration"] = json!("some day");
            }),
        ]),
        Kind {
            brings: &["workload"],
            spares: &["cluster", "policies"],
            named: "auth/token/roles/orders",
            fields: &[
                "/data/allowed_entity_aliases",
                "/data/allowed_policies",
                "/data/allowed_policies_glob",
                "/data/disallowed_policies",
                "/data/disallowed_policies_glob",
                "/data/name",
                "/data/orphan",
                "/data/path_suffix",
                "/data/renewable",
                "/data/token_explicit_max_ttl",
                "/data/token_no_default_policy",
                "/data/token_period",
                "/data/token_type",
            ],
            ..kind("a token role", "GET", "auth/token/roles/orders")
        }
        .with(vec![of_json("of another role", |all| {
            all["data"]["name"] = json!("billing")
        })]),
        Kind {
            brings: &["workload"],
            spares: &["cluster", "policies"],
            named: "auth/token/lookup-accessor",
            fields: LOOK_UP,
            ..kind(
                "a look-up of a standing token",
                "POST",
                "auth/token/lookup-accessor",
            )
        }
        .with(vec![of_json("of another token", |all| {
            all["data"]["accessor"] = json!("ic2DXMpznvxubkUZ1t3GOETR");
        })]),
        Kind {
            brings: &["workload", "identity"],
            spares: &["cluster", "policies"],
            named: "identity/entity/id/",
            fields: &[
                "/data/aliases",
                "/data/direct_group_ids",
                "/data/disabled",
                "/data/id",
                "/data/inherited_group_ids",
                "/data/metadata",
                "/data/name",
                "/data/policies",
            ],
            ..kind("an entity", "GET", &format!("identity/entity/id/{entity}"))
        }
        .with(vec![
            of_json("of another entity", |all| {
                all["data"]["id"] = json!("other")
            }),
            of_json("an alias without a mount", |all| {
                let alias = all["data"]["aliases"][0].as_object_mut();
                alias.unwrap().remove("mount_accessor");
            }),
        ]),
        Kind {
            brings: &["workload", "identity"],
            spares: &["cluster", "policies"],
            named: "identity/group/id/",
            fields: &["/data/id", "/data/metadata", "/data/name", "/data/policies"],
            ..kind("a group", "GET", &format!("identity/group/id/{group}"))
        }
        .with(vec![of_json("of another group", |all| {
            all["data"]["id"] = json!("other")
        })]),
    ]
}

/// What logins by AppRole go by.
pub(super) fn of_approle() -> Vec<Kind> {
    let kind = |name, method, path: &'static str| Kind {
        brings: &["AppRole", "secret id"],
        spares: &["cluster", "policies", "workload"],
        named: path,
        ..Kind::new(name, method, path, Around::Envelope, Drive::Authority)
    };
    vec![
        Kind {
            fields: &[
                "/data/bind_secret_id",
                "/data/local_secret_ids",
                "/data/secret_id_bound_cidrs",
                "/data/secret_id_num_uses",
                "/data/secret_id_ttl",
                "/data/token_bound_cidrs",
                "/data/token_explicit_max_ttl",
                "/data/token_max_ttl",
                "/data/token_no_default_policy",
                "/data/token_num_uses",
                "/data/token_period",
                "/data/token_policies",
                "/data/token_strictly_bind_ip",
                "/data/token_ttl",
                "/data/token_type",
            ],
            ..kind("an AppRole role", "GET", "auth/approle/role/ci")
        }
        .with(Vec::new()),
        Kind {
            fields: &["/data/role_id"],
            ..kind("a role id", "GET", "auth/approle/role/ci/role-id")
        }
        .with(vec![of_json("an empty one", |all| {
            all["data"]["role_id"] = json!("")
        })]),
        Kind {
            fields: &[
                "/data/default_lease_ttl",
                "/data/max_lease_ttl",
                "/data/token_type",
            ],
            ..kind(
                "an auth mount's tune",
                "GET",
                "sys/mounts/auth/approle/tune",
            )
        }
        .with(Vec::new()),
        Kind {
            may_be_nothing: true,
            fields: &[
                "/data/cidr_list",
                "/data/expiration_time",
                "/data/metadata",
                "/data/secret_id_accessor",
                "/data/secret_id_num_uses",
                "/data/token_bound_cidrs",
            ],
            ..kind(
                "a secret id",
                "POST",
                "auth/approle/role/ci/secret-id-accessor/lookup",
            )
        }
        .with(vec![
            of_json("of another one", |all| {
                all["data"]["secret_id_accessor"] = json!("other")
            }),
            of_json("an end that is none", |all| {
                all["data"]["expiration_time"] = json!("soon")
            }),
        ]),
        Kind {
            fields: &["/data/keys"],
            ..kind("second factors", "LIST", "identity/mfa/login-enforcement/")
        }
        .with(of_names()),
        Kind {
            fields: &[
                "/data/auth_method_accessors",
                "/data/auth_method_types",
                "/data/identity_entity_ids",
                "/data/identity_group_ids",
            ],
            ..kind(
                "a second factor",
                "GET",
                "identity/mfa/login-enforcement/people",
            )
        }
        .with(Vec::new()),
    ]
}

/// Policies of a primary that shows no details of all at once.
pub(super) fn of_single_policies() -> Vec<Kind> {
    let kind = |name, method, path: &'static str| Kind {
        brings: &["polic", "workload"],
        spares: &["cluster"],
        named: path,
        ..Kind::new(name, method, path, Around::Envelope, Drive::Authority)
    };
    vec![
        Kind {
            fields: &["/data/keys"],
            ..kind("a list of policies", "LIST", "sys/policies/acl/")
        }
        .with(of_names()),
        Kind {
            brings: &["policy orders", "workload"],
            spares: &["cluster", "policies", "policy default"],
            fields: &["/data/name", "/data/policy"],
            ..kind("a policy", "GET", "sys/policies/acl/orders")
        }
        .with(vec![of_json("of another name", |all| {
            all["data"]["name"] = json!("billing")
        })]),
    ]
}

/// A token that a client uses.
pub(super) fn of_tokens() -> Vec<Kind> {
    vec![
        Kind {
            brings: &["grant"],
            named: "auth/token/lookup-accessor",
            fields: LOOK_UP,
            ..Kind::new(
                "a token by its accessor",
                "POST",
                "auth/token/lookup-accessor",
                Around::Envelope,
                Drive::Token,
            )
        }
        .with(vec![of_json("of another token", |all| {
            all["data"]["accessor"] = json!("ic2DXMpznvxubkUZ1t3GOETR");
        })]),
    ]
}

/// Look-ups whose answers are nobody's but theirs who ask.
pub(super) fn of_look_ups() -> Vec<Kind> {
    let kind = |name, method, path: &'static str| Kind {
        named: path,
        fields: LOOK_UP,
        ..Kind::new(name, method, path, Around::Envelope, Drive::Token)
    };
    vec![
        kind("a token by itself", "POST", "auth/token/lookup")
            .with(vec![of_json("of another token", |all| {
                all["data"]["id"] = json!("s.FV7FA8g4mAmh7kjOnSwxVYLS")
            })]),
        kind("one's own token", "GET", "auth/token/lookup-self").with(Vec::new()),
    ]
}

/// Where the cluster's index stands.
pub(super) fn leader() -> Kind {
    Kind {
        named: "sys/leader",
        fields: &[
            "/ha_enabled",
            "/is_self",
            "/active_time",
            "/leader_cluster_address",
        ],
        ..Kind::new(
            "the leader",
            "GET",
            "sys/leader",
            Around::Object,
            Drive::Authority,
        )
    }
    .with(Vec::new())
}
