//! Room in the ledger for what a group says there.
//!
//! What is done only if the ledger has it is refused where it has no room. What has bound already, what only stands for many
//! requests, and remarks on something else are kept without their entry: that is counted.

use shared::{
    change::Change,
    ledger::claim::{Claim, Purpose, promise},
    name::TokenDigest,
};

use super::{Stage, StoreError, Submission, SubmitError, When, Worker};
use crate::{
    ledger,
    store::{Room, RoomRow},
    table::{At, Op, Table},
    view::View,
};

/// Entries that are taken out of the count at once.
const COUNTED: usize = 1024;

impl Worker {
    /// Takes the room that a submission needs; entries that find none are left out of it where it cannot be refused.
    pub(super) fn admit(
        &self,
        submission: &mut Submission,
        stage: &Stage<'_>,
    ) -> Result<(), SubmitError> {
        let says = |change: &Change| matches!(change, Change::Ledger(_));
        if !submission.changes.iter().any(says) {
            return Ok(());
        }
        let view = &self.shared.view;
        let mut room = self.shared.room.lock();
        room.follow(view);
        if submission.when == When::Committed && !submission.changes.iter().all(says) {
            let claims = claims(&submission.changes, stage)?;
            room.admit(claims, view).map_err(SubmitError::LedgerFull)?;
            // Whose these count for may be somebody else, who could fill the ledger for whoever this is done for.
            submission.changes.retain(|change| match change {
                Change::Ledger(entry) if entry.is_remark() => {
                    finds_room(&mut room, ledger::claim(entry), view)
                }
                _ => true,
            });
            return Ok(());
        }
        let mut ends = Ends::of(&submission.changes, stage);
        submission.changes.retain(|change| match change {
            Change::Ledger(entry) => {
                let claim = ledger::claim(entry).map(|claim| ends.promised(entry.token, claim));
                finds_room(&mut room, claim, view)
            }
            _ => true,
        });
        Ok(())
    }

    /// Makes space in the file for what the group adds, and notes now and then who has taken what of it.
    pub(super) fn make_space(&mut self, ops: &mut Vec<Op>) -> Result<(), StoreError> {
        let (max, through, staged) = {
            let room = self.shared.room.lock();
            (room.max(), room.delivered(), room.staged())
        };
        self.writer.cut(max.saturating_sub(staged), through)?;
        let due = self.shared.room.lock().due(&self.writer.header.ledger);
        if let Some(row) = due {
            ops.push(self.room_row(&row)?);
        }
        Ok(())
    }

    /// Entries up to `through` are kept elsewhere too.
    pub(super) fn delivered(&mut self, through: u64) -> Result<(), StoreError> {
        let through = through.min(self.writer.header.ledger.next.saturating_sub(1));
        let mut from = self.shared.room.lock().delivered().saturating_add(1);
        if through < from {
            return Ok(());
        }
        let (now, keys) = ((self.shared.clock)(), self.writer.keys.clone());
        self.writer.prepare(1, now.steady)?;
        while from <= through {
            let left = usize::try_from(through - from + 1).unwrap_or(COUNTED);
            let rows = self.writer.rows(from, left.min(COUNTED))?;
            let last = rows.last().map_or(through, |row| row.seq);
            self.shared.room.lock().deliver(&keys, &rows, last);
            from = last.saturating_add(1);
        }
        let most = self.shared.room.lock().max() / 2;
        self.writer.cut(most, through)?;
        let row = self.shared.room.lock().row(&self.writer.header.ledger);
        let op = self.room_row(&row)?;
        self.writer.commit(&[op], &[])?;
        self.commits += 1;
        Ok(())
    }

    fn room_row(&mut self, row: &RoomRow) -> Result<Op, StoreError> {
        let at = At::only(&self.writer.keys, Table::Room);
        let sealed = self.writer.sealer().seal_json(&at.subject(), row)?;
        Ok(Op::Put(at, sealed))
    }
}

/// Whether an entry is kept. What cannot be written out at all fails where it is sealed.
fn finds_room<E>(room: &mut Room, claim: Result<Claim, E>, view: &View) -> bool {
    let Ok(claim) = claim else {
        return true;
    };
    let kept = room.admit(vec![claim], view).is_ok();
    if !kept {
        room.dropped();
    }
    kept
}

/// What a submission needs: room for its entries but remarks, and for the end of each grant that was not there before.
fn claims(changes: &[Change], stage: &Stage<'_>) -> Result<Vec<Claim>, SubmitError> {
    let mut claims = Vec::new();
    for change in changes {
        match change {
            Change::Grant(grant) if grant.is_replica() && stage.live(&grant.digest).is_none() => {
                claims.push(promise(grant));
            }
            Change::Ledger(entry) if !entry.is_remark() => {
                let claim = ledger::claim(entry);
                claims.push(claim.map_err(|error| SubmitError::Failed(error.to_string()))?);
            }
            _ => {}
        }
    }
    Ok(claims)
}

/// Grants whose end a submission is, each of which has room for one entry.
struct Ends(Vec<TokenDigest>);

impl Ends {
    fn of(changes: &[Change], stage: &Stage<'_>) -> Self {
        let revoked = changes.iter().filter_map(|change| match change {
            Change::Revoked(revocation) => stage.live(&revocation.digest),
            _ => None,
        });
        let promised = revoked.filter(|live| live.grant.is_replica());
        Self(promised.map(|live| live.grant.digest).collect())
    }

    /// The claim of an entry about `token`: on what was promised, if it is about such an end.
    fn promised(&mut self, token: Option<TokenDigest>, claim: Claim) -> Claim {
        let of = self.0.iter().position(|digest| Some(*digest) == token);
        match (of, claim.purpose) {
            (Some(nr), Purpose::End) => {
                self.0.swap_remove(nr);
                Claim {
                    purpose: Purpose::PromisedEnd,
                    ..claim
                }
            }
            _ => claim,
        }
    }
}
