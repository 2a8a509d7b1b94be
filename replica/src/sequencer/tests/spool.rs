//! The ledger: read in pieces, cut, and full.

use super::*;

#[test]
fn the_ledger_reads_in_pieces_verifies_and_goes_on_after_it_was_cut() {
    let home = Home::made(1);
    let sequencer = home.start();
    for _ in 0..10 {
        wait(
            &sequencer,
            Lane::Grant,
            vec![said(EntryKind::State)],
            nothing(),
        )
        .unwrap();
    }
    let (piece, head) = read(&sequencer, 4, 3);
    assert_eq!(
        piece.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        [4, 5, 6]
    );
    assert_eq!((head.first, head.next), (1, 11));
    let before = head.bytes;
    let (done, answer) = mpsc::channel();
    sequencer.trim_ledger(8, move |result| done.send(result).unwrap());
    answer.recv().unwrap().unwrap();
    wait(
        &sequencer,
        Lane::Grant,
        vec![said(EntryKind::State)],
        nothing(),
    )
    .unwrap();
    let (rest, head) = read(&sequencer, 0, 100);
    assert_eq!(
        rest.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        [8, 9, 10, 11]
    );
    assert!(head.bytes < before);
    sequencer.stop();
    assert_eq!(ledger(&home), rest);
}

#[test]
fn a_full_ledger_ends_issuing_keeps_room_for_revocations_and_drops_what_is_aggregated() {
    let mut home = Home::made(1);
    home.location.ledger_max = 8 << 10;
    let sequencer = home.start();
    let mut issued: u64 = 0;
    let refusal = loop {
        let unit = vec![granted(issued), said(EntryKind::Grant)];
        match wait(&sequencer, Lane::Grant, unit, nothing()) {
            Ok(()) => issued += 1,
            Err(error) => break error,
        }
        assert!(issued < 1000, "it never fills");
    };
    assert_eq!(refusal, SubmitError::LedgerFull);
    assert!(sequencer.view().grant(&digest(issued)).is_none());
    let stats = sequencer.stats();
    assert!(stats.ledger.bytes >= stats.ledger_issuing && stats.ledger.bytes < stats.ledger_max);
    let aggregated = vec![said(EntryKind::Read), said(EntryKind::Denial)];
    assert_eq!(
        wait(&sequencer, Lane::Mirror, aggregated, nothing()),
        Ok(())
    );
    assert_eq!(sequencer.stats().ledger_dropped, 2);
    for n in 0..issued {
        let unit = vec![revoked(n), said(EntryKind::Revocation)];
        assert_eq!(wait(&sequencer, Lane::Revocation, unit, nothing()), Ok(()));
    }
    let value = samples::value("secret/data/a", 1, "{}");
    assert_eq!(
        wait(&sequencer, Lane::Mirror, vec![value], nothing()),
        Ok(())
    );
    sequencer.stop();
    let entries = ledger(&home);
    assert_eq!(
        u64::try_from(entries.len()).unwrap(),
        2 * issued,
        "no revocation is lost"
    );
}
