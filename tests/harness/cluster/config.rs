//! A node's configuration file.

use std::path::Path;

/// What a node's configuration is made of.
pub(super) struct Settings<'a> {
    /// The node's name, which it puts on its answers as `X-Node`.
    pub(super) name: &'a str,
    /// The node's folder.
    pub(super) folder: &'a Path,
    /// The stanza of its storage.
    pub(super) storage: &'a str,
    /// Its API's real port, and the one that others are told.
    pub(super) api: (u16, u16),
    /// Its cluster listener's real port, and the one that others are told.
    pub(super) cluster: (u16, u16),
}

/// Storage by raft. A new node may vote at once: by default autopilot takes ten seconds and more to promote it.
pub(super) fn raft(folder: &Path, name: &str) -> String {
    format!(
        r#"storage "raft" {{
  path = "{}/raft"
  node_id = "{name}"
  performance_multiplier = 1
  autopilot_reconcile_interval = "200ms"
  autopilot_update_interval = "200ms"
}}
"#,
        folder.display()
    )
}

/// Storage in the PostgreSQL that listens on `port`.
pub(super) fn postgres(port: u16, password: &str) -> String {
    format!(
        r#"storage "postgresql" {{
  connection_url = "postgres://postgres:{password}@127.0.0.1:{port}/postgres?sslmode=disable"
  ha_enabled = "true"
}}
"#
    )
}

/// The file's text.
///
/// The audit log's path is relative, because all nodes must declare the same devices: a node whose own differ from the
/// cluster's becomes a standby that reads nothing itself. Each has its log in the folder that it starts in.
pub(super) fn text(settings: &Settings<'_>) -> String {
    let Settings {
        name,
        folder,
        storage,
        api: (api, api_told),
        cluster: (cluster, cluster_told),
    } = settings;
    let folder = folder.display();
    format!(
        r#"{storage}
audit "file" "file" {{
  options {{
    file_path = "audit.log"
  }}
}}
listener "tcp" {{
  address = "127.0.0.1:{api}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_cert_file = "{folder}/server.pem"
  tls_key_file = "{folder}/server.key"
  custom_response_headers {{
    "default" = {{
      "X-Node" = ["{name}"]
    }}
  }}
}}
api_addr = "https://127.0.0.1:{api_told}"
cluster_addr = "https://127.0.0.1:{cluster_told}"
ui = false
"#
    )
}
