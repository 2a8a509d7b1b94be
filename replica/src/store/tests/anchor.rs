//! The anchor: what it makes of a replica that is older, and when it is written.

use super::*;

#[test]
fn a_replica_older_than_its_anchor_issues_nothing_until_the_primary_was_seen() {
    let home = Home::made(1);
    home.store(vec![granted(1)]);
    let old = fs::read(&home.location.path).unwrap();
    home.store(vec![revoked(1)]);
    fs::write(&home.location.path, &old).unwrap();
    let opened = home.open();
    assert!(opened.report.rolled_back && opened.view.authority().rolled_back);
    let AnchorState::Ahead { anchor, .. } = opened.report.anchor else {
        panic!("{:?}", opened.report);
    };
    let written = || fs::read(home.location.anchor.as_ref().unwrap()).unwrap();
    let evidence = written();
    drop(opened);
    let opened = home.open();
    assert!(opened.report.rolled_back, "a restart does not forget it");
    assert!(
        opened.report.generation > anchor,
        "no generation is used twice"
    );
    let sequencer = opened.start(|| now(1)).unwrap();
    let phase = samples::outage();
    wait(
        &sequencer,
        Lane::Revocation,
        vec![phase],
        Expects::default(),
    )
    .unwrap();
    let issues = || Expects {
        issues: true,
        ..Expects::default()
    };
    let issued = wait(&sequencer, Lane::Grant, vec![granted(3)], issues());
    assert_eq!(issued, Err(SubmitError::Conflict));
    assert_eq!(written(), evidence, "the anchor stays as it was found");
    let (done, answer) = mpsc::channel();
    sequencer.clear_rollback(move |result| done.send(result).unwrap());
    answer.recv().unwrap().unwrap();
    assert_eq!(
        wait(&sequencer, Lane::Grant, vec![granted(3)], issues()),
        Ok(())
    );
    sequencer.stop();
    let report = home.open().report;
    assert!(
        !report.rolled_back && report.anchor == AnchorState::Agrees,
        "{report:?}"
    );
}

#[test]
fn a_removed_anchor_is_a_doubt_and_a_first_one_is_none() {
    let home = Home::made(1);
    assert_eq!(home.open().report.anchor, AnchorState::First);
    assert_eq!(home.open().report.anchor, AnchorState::Agrees);
    fs::remove_file(home.location.anchor.as_ref().unwrap()).unwrap();
    let report = home.open().report;
    assert!(report.rolled_back && report.anchor == AnchorState::Missing);
    let unanchored = Replica::open(
        &home.location_without_anchor(),
        std::slice::from_ref(&home.source),
        settings(),
        Arc::new(Seeded::new(1)),
    );
    assert_eq!(unanchored.unwrap().report.anchor, AnchorState::Unset);
}

#[test]
fn an_operator_s_revocation_is_answered_once_the_anchor_holds_it() {
    let home = Home::made(1);
    let sequencer = home.start();
    wait(
        &sequencer,
        Lane::Grant,
        vec![granted(1)],
        Expects::default(),
    )
    .unwrap();
    let anchored = || {
        let text = fs::read_to_string(home.location.anchor.as_ref().unwrap()).unwrap();
        text.split(' ').nth(3).unwrap().parse::<u64>().unwrap()
    };
    let before = anchored();
    let expired = Change::Revoked(samples::revocation(2, RevokeCause::Expired));
    wait(
        &sequencer,
        Lane::Revocation,
        vec![expired],
        Expects::default(),
    )
    .unwrap();
    assert_eq!(
        anchored(),
        before,
        "what is past anyway need not be anchored"
    );
    let done = {
        let (done, answer) = mpsc::channel();
        let path = home.location.anchor.clone().unwrap();
        sequencer.submit(
            Lane::Revocation,
            vec![revoked(1)],
            Expects::default(),
            move |_| {
                done.send(fs::read_to_string(path).unwrap()).unwrap();
            },
        );
        answer.recv().unwrap()
    };
    assert_eq!(
        done,
        fs::read_to_string(home.location.anchor.as_ref().unwrap()).unwrap()
    );
    assert!(anchored() > before);
    sequencer.stop();
}
