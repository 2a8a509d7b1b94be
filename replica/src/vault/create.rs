//! `auth/token/create`, `create-orphan` and `create/:role` in an outage: a grant that is at most what the primary would
//! have made, within the bounds of the workload that its creator belongs to.

use shared::{
    acl::Operation,
    grant::Grant,
    name::{PolicyName, RoleName},
    settings::Footing,
    token::{
        TokenFacts, TokenKind,
        create::{CreateError, Creator, Made, Through, create},
        ttl::TtlLimits,
    },
    workload::{PeerId, Workload, WorkloadAuthority},
};

use super::{
    Presented,
    caller::{Bearer, Caller},
    case::Case,
    issue::{self, Issue},
    refusal::{Answered, Damaged, Issuing, Refusal, Why},
    token,
};
use asked::AskedFields;

mod asked;
mod within;

/// Answers a creation: the primary's own checks in its order, then what an outage allows.
pub(crate) fn answer(case: &Case<'_>, caller: &Caller) -> Answered {
    // `auto_token` does not apply: what nobody sent creates nothing.
    if let Presented::Standing(_) = case.query.presented {
        return Err(Refusal::Unauthenticated);
    }
    let Bearer::Grant(live) = &caller.bearer else {
        return Err(Refusal::Unauthenticated);
    };
    let data = token::permitted(case, caller, &[Operation::Update])?;
    let place = Place::of(case)?;
    let fields = AskedFields::read(&data, matches!(place, Place::Role(_)))?;
    let role = match &place {
        Place::Role(name) => Some((name, mirrored(case, name)?)),
        Place::Create | Place::Orphan => None,
    };
    if live.grant.facts.kind == TokenKind::Batch {
        let text = "batch tokens cannot create more tokens";
        return Err(Refusal::Invalid(text.into()));
    }
    let through = match (&place, &role) {
        (Place::Role(_), Some((name, authority))) => Through::Role(name, &authority.role),
        (Place::Orphan, _) => Through::Orphan,
        _ => Through::Create,
    };
    let creator = Creator {
        policies: &live.grant.facts.policies,
        sudo: caller.has_sudo(case)?,
    };
    let now = case.now().steady;
    let mut made = create(&fields.asked, creator, through, limits(case), now)?;
    let policies = parsed(&made.policies)?;
    made.warnings.extend(missing(case, &policies)?);
    made.warnings.extend(fields.warnings);
    let parent = &live.grant;
    let (issue, authority) = bounds(case, parent, role.as_ref().map(|(_, of)| *of), &made)?;
    let entity = parent.facts.entity_id.clone();
    let facts = TokenFacts {
        entity_id: entity.filter(|_| !made.orphan),
        display_name: made.display_name,
        meta: fields.asked.meta,
        path: made.path,
        explicit_max_ttl: made.explicit_max_ttl.as_secs(),
        orphan: made.orphan,
        renewable: made.renewable,
        role: role.map(|(name, _)| name.as_str().to_owned()),
        ..issue.minted(case, policies)
    };
    within::check(case, &issue, authority, &facts)?;
    issue.grant(case, facts)
}

/// What the primary gives where nothing else is said: of the mount, else of the server.
pub(crate) fn limits(case: &Case<'_>) -> TtlLimits {
    let cluster = case.authority.cluster.as_deref();
    cluster.map_or(TtlLimits::BUILT_IN, |cluster| cluster.token_limits())
}

/// A role as it is mirrored: those of the configured workloads are.
///
/// # Errors
/// That only the primary knows it, or knows what became of it since.
pub(crate) fn mirrored<'a>(case: &Case<'a>, name: &RoleName) -> Answered<&'a WorkloadAuthority> {
    let mut known = case.authority.workloads.values();
    let found = known.find(|authority| authority.role_name == *name);
    Ok(found.ok_or(Why::RoleNotMirrored)?)
}

/// Which of the three paths was asked.
enum Place {
    Create,
    Orphan,
    Role(RoleName),
}

impl Place {
    fn of(case: &Case<'_>) -> Answered<Self> {
        let path = case.query.call.path.as_str();
        match path.strip_prefix("auth/token/") {
            Some("create") => Ok(Self::Create),
            Some("create-orphan") => Ok(Self::Orphan),
            Some(rest) => {
                let name = rest.strip_prefix("create/").filter(|name| is_name(name));
                let name = name.and_then(|name| RoleName::parse(name).ok());
                name.map(Self::Role).ok_or(Refusal::NoSuchPath)
            }
            None => Err(Refusal::NoSuchPath),
        }
    }
}

/// Whether the primary's route takes it for a role's name (`framework.GenericNameRegex`).
fn is_name(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(word)
        && text.ends_with(word)
        && text.chars().all(|c| word(c) || c == '-' || c == '.')
}

fn parsed(names: &[String]) -> Answered<Vec<PolicyName>> {
    let parsed = names.iter().map(|name| PolicyName::parse(name));
    Ok(parsed
        .collect::<Result<_, _>>()
        .map_err(|_| Why::Parameter("policies"))?)
}

/// What the primary warns of policies that it does not have.
fn missing(case: &Case<'_>, policies: &[PolicyName]) -> Answered<Vec<String>> {
    let known = &case.policies()?.set;
    for name in policies {
        case.intact(|| Damaged::Policy(name.clone()))?;
        case.recent(known.verified(name), || Footing::Policy(name.clone()))?;
    }
    let expired = |name: &PolicyName| {
        let text = known.policies.get(name);
        let end = text.and_then(|text| text.expiration);
        text.is_none() || end.is_some_and(|end| end <= case.now().wall)
    };
    let missing = policies
        .iter()
        .filter(|name| !name.is_root() && expired(name));
    Ok(missing
        .map(|name| format!("Policy {:?} does not exist", name.as_str()))
        .collect())
}

/// What bounds a child: its creator, and the workload whose bounds it is made within, with what was proven of that.
fn bounds<'a>(
    case: &Case<'a>,
    parent: &'a Grant,
    role: Option<&WorkloadAuthority>,
    made: &Made,
) -> Answered<(Issue<'a>, &'a WorkloadAuthority)> {
    let (entry, peer) = workload(case, parent)?;
    let outage = issue::enabled(case, entry)?;
    let authority = issue::proven(case, entry, outage)?;
    let mut proven_at = authority.verified_at;
    if let Some(role) = role {
        issue::recent(case, role, outage)?;
        proven_at = proven_at.min(role.verified_at);
    }
    // What hangs on a login is judged with it once the primary is back.
    let login = parent.replica().and_then(|replica| replica.approle.clone());
    let issue = Issue {
        entry,
        outage,
        proven_at,
        wanted: made.ttl,
        limit: made.longest,
        peer: Some(peer),
        parent: Some(parent),
        warnings: made.warnings.clone(),
        approle: login.filter(|_| !made.orphan),
    };
    Ok((issue, authority))
}

/// The workload that the creator belongs to: by the peer that its token was given to, else by whoever presents it.
fn workload<'a>(case: &Case<'a>, parent: &Grant) -> Answered<(&'a Workload, PeerId)> {
    let peer = match &parent.peer {
        Some(owner) => owner.clone(),
        None => {
            let peer = case.query.peer.ok_or(Issuing::NoWorkload)?;
            let name = match peer.workloads.as_slice() {
                [] => return Err(Issuing::NoWorkload.into()),
                [one] => one,
                _ => return Err(Issuing::SeveralWorkloads.into()),
            };
            peer.identity(name).ok_or(Issuing::NoWorkload)?
        }
    };
    let entry = case.settings().workload(&peer.workload);
    Ok((entry.ok_or(Issuing::NoWorkload)?, peer))
}

impl From<CreateError> for Refusal {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Refused(text) => Self::Invalid(text),
            CreateError::Unmodelled(what) => Issuing::Unmodelled(what).into(),
        }
    }
}
