//! What was counted, over the socket.

use shared::coverage::{Caller, CoverageKey, Foretold};

use super::*;
use crate::{
    coverage::{CountedRequest, keep},
    status::coverage::CoverageReport,
};

#[tokio::test]
async fn coverage_is_told_for_as_long_as_is_asked_for() {
    let world = World::start();
    let now = world.now().steady;
    for (path, ago) in [("secret/data/new", 10), ("secret/data/old", 3600 * 30)] {
        let counted = CountedRequest {
            asked: CoverageKey {
                caller: Caller::Others,
                operation: "read".into(),
                path: path.to_owned(),
                verdict: Foretold::Served,
            },
            refused: false,
            leased: false,
            reason: String::new(),
            carried: None,
        };
        let then = now.minus(Duration::from_secs(ago));
        world.deps.coverage.count(counted, then);
    }
    let week: CoverageReport = world.get("/v1/coverage").await;
    assert_eq!((week.requests, week.percent), (2, Some(100.0)));
    assert!(!week.stored);
    keep::flush(&world.deps.local, &world.deps.coverage).await;
    let day: CoverageReport = world.get("/v1/coverage?since=86400").await;
    assert_eq!((day.requests, day.stored), (1, true));
    assert_eq!(day.rows[0].path, "secret/data/new");
    let wrong = world
        .client
        .get::<CoverageReport>("/v1/coverage?since=7d", PATIENCE);
    assert!(matches!(
        wrong.await,
        Err(AdminClientError::Refused { status, .. }) if status == StatusCode::BAD_REQUEST
    ));
    let (status, _) = world.refused("/v1/coverage", &serde_json::json!({})).await;
    assert_eq!(status, 405);
}
