//! Creation as OpenBao 2.7.2 did it, and what holds whatever is asked for.

use alloc::vec;

use proptest::prelude::*;

use super::*;
use crate::samples::names;

const NOW: WallTime = WallTime::from_secs(1_000_000);

fn role() -> TokenRole {
    TokenRole {
        renewable: true,
        token_type: "default-service".into(),
        ..TokenRole::default()
    }
}

fn ask(asked: &TokenRequest, role: Option<&TokenRole>, sudo: bool) -> Result<Made, CreateError> {
    let name = RoleName::parse("r").unwrap();
    let through = role.map_or(Through::Create, |role| Through::Role(&name, role));
    let policies = names(&["a", "b", "default"]);
    let creator = Creator {
        policies: &policies,
        sudo,
    };
    create(asked, creator, through, TtlLimits::BUILT_IN, NOW)
}

fn text(asked: TokenRequest, role: Option<&TokenRole>, sudo: bool) -> String {
    ask(&asked, role, sudo).unwrap_err().to_string()
}

/// In the order of the primary's checks: each request is wrong in its own way and in every later one.
#[test]
fn refusals_come_in_the_primarys_order_and_words() {
    let all_wrong = TokenRequest {
        kind: "foo".into(),
        num_uses: -1,
        entity_alias: "x".into(),
        id: "i".into(),
        policies: vec!["zzz".into()],
        no_parent: true,
        explicit_max_ttl: "abc".into(),
        period: "-5".into(),
        ttl: "-5".into(),
        ..TokenRequest::default()
    };
    type Fix = fn(&mut TokenRequest);
    let fixes: [(&str, Fix); 9] = [
        ("invalid 'token_type' value", |a| a.kind.clear()),
        ("number of uses cannot be negative", |a| a.num_uses = 0),
        (
            "'entity_alias' is only allowed in combination with token role",
            |a| {
                a.entity_alias.clear();
            },
        ),
        (
            "root or sudo privileges required to specify token id",
            |a| a.id.clear(),
        ),
        ("child policies must be subset of parent", |a| {
            a.policies.clear()
        }),
        (
            "root or sudo privileges required to create orphan token",
            |a| {
                a.no_parent = false;
            },
        ),
        ("time: invalid duration \"abc\"", |a| {
            a.explicit_max_ttl.clear()
        }),
        ("period must be positive", |a| a.period = "5".into()),
        (
            "root or sudo privileges required to create periodic token",
            |a| {
                a.period.clear();
            },
        ),
    ];
    let mut asked = all_wrong;
    for (wanted, fix) in fixes {
        assert_eq!(text(asked.clone(), None, false), wanted);
        fix(&mut asked);
    }
    assert_eq!(text(asked, None, false), "ttl must be positive");
}

#[test]
fn what_is_not_modelled_is_said_only_where_the_primary_would_not_refuse() {
    let asked = |change: fn(&mut TokenRequest)| {
        let mut asked = TokenRequest::default();
        change(&mut asked);
        asked
    };
    for (asked, wanted) in [
        (asked(|a| a.kind = "batch".into()), Unmodelled::Batch),
        (asked(|a| a.num_uses = 3), Unmodelled::LimitedUses),
        (asked(|a| a.id = "i".into()), Unmodelled::Id),
        (asked(|a| a.period = "5s".into()), Unmodelled::Period),
    ] {
        assert_eq!(ask(&asked, None, true), Err(wanted.into()));
        let refused = TokenRequest {
            ttl: "x".into(),
            ..asked
        };
        assert!(matches!(
            ask(&refused, None, true),
            Err(CreateError::Refused(_))
        ));
    }
    let aliased = TokenRole {
        allowed_entity_aliases: vec!["x*".into()],
        ..role()
    };
    let alias = |name: &str| TokenRequest {
        entity_alias: name.into(),
        ..TokenRequest::default()
    };
    assert_eq!(
        ask(&alias("X1"), Some(&aliased), false),
        Err(Unmodelled::EntityAlias.into())
    );
    assert_eq!(
        text(alias("y"), Some(&aliased), false),
        "invalid 'entity_alias' value"
    );
    for role in [
        TokenRole {
            token_type: "default-batch".into(),
            ..role()
        },
        TokenRole {
            token_period: 5,
            ..role()
        },
        TokenRole {
            token_num_uses: 5,
            ..role()
        },
        TokenRole {
            token_bound_cidrs: vec!["10.0.0.0/8".into()],
            ..role()
        },
    ] {
        let made = ask(&TokenRequest::default(), Some(&role), false);
        assert!(matches!(made, Err(CreateError::Unmodelled(_))), "{role:?}");
    }
}

#[test]
fn zeros_and_defaults_are_no_wishes() {
    let sent_by_the_cli = TokenRequest {
        ttl: "0s".into(),
        explicit_max_ttl: "0s".into(),
        period: "0s".into(),
        kind: "service".into(),
        ..TokenRequest::default()
    };
    let made = ask(&sent_by_the_cli, None, false).unwrap();
    assert_eq!(made.ttl, TtlLimits::BUILT_IN.default);
    assert!(made.renewable && !made.orphan && made.warnings.is_empty());
    assert_eq!(
        (made.display_name.as_str(), made.path.as_str()),
        ("token", "auth/token/create")
    );
}

#[test]
fn a_role_gives_path_orphanhood_and_the_lesser_explicit_max() {
    let strict = TokenRole {
        orphan: true,
        path_suffix: "sfx".into(),
        renewable: false,
        token_explicit_max_ttl: 30,
        ..role()
    };
    let asked = TokenRequest {
        explicit_max_ttl: "10s".into(),
        display_name: "a b/c-".into(),
        ..TokenRequest::default()
    };
    let made = ask(&asked, Some(&strict), false).unwrap();
    assert!(made.orphan && !made.renewable);
    assert_eq!(made.path, "auth/token/create/r/sfx");
    assert_eq!(made.display_name, "token-a-b-c");
    assert_eq!(
        (
            made.ttl.as_secs(),
            made.longest.as_secs(),
            made.explicit_max_ttl.as_secs()
        ),
        (10, 30, 10)
    );
    assert_eq!(
        made.warnings,
        [
            "Explicit max TTL specified both during creation call and in role; using the lesser value of 10 seconds",
            "TTL of \"768h\" exceeded the effective max_ttl of \"10s\"; TTL value is capped accordingly",
        ]
    );
}

proptest! {
    /// A token never lives longer at first than its explicit maximum, its role's, and the mount's.
    #[test]
    fn no_token_is_made_for_longer_than_every_maximum(
        ttl in 0u64..5_000_000, explicit in 0u64..5_000_000, role_max in 0u64..5_000_000, through_role: bool,
    ) {
        let limited = TokenRole { token_explicit_max_ttl: role_max, ..role() };
        let asked = TokenRequest {
            ttl: ttl.to_string(),
            explicit_max_ttl: explicit.to_string(),
            ..TokenRequest::default()
        };
        let made = ask(&asked, through_role.then_some(&limited), false).unwrap();
        let secs = made.ttl.as_secs();
        prop_assert!(secs <= TtlLimits::BUILT_IN.max.as_secs() && made.ttl <= made.longest);
        prop_assert!(explicit == 0 || secs <= explicit);
        prop_assert!(!through_role || role_max == 0 || secs <= role_max);
        prop_assert!(ttl == 0 || secs <= ttl);
    }
}
