//! What holds of every verdict.

use super::{
    login::{identity, known_of_entity, login},
    *,
};

/// What the verdicts below are drawn from.
#[derive(Clone, Debug)]
struct Drawn {
    granted: Vec<String>,
    proven: Vec<String>,
    added: Vec<String>,
    templated: Vec<String>,
    left: u64,
    how: usize,
    by_login: bool,
    of_entity: [bool; 2],
    stands: bool,
    /// When workload, role, secret id, entity and policies were verified, in seconds after [`SINCE`].
    seen: [i64; 5],
}

fn some_policies() -> impl Strategy<Value = Vec<String>> {
    let names = proptest::collection::btree_set("[a-d]", 0..4);
    names.prop_map(|names| names.into_iter().collect())
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let policies = (
        some_policies(),
        some_policies(),
        some_policies(),
        some_policies(),
    );
    let seen = proptest::array::uniform5(-1i64..6);
    let flags = (any::<bool>(), any::<[bool; 2]>(), any::<bool>());
    (policies, 0u64..100, 0usize..3, flags, seen).prop_map(|(policies, left, how, flags, seen)| {
        let (granted, proven, added, templated) = policies;
        let (by_login, of_entity, stands) = flags;
        Drawn {
            granted,
            proven,
            added,
            templated,
            left,
            how,
            by_login,
            of_entity,
            stands,
            seen,
        }
    })
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

impl Drawn {
    fn grant(&self) -> Grant {
        let policies = texts(&self.granted);
        let mut granted = match self.by_login {
            true => login(&policies),
            false => grant(&policies, 0),
        };
        granted.deadline = Deadline::after(Duration::from_secs(self.left), now());
        match self.of_entity[0] {
            true => of_entity(granted, "e1"),
            false => granted,
        }
    }

    fn settings(&self) -> Settings {
        settings([OnRecovery::Exchange, OnRecovery::Drain, OnRecovery::Revoke][self.how])
    }

    fn known(&self) -> Known {
        let policies = texts(&self.proven);
        let mut known = known_of_entity(&policies);
        let mut workload = authority(&policies);
        let of_entity = self.of_entity[1].then(|| entity("e1"));
        workload.standing.entity_id.clone_from(&of_entity);
        workload.verified_at = at(self.seen[0]);
        known.workload = Some(workload);
        known.role.as_mut().unwrap().verified_at = at(self.seen[1]);
        let proof = known.proof.as_mut().unwrap();
        proof.verified_at = at(self.seen[2]);
        proof.entity = of_entity;
        let mut identity = identity(&texts(&self.added), &[]);
        identity.entity.as_mut().unwrap().disabled = !self.stands;
        let read = (identity, at(self.seen[3]));
        known.identities = BTreeMap::from([(entity("e1"), read)]);
        known.templated = Some(names(&texts(&self.templated)));
        known.read = at(self.seen[4]);
        known
    }

    fn verdict(&self) -> Verdict {
        verdict_where(&self.grant(), &self.settings(), &self.known())
    }

    fn added(&self) -> Vec<PolicyName> {
        match self.by_login && self.of_entity[1] {
            true => names(&texts(&self.added)),
            false => Vec::new(),
        }
    }
}

proptest! {
    /// No settlement gives a grant a policy or a life that it did not have, or an entity that it was not of.
    #[test]
    fn settling_never_adds(drawn in drawn()) {
        let grant = drawn.grant();
        let (Verdict::Fate(Fate::Drain(left) | Fate::Exchange(left, _)) | Verdict::Lives(left, _)) = drawn.verdict() else {
            return Ok(());
        };
        let proven = names(&texts(&drawn.proven));
        for policy in &left.policies {
            prop_assert!(grant.facts.policies.contains(policy) && proven.contains(policy));
        }
        prop_assert_eq!(&left.identity_policies, &drawn.added());
        let Verdict::Fate(Fate::Exchange(_, wanted)) = drawn.verdict() else { return Ok(()) };
        prop_assert!(wanted.remaining <= Duration::from_secs(drawn.left));
        match &wanted.stands_for {
            StandsFor::Workload(entity) => {
                prop_assert!(!drawn.by_login && *entity == grant.facts.entity_id);
                prop_assert_eq!(&wanted.policies, &left.policies);
            }
            StandsFor::Nobody => {
                prop_assert!(drawn.by_login);
                // Nobody's token goes by no text that may have been written anew in the outage.
                prop_assert!(grant.facts.entity_id.is_none() || wanted.policies.is_empty() || drawn.seen[4] >= 0);
                let templated = names(&texts(&drawn.templated));
                for policy in &wanted.policies {
                    prop_assert!(left.policies.contains(policy) || left.identity_policies.contains(policy));
                    prop_assert!(grant.facts.entity_id.is_none() || !templated.contains(policy));
                }
            }
        }
    }

    /// What could be said once can still be said when more was proven since, and it is the same.
    #[test]
    fn later_proofs_take_no_verdict_back(drawn in drawn(), more in proptest::array::uniform5(0i64..6)) {
        let before = drawn.verdict();
        let mut later = drawn.clone();
        for (seen, more) in later.seen.iter_mut().zip(more) {
            *seen += more;
        }
        match before {
            Verdict::Fate(_) => prop_assert_eq!(later.verdict(), before),
            Verdict::Lives(left, _) => match later.verdict() {
                Verdict::Fate(Fate::Drain(then) | Fate::Exchange(then, _)) | Verdict::Lives(then, _) => prop_assert_eq!(then, left),
                other => prop_assert!(false, "{:?}", other),
            },
            Verdict::Needs(_) => {}
        }
    }

    /// A grant that is judged again, with what was left of it, comes to the same.
    #[test]
    fn judging_again_changes_nothing(drawn in drawn()) {
        let (Verdict::Fate(Fate::Drain(left)) | Verdict::Fate(Fate::Exchange(left, _))) = drawn.verdict() else {
            return Ok(());
        };
        let again = drawn.grant().left_with(left);
        let verdict = verdict_where(&again, &drawn.settings(), &drawn.known());
        prop_assert_eq!(verdict, drawn.verdict());
    }

    /// Nothing that was proven before the recovery alone keeps a grant alive.
    #[test]
    fn nothing_from_before_keeps_a_grant(mut drawn in drawn()) {
        drawn.seen = [-1; 5];
        let kept = matches!(drawn.verdict(), Verdict::Fate(Fate::Drain(_) | Fate::Exchange(..)) | Verdict::Lives(..));
        prop_assert!(!kept);
    }
}
