//! Whether the ledger has room for what an outage would issue, and what takes entries off its hands.

use shared::ledger::{
    claim::Owner,
    share::{ROOM_OF_A_LOGIN, ShareFigures},
};

use super::{ReadyFacts, WorkloadFacts};

/// A share that is so full is a finding.
const FULL_SOON: u64 = 75;
/// A workload should have room for so many logins that nobody else can take.
const LOGINS: u64 = 32;

/// How full the ledger is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LedgerFacts {
    /// Who takes how much of it, as far as it is told apart.
    pub shares: Vec<ShareFigures>,
    /// Whether its entries are sent to journald.
    pub to_journald: bool,
    /// Why journald has not taken the last ones.
    pub untaken: Option<String>,
    /// Why what journald took is not known as that.
    pub unstored: Option<String>,
    /// Entries that found no room since the start.
    pub dropped: u64,
}

impl LedgerFacts {
    fn of(&self, workload: &WorkloadFacts) -> Option<&ShareFigures> {
        let of = |owner: &Owner| matches!(owner, Owner::Workload(name) if *name == workload.name);
        self.shares.iter().find(|share| of(&share.owner))
    }

    /// What makes room.
    fn way_out(&self) -> &'static str {
        match self.to_journald {
            true => "journald has taken its entries, or ledger.max_size is raised",
            false => {
                "ledger.max_size is raised: nothing takes entries, for the daemon does not log to journald"
            }
        }
    }
}

/// Workloads that issue and have no room, with what they have taken.
pub(super) fn full(facts: &ReadyFacts) -> impl Iterator<Item = (&WorkloadFacts, &ShareFigures)> {
    shares(facts).filter(|(_, share)| share.is_full())
}

fn shares(facts: &ReadyFacts) -> impl Iterator<Item = (&WorkloadFacts, &ShareFigures)> {
    let issuing = facts.workloads.iter().filter(|workload| workload.issue);
    issuing.filter_map(|workload| Some((workload, facts.ledger.of(workload)?)))
}

pub(super) fn assess(facts: &ReadyFacts, reasons: &mut Vec<String>, findings: &mut Vec<String>) {
    let ledger = &facts.ledger;
    let way_out = ledger.way_out();
    for (WorkloadFacts { name, .. }, share) in shares(facts) {
        let (percent, shown) = (share.percent(), shown(share));
        if share.is_full() {
            reasons.push(format!(
                "workload {name}: the ledger has no room for it ({shown}): nothing is issued for it until {way_out}"
            ));
        } else if percent >= FULL_SOON {
            findings.push(format!(
                "workload {name}: its room in the ledger is {percent} % full ({shown}): at 100 % nothing is issued for it until {way_out}"
            ));
        }
    }
    findings.extend(too_small(facts));
    if let Some(why) = &ledger.untaken {
        findings.push(format!(
            "journald does not take the ledger's entries: {why}"
        ));
    }
    if let Some(why) = &ledger.unstored {
        findings.push(format!(
            "what journald took of the ledger's entries makes no room, because the replica does not say or store which it were: {why}"
        ));
    }
    if ledger.dropped > 0 {
        findings.push(format!(
            "{} entries of what was done all the same found no room in the ledger since the start: of reads, denials, logins of \
             unknown outcome, revocations of tokens that Holdover did not issue, or of its own states and operators' commands; there \
             is room again once {way_out}",
            ledger.dropped
        ));
    }
}

/// Whose the room is that is taken, in bytes.
fn shown(share: &ShareFigures) -> String {
    let ShareFigures {
        most_for_acts,
        taken,
        by_others,
        ..
    } = share;
    format!("of {most_for_acts} bytes it has taken {taken}, and others {by_others}")
}

/// The more workloads there are, the less each has of its own.
fn too_small(facts: &ReadyFacts) -> Option<String> {
    let (_, share) = shares(facts).next()?;
    let logins = share.reserve / ROOM_OF_A_LOGIN;
    (logins < LOGINS).then(|| {
        let count = facts.workloads.len();
        format!(
            "ledger.max_size keeps room for about {logins} logins for each of {count} workloads: raise it, or others can leave them no more"
        )
    })
}
