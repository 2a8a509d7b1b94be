//! What opening the replica showed that an operator should know, and what it shares its fate with.

use std::path::Path;

use replica::store::{self, AnchorState, OpenReport, Salvage};

/// Findings of the start, for the [`Board`](crate::ready::Board): of the replica at `replica`, and of the state file that it is
/// anchored in, where there is one.
pub fn findings(report: &OpenReport, replica: &Path, state_file: Option<&Path>) -> Vec<String> {
    let mut findings = vec![
        "theft protection: none: a key file protects copies and backups of the replica, not a stolen disk".to_owned(),
    ];
    let state_file = state_file.unwrap_or(Path::new(""));
    findings.extend(anchor(&report.anchor, state_file));
    let salvage = report.salvage.as_ref();
    findings.extend(salvage.map(|salvage| salvaged(salvage, replica)));
    if report.salvage.is_none() {
        findings.extend(kept(replica));
    }
    if report.values_lost > 0 {
        let lost = report.values_lost;
        findings.push(format!(
            "{lost} mirrored values did not open and were dropped; the mirror reads them again"
        ));
    }
    if report.values_changed {
        findings.push(
            "mirrored values were removed or replaced by older ones while Holdover was stopped"
                .to_owned(),
        );
    }
    if report.ledger_cut {
        findings.push(
            "the ledger does not end where the last commit says: entries were removed or added"
                .to_owned(),
        );
    }
    if let Some(kind) = network_filesystem(replica) {
        findings.push(format!(
            "the replica is on {kind}: it fails when the network does"
        ));
    }
    findings
}

fn salvaged(salvage: &Salvage, replica: &Path) -> String {
    let (why, kept, replica) = (&salvage.why, salvage.kept.display(), replica.display());
    let instead = match salvage.rows {
        Some(rows) => {
            format!("what could be read of it, {rows} rows, was brought into a new file")
        }
        None => "nothing of it could be read, and an empty one took its place: revocations that the primary was not told of are \
                 not known any more"
            .to_owned(),
    };
    format!(
        "the replica {replica} was damaged ({why}): {instead}. The damaged file is kept as {kept}; remove it when it is of no more use"
    )
}

/// Damaged files of before.
fn kept(replica: &Path) -> Option<String> {
    let kept = store::damaged(replica);
    let last = kept.last()?.display();
    Some(format!(
        "the replica was damaged before, and what could be read of it was brought into a new file: {} damaged files are kept, the \
         last as {last}; remove them when they are of no more use",
        kept.len()
    ))
}

fn anchor(state: &AnchorState, file: &Path) -> Option<String> {
    let file = file.display();
    match state {
        AnchorState::Agrees | AnchorState::First | AnchorState::Unset => None,
        AnchorState::Ahead { anchor, replica } => Some(format!(
            "the replica was replaced by an older copy: its generation is {replica}, that of its anchor {file} is {anchor}"
        )),
        AnchorState::Missing => Some(format!("the replica's anchor {file} is gone")),
        AnchorState::Foreign => Some(format!(
            "the replica's anchor {file} belongs to another replica, or was changed"
        )),
        AnchorState::Unreadable => Some(format!(
            "the replica's anchor {file} cannot be read: it must be a file of mode 0600 of the daemon's own user"
        )),
    }
}

/// The network filesystem that `path` lies on, by the kernel's number for it.
fn network_filesystem(path: &Path) -> Option<&'static str> {
    let kinds = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xfe53_4d42, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0x00c3_6400, "Ceph"),
        (0x0102_1997, "9P"),
        (0x5346_414f, "AFS"),
    ];
    let found = rustix::fs::statfs(path.parent()?).ok()?;
    // The width of the field differs between machines; the numbers fit 32 bits.
    let magic = u32::try_from(i128::from(found.f_type) & 0xffff_ffff).ok()?;
    kinds
        .iter()
        .find(|(number, _)| *number == magic)
        .map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> OpenReport {
        OpenReport {
            generation: 1,
            rolled_back: false,
            anchor: AnchorState::Agrees,
            values_lost: 0,
            values_changed: false,
            salvage: None,
            ledger_cut: false,
        }
    }

    #[test]
    fn damaged_files_are_told_of_as_long_as_they_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica.db");
        let told = || findings(&sound(), &path, None).join("\n");
        assert!(!told().contains("damaged"), "{}", told());
        std::fs::write(folder.path().join("replica.db.damaged-2"), "").unwrap();
        assert!(told().contains("replica.db.damaged-2"), "{}", told());
    }

    #[test]
    fn whatever_was_found_wrong_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica.db");
        let usual = findings(&sound(), &path, None).len();
        let odd = [
            OpenReport {
                values_lost: 3,
                ..sound()
            },
            OpenReport {
                values_changed: true,
                ..sound()
            },
            OpenReport {
                ledger_cut: true,
                ..sound()
            },
            OpenReport {
                salvage: Some(Salvage {
                    kept: "replica.db.damaged-1".into(),
                    why: "tables of it are missing".to_owned(),
                    rows: None,
                }),
                ..sound()
            },
            OpenReport {
                anchor: AnchorState::Missing,
                ..sound()
            },
            OpenReport {
                anchor: AnchorState::Foreign,
                ..sound()
            },
            OpenReport {
                anchor: AnchorState::Unreadable,
                ..sound()
            },
            OpenReport {
                anchor: AnchorState::Ahead {
                    anchor: 9,
                    replica: 4,
                },
                ..sound()
            },
        ];
        for report in odd {
            assert_eq!(
                findings(&report, &path, Some(&path)).len(),
                usual + 1,
                "{report:?}"
            );
        }
    }
}
