//! Claims about answers of the primary that break off: whatever marks their end, no client takes one for whole.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use shared::share::{Party, Total};

use super::{
    eventually,
    rig::{Act, Client, Heard, Primary, Rig, Setup, client::with_body, primary::with, request},
};
use crate::link::{
    body::{ANSWERS, RelayBody, SMALL},
    room::{BodyRoom, Rooms},
};

/// It closes brackets within a text, too, and is whole with its last byte alone.
const BODY: &str = "{\"auth\":null,\"data\":{\"a\":\"}}\\\"\"},\"keys\":[[],{}]}";

/// A request of each class: read, issue, once, stream.
fn classes() -> [(&'static str, String); 4] {
    [
        ("read", request("GET", "/v1/secret/data/shop/a", &[])),
        (
            "issue",
            with_body("PUT", "/v1/auth/approle/login", &[], "{}"),
        ),
        (
            "once",
            with_body("PUT", "/v1/auth/token/revoke-self", &[], "{}"),
        ),
        ("stream", with_body("PUT", "/v1/secret/data/x", &[], "{}")),
    ]
}

/// An answer whose end is marked by its length, by its last chunk, or by the end of the connection alone: its head and
/// the rest.
fn framings(body: &str) -> [(&'static str, String, String); 4] {
    let head = |first: &str, more: &str| {
        format!("{first} 200 OK\r\nContent-Type: application/json\r\n{more}\r\n")
    };
    let (one, other) = body.split_at(body.len() / 2);
    let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
    let chunks = [chunk(one), chunk(other), chunk("")].concat();
    let length = format!("Content-Length: {}\r\n", body.len());
    [
        ("length", head("HTTP/1.1", &length), body.to_owned()),
        (
            "chunks",
            head("HTTP/1.1", "Transfer-Encoding: chunked\r\n"),
            chunks,
        ),
        ("close", head("HTTP/1.1", ""), body.to_owned()),
        ("1.0", head("HTTP/1.0", ""), body.to_owned()),
    ]
}

fn is_marked(framing: &str) -> bool {
    matches!(framing, "length" | "chunks")
}

/// Nothing here comes late, and the side that issues does not change.
fn rig(primary: &Primary) -> Rig {
    issuing_within(Duration::from_secs(10), primary)
}

/// The same where a login of which nobody knows what came waits for no more than this.
fn issuing_within(issue_deadline: Duration, primary: &Primary) -> Rig {
    let mut setup = Setup::with(primary);
    setup.rules.read_deadline = Duration::from_secs(10);
    setup.rules.issue_deadline = issue_deadline;
    setup.start()
}

async fn ask(rig: &Rig, request: &str) -> Option<Heard> {
    Client::connect(&rig.path).await.try_ask(request).await
}

/// Cuts an answer behind each of its bytes but the last.
async fn cut_everywhere(body: &str, end: fn(Vec<u8>) -> Act, claim: impl Fn(&str, Option<Heard>)) {
    for (framing, head, rest) in framings(body) {
        let (left, length) = (Arc::new(AtomicUsize::new(0)), rest.len());
        let whole = [head, rest].concat().into_bytes();
        let cut = left.clone();
        let primary = Primary::start(move |_| {
            end(whole[..whole.len() - cut.load(Ordering::Relaxed)].to_vec())
        })
        .await;
        let rig = issuing_within(Duration::from_millis(20), &primary);
        for missing in 1..=length {
            left.store(missing, Ordering::Relaxed);
            for (class, request) in classes() {
                let heard = ask(&rig, &request).await;
                let shown =
                    format!("{class}, {framing}, {missing} of {length} are missing: {heard:?}");
                match class {
                    "read" => assert_eq!(heard.unwrap().outcome(), (200, "replica"), "{shown}"),
                    "stream" => claim(&shown, heard),
                    _ => assert_eq!(heard.unwrap().outcome(), (504, "replica"), "{shown}"),
                }
            }
        }
        assert!(rig.replica.lessons().is_empty(), "{framing}");
    }
}

#[tokio::test]
async fn no_part_of_an_answer_is_taken_for_all_of_it() {
    cut_everywhere(BODY, Act::Break, |shown, heard| {
        assert!(heard.is_none(), "{shown}");
    })
    .await;
}

/// A reset may overtake what was sent before it, so that there is no answer at all.
#[tokio::test]
async fn no_part_of_an_answer_that_is_reset_is_taken_for_all_of_it() {
    cut_everywhere(BODY, Act::Reset, |shown, heard| {
        let outcome = heard.as_ref().map(Heard::outcome);
        assert!(matches!(outcome, None | Some((504, "replica"))), "{shown}");
    })
    .await;
}

#[tokio::test]
async fn a_whole_document_reaches_its_client_and_teaches_only_where_its_framing_says_that_it_is_whole()
 {
    for (framing, head, rest) in framings(BODY) {
        let whole = [head, rest].concat().into_bytes();
        let primary = Primary::start(move |_| Act::Break(whole.clone())).await;
        for (class, request) in classes() {
            let rig = rig(&primary);
            let heard = ask(&rig, &request).await.unwrap();
            let shown = format!("{class}, {framing}");
            assert_eq!(
                (heard.outcome(), heard.text()),
                ((200, "primary"), BODY),
                "{shown}"
            );
            let teaches = is_marked(framing) && class != "stream";
            assert_eq!(rig.replica.lessons().len(), usize::from(teaches), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_denial_counts_only_where_its_framing_says_that_it_is_whole() {
    const DENIED: &str = "{\"errors\":[\"permission denied\"]}";
    let unmarked = format!("HTTP/1.1 403 Forbidden\r\n\r\n{DENIED}");
    for (said, lessons) in [(with("403 x", "", DENIED), 1), (unmarked.into_bytes(), 0)] {
        let primary = Primary::start(move |_| Act::Break(said.clone())).await;
        for (class, request) in classes() {
            let rig = rig(&primary);
            let heard = ask(&rig, &request).await.unwrap();
            assert_eq!(
                (heard.outcome(), heard.text()),
                ((403, "primary"), DENIED),
                "{class}"
            );
            assert_eq!(rig.replica.lessons().len(), lessons, "{class}");
        }
    }
}

/// What is no document may end anywhere.
#[tokio::test]
async fn a_text_without_a_marked_end_ends_cut() {
    for text in ["", "a plain text", "{}{}", "<style>a {}</style>"] {
        let said = format!("HTTP/1.1 200 OK\r\n\r\n{text}").into_bytes();
        let primary = Primary::start(move |_| Act::Break(said.clone())).await;
        let rig = rig(&primary);
        let [(_, read), .., (_, stream)] = classes();
        let outcome = ask(&rig, &read).await.unwrap();
        assert_eq!(outcome.outcome(), (200, "replica"), "{text}");
        assert!(ask(&rig, &stream).await.is_none(), "{text}");
    }
}

/// What is larger than a buffer streams in every class, and ends for its client as it ended for us.
#[tokio::test]
async fn a_large_answer_that_breaks_off_ends_cut() {
    let large = format!("{{\"data\":\"{}\"}}", "x".repeat(2 * 1024 * 1024));
    for (framing, head, rest) in framings(&large) {
        let whole = [head, rest].concat().into_bytes();
        for missing in [0, 1, 1024] {
            let said = whole[..whole.len() - missing].to_vec();
            let primary = Primary::start(move |_| Act::Break(said.clone())).await;
            let rig = rig(&primary);
            for (class, request) in classes() {
                let heard = ask(&rig, &request).await;
                let body = heard.map(|heard| heard.body.len());
                let expected = (missing == 0).then_some(large.len());
                assert_eq!(body, expected, "{class}, {framing}, without {missing}");
            }
            assert!(rig.replica.lessons().is_empty(), "{framing}");
        }
    }
}

/// HTTP/1.0 has no chunks: a client that speaks it sees by the length alone that an answer was cut.
#[tokio::test]
async fn a_client_of_http_1_0_gets_whole_answers_alone() {
    let [.., (_, stream)] = classes();
    let old = stream.replace("HTTP/1.1", "HTTP/1.0");
    for (framing, head, rest) in framings(BODY) {
        for missing in [0, 1, BODY.len()] {
            let said = [&head, &rest[..rest.len() - missing]].concat().into_bytes();
            let primary = Primary::start(move |_| Act::Break(said.clone())).await;
            let heard = ask(&rig(&primary), &old).await;
            let shown = format!("{framing}, without {missing}: {heard:?}");
            let heard = heard.map(|heard| (heard.status(), heard.text().to_owned()));
            match (missing, heard) {
                (0, heard) => assert_eq!(heard, Some((200, BODY.to_owned())), "{shown}"),
                (_, Some((status, said))) => {
                    assert_eq!(status, 502, "{shown}");
                    assert!(said.contains("HTTP/1.1"), "{shown}");
                }
                // The length showed it.
                (_, None) => assert_eq!(framing, "length", "{shown}"),
            }
        }
    }
}

/// However many there are who ask and do not read.
#[tokio::test]
async fn what_is_measured_for_a_client_of_http_1_0_has_room_until_it_was_sent() {
    let large = "x".repeat(1000 * 1000);
    let [_, (_, chunked, chunks), ..] = framings(&large);
    let said = [chunked, chunks].concat().into_bytes();
    let primary = Primary::start(move |_| Act::Say(said.clone())).await;
    let rig = rig(&primary);
    let stream = request("GET", "/v1/sys/metrics", &[]);
    let old = stream.replace("HTTP/1.1", "HTTP/1.0");
    let taken = || rig.server.buffers.taken();
    let mut client = Client::connect(&rig.path).await;
    client.write(old.as_bytes()).await;
    eventually("its room", || taken() >= 1000 * 1000).await;
    drop(client);
    eventually("the end of it", || taken() == 0).await;
    let others: Vec<_> = (0..80).map(|uid| all_it_gets(&rig, uid)).collect();
    let status = ask(&rig, &old).await.map(|heard| heard.status());
    assert_eq!(status, Some(429), "{}", taken());
    drop(others);
    let status = ask(&rig, &old).await.map(|heard| heard.status());
    assert_eq!(status, Some(200));
}

/// As much of the room for answers as another user gets.
fn all_it_gets(rig: &Rig, uid: u32) -> BodyRoom {
    let party = Arc::new(Party {
        matched: true,
        uid,
        unit: None,
    });
    let total = Total::whole(ANSWERS);
    let mut room = rig.server.buffers.room(&party, total);
    let sizes = std::iter::successors(Some(ANSWERS as usize), |size| Some(size / 2));
    let _ = sizes
        .take_while(|size| *size > 0)
        .find(|size| room.grow_to(*size).is_ok());
    room
}

/// Whoever asks and does not read is bounded by its places.
#[test]
fn what_is_whole_and_not_small_keeps_its_place_until_it_was_sent() {
    for (size, taken) in [(SMALL, 0), (SMALL + 1, 1)] {
        let party = Arc::new(Party {
            matched: false,
            uid: 7,
            unit: None,
        });
        let places = Rooms::default();
        let place = places.place(&party, Total::whole(8)).unwrap();
        let body = RelayBody::Whole(vec![0; size].into()).whole_in_place(place);
        assert_eq!(places.taken(), taken, "{size}");
        drop(body);
        assert_eq!(places.taken(), 0, "{size}");
    }
}

#[tokio::test]
async fn a_large_answer_without_a_length_is_not_for_a_client_of_http_1_0() {
    let large = "x".repeat(2 * 1024 * 1024);
    let [(_, head, rest), (_, chunked, chunks), ..] = framings(&large);
    let [.., (_, stream)] = classes();
    let old = stream.replace("HTTP/1.1", "HTTP/1.0");
    for (said, status) in [([head, rest], 200), ([chunked, chunks], 502)] {
        let said = said.concat().into_bytes();
        let primary = Primary::start(move |_| Act::Say(said.clone())).await;
        assert_eq!(ask(&rig(&primary), &old).await.unwrap().status(), status);
    }
}
