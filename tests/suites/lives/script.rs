//! What happens in a life: drawn from a seed before it begins, so that a seed and a number repeat it.

use harness::link::Flow;
use harness::random::Seeded;

/// One of those that there are when its time comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pick(u64);

impl Pick {
    /// An index below `len`, which is not 0.
    pub(crate) fn below(self, len: usize) -> usize {
        usize::try_from(self.0).unwrap_or_default() % len.max(1)
    }
}

/// A policy that changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    /// What everybody reads.
    Base,
    /// What some read besides.
    Extra,
    /// Gives the right to create tokens.
    Maker,
    /// Of an entity.
    Own,
    /// Of a group.
    Staff,
}

pub(crate) const POLICIES: [Policy; 5] = [
    Policy::Base,
    Policy::Extra,
    Policy::Maker,
    Policy::Own,
    Policy::Staff,
];

/// What a policy says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Text {
    /// All that it was made for.
    Whole,
    /// Single paths where there were prefixes.
    Narrow,
    /// The whole, and a denial.
    Denying,
    /// Nothing.
    Empty,
}

/// How a token is created by another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// With all of its parent's policies.
    Child,
    /// With one of them.
    Lesser,
    /// That outlives its parent.
    Orphan,
    /// Through the workload's role.
    OfRole,
    /// With a policy that only `sudo` gives.
    Sudo,
}

/// What becomes of a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Secret {
    Write,
    DeleteLatest,
    DestroyLatest,
    DeleteAll,
}

/// What is done at the primary by other hands: nobody tells Holdover.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Revoke(Pick),
    RevokeByAccessor(Pick),
    RevokeSparingChildren(Pick),
    RevokeLogins,
    Write(Policy, Text),
    Delete(Policy),
    Entity { disabled: bool },
    DeleteEntity,
    Group { member: bool },
    DeleteGroup,
    NarrowRole,
    DeleteRole,
    RestoreRole,
    DeleteAppRole,
    DestroySecretId,
    Secret(Pick, Secret),
    Unmount,
    Remount,
}

/// What is done through the socket, or told to Holdover by its operator.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    LogIn,
    LogInByAppRole,
    LogInAsUser,
    Create(Pick, Kind),
    Read(Pick),
    Renew(Pick),
    RevokeSelf(Pick),
    RevokeAsOperator(Pick),
    Write(Pick),
    /// It is revoked at the primary, and refused there when it is used.
    Refused(Pick),
    Restart,
}

/// One act while the primary is in charge.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    There(Change),
    Here(Use),
}

/// How an outage begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Approach {
    /// After a pass over everything.
    Pass,
    /// As soon as Holdover follows.
    AtOnce,
}

/// How an outage ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Back {
    Plain,
    /// Holdover is killed when the primary is back, and started again.
    Restarted,
    /// The primary goes again before Holdover has settled.
    CutAgain,
}

/// One outage, and what leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    pub(crate) before: Vec<Act>,
    pub(crate) approach: Approach,
    /// Between the pass and the cut.
    pub(crate) told: Vec<Use>,
    pub(crate) cut: Flow,
    pub(crate) within: Vec<Use>,
    pub(crate) behind: Vec<Change>,
    pub(crate) back: Back,
}

/// A life.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Everything is in a namespace, which is configured.
    pub(crate) namespaced: bool,
    /// Requests name the namespace.
    pub(crate) names_it: bool,
    pub(crate) on_recovery: &'static str,
    pub(crate) outages: Vec<Outage>,
    /// The last outage ends as well.
    pub(crate) returns: bool,
}

impl Script {
    pub(crate) fn of(nr: usize, random: &mut Seeded) -> Script {
        let count = if random.chance(85) { 2 } else { 1 };
        Script {
            namespaced: nr % 2 == 1,
            names_it: random.chance(50),
            on_recovery: random.one(&["exchange", "exchange", "drain", "revoke"]),
            outages: (0..count).map(|nr| outage(nr, random)).collect(),
            returns: random.chance(50),
        }
    }
}

fn outage(nr: usize, random: &mut Seeded) -> Outage {
    let approach = match nr > 0 && random.chance(65) {
        true => Approach::AtOnce,
        false => Approach::Pass,
    };
    let pass = approach == Approach::Pass;
    let before = match pass {
        true => some(random, 2, 5, act),
        false => some(random, 0, 2, |random| Act::Here(Use::Read(pick(random)))),
    };
    let told = match pass {
        true => some(random, 0, 2, told),
        false => Vec::new(),
    };
    Outage {
        before,
        approach,
        told,
        cut: random.one(&[Flow::Refused, Flow::Refused, Flow::Refused, Flow::Silent]),
        within: some(random, 2, 6, within),
        behind: some(random, 0, 3, change),
        back: random.one(&[
            Back::Plain,
            Back::Plain,
            Back::Plain,
            Back::Restarted,
            Back::CutAgain,
        ]),
    }
}

fn some<T>(random: &mut Seeded, least: u64, most: u64, one: impl Fn(&mut Seeded) -> T) -> Vec<T> {
    let count = least + random.below(most - least + 1);
    (0..count).map(|_| one(random)).collect()
}

fn pick(random: &mut Seeded) -> Pick {
    Pick(random.below(1 << 32))
}

fn act(random: &mut Seeded) -> Act {
    match random.chance(70) {
        true => Act::There(change(random)),
        false => Act::Here(online(random)),
    }
}

fn change(random: &mut Seeded) -> Change {
    match random.below(30) {
        0..4 => Change::Revoke(pick(random)),
        4..6 => Change::RevokeByAccessor(pick(random)),
        6 => Change::RevokeSparingChildren(pick(random)),
        7 => Change::RevokeLogins,
        8..13 => Change::Write(random.one(&POLICIES), text(random)),
        13 => Change::Delete(random.one(&POLICIES)),
        14..16 => Change::Entity {
            disabled: random.chance(70),
        },
        16 => Change::DeleteEntity,
        17..19 => Change::Group {
            member: random.chance(30),
        },
        19 => Change::DeleteGroup,
        20 => Change::NarrowRole,
        21 => Change::DeleteRole,
        22 => Change::RestoreRole,
        23 => Change::DeleteAppRole,
        24 => Change::DestroySecretId,
        25..28 => Change::Secret(pick(random), secret(random)),
        28 => Change::Unmount,
        _ => Change::Remount,
    }
}

fn text(random: &mut Seeded) -> Text {
    random.one(&[
        Text::Narrow,
        Text::Narrow,
        Text::Denying,
        Text::Empty,
        Text::Whole,
    ])
}

fn secret(random: &mut Seeded) -> Secret {
    random.one(&[
        Secret::Write,
        Secret::Write,
        Secret::DeleteLatest,
        Secret::DestroyLatest,
        Secret::DeleteAll,
    ])
}

fn kind(random: &mut Seeded) -> Kind {
    random.one(&[
        Kind::Child,
        Kind::Child,
        Kind::Lesser,
        Kind::Orphan,
        Kind::OfRole,
        Kind::Sudo,
    ])
}

/// Through the socket, while the primary is in charge.
fn online(random: &mut Seeded) -> Use {
    match random.below(9) {
        0 => Use::LogIn,
        1 => Use::LogInByAppRole,
        2 => Use::LogInAsUser,
        3 | 4 => Use::Create(pick(random), kind(random)),
        5 => Use::RevokeSelf(pick(random)),
        6 => Use::RevokeAsOperator(pick(random)),
        7 => Use::Write(pick(random)),
        _ => Use::Restart,
    }
}

fn told(random: &mut Seeded) -> Use {
    match random.below(5) {
        0 => Use::RevokeSelf(pick(random)),
        1 => Use::RevokeAsOperator(pick(random)),
        2 => Use::Write(pick(random)),
        3 => Use::Create(pick(random), kind(random)),
        _ => Use::Refused(pick(random)),
    }
}

fn within(random: &mut Seeded) -> Use {
    match random.below(12) {
        0..2 => Use::LogIn,
        2..4 => Use::LogInByAppRole,
        4..8 => Use::Create(pick(random), kind(random)),
        8 => Use::Renew(pick(random)),
        9 => Use::RevokeSelf(pick(random)),
        10 => Use::RevokeAsOperator(pick(random)),
        _ => Use::Restart,
    }
}
