//! The commented configuration that `init` writes, and what is left to do after it.

use std::path::Path;

use crate::cli::init::InitArgs;

/// How else Holdover can log in.
const OTHER_METHODS: &str = r#"# Other methods and their keys: "approle" with role_id_file and secret_id_file; "cert" with cert_file, key_file and name;
# "jwt" and "kubernetes" with jwt_file and role; "token_file" with path. But for the last, mount says where it is mounted.
"#;

/// Every key that has to be there, and the others as comments with their defaults. `<NAME>` stands for what is filled in.
const CONFIGURATION: &str = r#"# Holdover. Every key, its unit, default and bounds: docs/configuration.md.
# Check changes with: holdover config check
# A running daemon applies a changed file by itself, or rejects it as a whole and says so in its status.

[primary]
addresses = [<ADDRESSES>]                 # in order of preference
<CA_FILE>
# namespace = ""
# connect_timeout = "500ms"
# read_deadline = "1s"                    # after this a mirrored read is answered from the replica
# requests_per_second = 50                # of Holdover's own
# token_check_interval = "5m"             # how often an idle token is looked up
# token_max_age = "1h"                    # a token that was verified longer ago is undecidable in an outage
# approle_mounts = ["approle"]            # whose logins are answered in an outage; [] is none

<AUTH>
[replica]
path = <REPLICA>
# anchor = "/var/lib/holdover-anchor/generation"   # tells an older copy put in the replica's place
# max_staleness = "24h"                   # values older than this are not served

[[replica.key]]
source = "file"
path = <KEY>

[listener]
socket = <SOCKET>
# mode = "0666"                           # who may connect; attestation says who gets anything
# forward_headers = []                    # of clients' headers, beside what the primary reads; as in ["X-Tenant"]

[admin]
socket = <ADMIN_SOCKET>
# group = "adm"                           # who may use it besides its owner
# metrics = "127.0.0.1:9847"

[failover]
# failures = 3                            # failed probes in a row that make an outage
# successes = 3                           # good probes in a row that end one
# probe_interval = "5s"
# probe_timeout = "500ms"
# issue_deadline = "5s"                   # how long a login waits for the machine to decide
# settle_within = "2s"                    # what is not settled by then is settled while following
# max_outage = "12h"                      # nothing is issued after this
# authority_interval = "1m"
# authority_max_age = "15m"               # older authority issues nothing
# policy_max_age = "1h"                   # policies, mounts and identities verified longer before an outage decide nothing
# credential_max_age = "24h"              # a secret id that last logged in earlier is not accepted
# issue_after_reboot = false

[ledger]
# max_size = "256MiB"                     # a workload whose share of it is full is issued nothing

[limits]
# connections = 1024
# connections_per_uid = 256
# requests_per_second_per_uid = 5000
# request_size = "1MiB"                   # of what the replica answers
# unfinished_bytes = "64MiB"              # of requests that are not answered yet, of all
# forwards = 512                          # requests on their way to the primary at once, of all
# grants_per_workload = 10000             # tokens issued in outages that live at once
# login_failures_per_minute_per_uid = 30

[parity]
# sample = 0.01                           # the share of forwarded requests that the replica decides too

# What is mirrored, one table for each path. A * at the end takes everything below.
# [[mirror]]
# path = "secret/data/shop/*"
# interval = "30s"
# max_staleness = "24h"
# versions = 1                            # versions of each key that are kept
# pool = 0                                # unused leases that are kept ready, of a path that answers with leases

# Who is attested, one table for each workload. Keys inside of match must all hold.
# [[workload]]
# name = "orders"
# match = { unit = "orders.service", user = "orders" }   # also uid, gid, group
# role = "orders"                         # the token role at the primary
# entity_alias = "orders-host-17"         # the entity alias that its tokens are minted with
# auto_token = true                       # requests without a token use the workload's own
# [workload.failover]
# issue = false                           # whether tokens are issued in an outage
# ttl = "15m"
# max_ttl = "2h"
# on_recovery = "exchange"                # or "drain", "revoke"
# on_failover = "resume"                  # or "reauthenticate"
"#;

/// The configuration as `init` was asked for it.
pub(super) fn configuration(args: &InitArgs, config: &Path) -> String {
    let addresses: Vec<_> = args.address.iter().map(|address| quoted(address)).collect();
    let ca_file = match &args.ca_file {
        Some(path) => format!("ca_file = {}", quoted_path(path)),
        None => "# ca_file = \"/etc/holdover/ca.pem\"      # needed for https".to_owned(),
    };
    let filled_in = [
        ("<ADDRESSES>", addresses.join(", ")),
        ("<CA_FILE>", ca_file),
        ("<AUTH>", auth(args, config)),
        ("<REPLICA>", quoted_path(&args.replica)),
        ("<KEY>", quoted_path(&args.key)),
        ("<SOCKET>", quoted_path(&args.socket)),
        ("<ADMIN_SOCKET>", quoted_path(&args.admin_socket)),
    ];
    let filled = filled_in.iter();
    filled.fold(CONFIGURATION.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    })
}

/// What is left to do.
pub(super) fn next_steps(args: &InitArgs, config: &Path) -> String {
    let folder = folder(config);
    let login = match &args.token_file {
        Some(path) => format!("put Holdover's token into {}", path.display()),
        None => format!(
            "put the role_id and secret_id of Holdover's AppRole into {0}/role_id and {0}/secret_id",
            folder.display()
        ),
    };
    let config = config.display();
    format!(
        "made {key}, {replica} and {config}\n\
         next:\n\
         1. name your mirrors and workloads in {config}\n\
         2. grant at the primary what this prints: holdover config policy --config {config}\n\
         3. {login}\n\
         4. holdover config check --config {config}\n\
         5. holdover run --config {config}\n\
         keep a copy of {key} in a safe place: without it the replica is useless\n",
        key = args.key.display(),
        replica = args.replica.display(),
    )
}

fn auth(args: &InitArgs, config: &Path) -> String {
    match &args.token_file {
        Some(path) => format!(
            "[primary.auth]\nmethod = \"token_file\"\npath = {}\n{OTHER_METHODS}",
            quoted_path(path)
        ),
        None => {
            let folder = folder(config);
            format!(
                "[primary.auth]\nmethod = \"approle\"\n# mount = \"approle\"\n\
                 role_id_file = {}\nsecret_id_file = {}\n{OTHER_METHODS}",
                quoted_path(&folder.join("role_id")),
                quoted_path(&folder.join("secret_id")),
            )
        }
    }
}

fn folder(config: &Path) -> &Path {
    config.parent().unwrap_or(Path::new("/etc/holdover"))
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// As TOML writes a text.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
