//! How Holdover logs in, and which logins it learns from.

use super::*;

/// The least configuration at an https address, with this `[primary.auth]`.
fn logging_in(auth: &str) -> String {
    let ids =
        "role_id_file = \"/etc/holdover/role_id\"\nsecret_id_file = \"/etc/holdover/secret_id\"\n";
    assert!(LEAST.contains(ids));
    LEAST.replace(ids, auth).replace(
        "addresses = [\"http://127.0.0.1:8200\"]",
        "addresses = [\"https://vault-a:8200\"]\nca_file = \"/etc/holdover/ca.pem\"",
    )
}

#[test]
fn every_login_method_has_its_keys_its_mount_and_no_others() {
    let auth = |text: &str| parse(&logging_in(text)).map(|config| config.primary.auth);
    let jwt = auth("method = \"jwt\"\nrole = \"r\"\njwt_file = \"/run/jwt\"\n").unwrap();
    let jwt_file = PathBuf::from("/run/jwt");
    let role = Some("r".to_owned());
    assert_eq!(
        (jwt.mount.as_str(), jwt.method),
        ("jwt", AuthMethod::Jwt { role, jwt_file })
    );
    let cluster =
        "method = \"kubernetes\"\nmount = \"k8s/site\"\nrole = \"r\"\njwt_file = \"/run/jwt\"\n";
    let cluster = auth(cluster).unwrap();
    assert_eq!(cluster.mount, "k8s/site");
    let cert = "method = \"cert\"\ncert_file = \"/etc/c.pem\"\nkey_file = \"/etc/c.key\"\n";
    let method = auth(cert).unwrap().method;
    let named: Vec<_> = method.files().into_iter().map(|(key, _)| key).collect();
    assert_eq!(named, ["cert_file", "key_file"]);
    for (text, keys) in [
        ("method = \"jwt\"\n", vec!["primary.auth.jwt_file"]),
        (
            "method = \"kubernetes\"\nrole = \"\"\n",
            vec!["primary.auth.jwt_file", "primary.auth.role"],
        ),
        (
            "method = \"cert\"\nname = 3\nrole = \"r\"\ncert_file = \"c.pem\"\n",
            vec![
                "primary.auth.key_file",
                "primary.auth.name",
                "primary.auth.role",
                "primary.auth.cert_file",
            ],
        ),
        ("method = \"ldap\"\n", vec!["primary.auth.method"]),
    ] {
        let errors = parse(&logging_in(text)).unwrap_err();
        let found: Vec<_> = errors.errors.iter().map(|error| &error.key[..]).collect();
        assert_eq!(found, keys, "{errors}");
        assert!(errors.errors.iter().all(|error| error.line.is_some()));
    }
    let clear = logging_in(cert).replace("https://vault-a", "http://127.0.0.1");
    let errors = parse(&clear).unwrap_err();
    assert!(
        errors.to_string().contains("takes no certificate"),
        "{errors}"
    );
}

#[test]
fn the_files_of_a_login_are_known_with_their_lines_and_need_not_be_there() {
    let config = parse(&logging_in(
        "method = \"jwt\"\n\njwt_file = \"/no/such/jwt\"\n",
    ))
    .unwrap();
    let [file] = &config.credential_files[..] else {
        panic!("{:?}", config.credential_files)
    };
    assert_eq!((file.line, file.key), (8, "jwt_file"));
}

#[test]
fn mounts_of_approle_are_learned_from_only_where_something_may_be_issued() {
    let mounts = |text: &str| parse(text).unwrap().settings.approle_mounts().to_vec();
    assert_eq!(mounts(FULL), ["approle"]);
    let given = |mounts: &str| {
        FULL.replace(
            "approle_mounts = [\"approle\"]",
            &format!("approle_mounts = {mounts}"),
        )
    };
    assert_eq!(
        mounts(&given("[\"one/\", \"team/two\"]")),
        ["one", "team/two"]
    );
    assert!(mounts(&given("[]")).is_empty());
    assert!(mounts(&FULL.replace("issue = true", "issue = false")).is_empty());
    for wrong in ["[\"auth/approle\"]", "[\"\"]", "\"approle\""] {
        assert_eq!(mistakes(&given(wrong)).len(), 1, "{wrong}");
    }
}

#[test]
fn a_token_file_needs_no_mount() {
    let text = LEAST
        .replace(
            "role_id_file = \"/etc/holdover/role_id\"",
            "method = \"token_file\"",
        )
        .replace(
            "secret_id_file = \"/etc/holdover/secret_id\"",
            "path = \"/run/token\"",
        );
    let config = parse(&text).unwrap();
    assert!(
        matches!(config.primary.auth.method, AuthMethod::TokenFile { path } if path == Path::new("/run/token"))
    );
    let text = text.replace("path = \"/run/token\"", "mount = \"approle\"");
    assert_eq!(
        mistakes(&text),
        ["4: primary.auth.path", "6: primary.auth.mount"]
    );
}
