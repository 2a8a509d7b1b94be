//! Paths that need the sudo capability besides the operation's own.

/// Paths below the namespace; a trailing `*` stands for anything. From the system backend and the token
/// store of OpenBao 2.7.2, confirmed against a live one.
const PROTECTED: [&str; 22] = [
    "auth/token/accessors*",
    "auth/token/revoke-orphan/*",
    "sys/audit",
    "sys/audit/*",
    "sys/auth/*",
    "sys/config/auditing/*",
    "sys/config/cors",
    "sys/config/ui/headers/*",
    "sys/internal/inspect/*",
    "sys/leases",
    "sys/leases/lookup/*",
    "sys/leases/revoke-force/*",
    "sys/leases/revoke-prefix/*",
    "sys/plugins/catalog/*",
    "sys/raw",
    "sys/raw/*",
    "sys/remount",
    "sys/revoke-force/*",
    "sys/revoke-prefix/*",
    "sys/rotate",
    "sys/rotate/keyring",
    "sys/rotate/root",
];

/// Whether `path`, relative to its namespace, is protected.
///
/// Backends of other types protect paths of their own by their type, which a path does not show; the only
/// ones in OpenBao are PKI's `root` and `root/sign-self-issued`, both writes.
pub(super) fn requires_sudo(path: &str) -> bool {
    let candidate = path.starts_with("sys/") || path.starts_with("auth/token/");
    candidate
        && PROTECTED
            .iter()
            .any(|protected| match protected.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => path == *protected,
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_paths_end_where_the_primary_ends_them() {
        for path in [
            "sys/auth/x/tune",
            "sys/auth/",
            "sys/raw",
            "sys/raw/x",
            "sys/leases/lookup/",
            "auth/token/accessors/",
            "auth/token/accessorsx",
            "auth/token/revoke-orphan/x",
        ] {
            assert!(requires_sudo(path), "{path}");
        }
        for path in [
            "sys/auth",
            "sys/leases/",
            "sys/leases/lookup",
            "sys/rotate/root/init",
            "sys/rotate/config",
            "sys/config/corsx",
            "sys/step-down",
            "auth/token/revoke-orphan",
            "auth/token/create-orphan",
            "n1/sys/raw",
            "kv/sys/raw",
        ] {
            assert!(!requires_sudo(path), "{path}");
        }
    }
}
