//! Bodies without an end: no more of one is read than such an answer may have, and the error says so.

use std::sync::atomic::Ordering;

use harness::{
    Result,
    bao::{Primary, Transport},
};
use holdover::upstream::{Request, Upstream, UpstreamError};
use shared::secret::SecretText;

use super::{
    Stage,
    stand_in::{Asked, Endless},
};
use crate::rig::BOUND;

/// What waits in buffers between the two, in bytes: sent, and not read.
const ON_ITS_WAY: usize = 16 << 20;

/// A request of Holdover's own.
struct Bounded {
    asked: Asked,
    request: Request,
    /// Bytes.
    bound: usize,
}

fn requests() -> Vec<Bounded> {
    let bounded = |method, request: Request, bound| Bounded {
        asked: Asked {
            method,
            path: request.path().to_owned(),
        },
        request,
        bound,
    };
    let accessor = [("accessor", "ic2DXMpznvxubkUZ1t3GOETR")];
    vec![
        bounded("GET", Request::read("sys/leader").of_cluster(), 64 << 10),
        bounded(
            "GET",
            Request::read("sys/seal-status").of_cluster(),
            64 << 10,
        ),
        bounded(
            "POST",
            Request::fields("auth/token/lookup-accessor", &accessor),
            1 << 20,
        ),
        bounded("GET", Request::read("secret/data/shop/a"), 32 << 20),
        bounded("LIST", Request::list("secret/metadata/shop"), 64 << 20),
    ]
}

#[tokio::test]
async fn no_more_is_read_of_an_endless_body_than_an_answer_may_have() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    super::kv_mounts(&primary.root()).await?;
    let stage = Stage::set(
        primary,
        |plan| super::mirrored(plan, &["secret/config"]),
        "",
    )
    .await;
    let stage = stage?;
    for one in requests() {
        let refused = [(403, None), (404, None)];
        let shown = [(200, None), (200, Some(1 << 40))];
        // Errors are read by the same bound, which takes its time where it is large.
        let refused = refused.into_iter().filter(|_| one.bound < 1 << 20);
        for (status, promised) in shown.into_iter().chain(refused) {
            let endless = stage.endless(&one.asked, status, promised);
            let answered = stage.host.upstream.ask_now(&one.request).await;
            let error = answered.map(drop).unwrap_err();
            let what = format!("{} {status} {promised:?}: {error}", one.asked.path);
            assert!(matches!(error, UpstreamError::Malformed { .. }), "{what}");
            let told = [one.asked.path.clone(), format!("{} bytes", one.bound)];
            assert!(
                told.iter().all(|text| error.to_string().contains(text)),
                "{what}"
            );
            let bound = match promised {
                Some(_) => 0,
                None => one.bound,
            };
            endless.is_left(bound, &what).await?;
        }
    }
    Ok(())
}

/// Nothing is sent over a connection that has not shown its cluster.
#[tokio::test]
async fn an_endless_health_is_no_health() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    super::kv_mounts(&primary.root()).await?;
    let stage = Stage::set(
        primary,
        |plan| super::mirrored(plan, &["secret/config"]),
        "",
    )
    .await;
    let stage = stage?;
    let asked = Asked {
        method: "GET",
        path: "sys/health".to_owned(),
    };
    for promised in [None, Some(1 << 40)] {
        let endless = stage.endless(&asked, 200, promised);
        let upstream = Upstream::new(&stage.host.config, stage.host.local.clone())?;
        let token = SecretText::new("s.FV7FA8g4mAmh7kjOnSwxVYLS".to_owned());
        let error = upstream.lookup_self(&token).await.map(drop).unwrap_err();
        assert!(error.is_unavailable(), "{error}");
        endless.is_left(64 << 10, &error.to_string()).await?;
    }
    Ok(())
}

impl Stage {
    /// Answers to this are without an end from now on.
    fn endless(&self, asked: &Asked, status: u16, promised: Option<u64>) -> Endless {
        let endless = Endless {
            promised,
            ..Endless::default()
        };
        let body = endless.clone();
        self.stand_in.spoil(asked, move |mut answer| {
            answer.status = status;
            answer.endless = Some(body.clone());
            answer
        });
        endless
    }
}

impl Endless {
    /// Nobody reads it any more, and little more was read than the bound.
    async fn is_left(&self, bound: usize, what: &str) -> Result<()> {
        harness::eventually(BOUND, "the end of reading", async || {
            match self.left.load(Ordering::SeqCst) {
                true => Ok(()),
                false => Err(what),
            }
        })
        .await?;
        let taken = self.taken.load(Ordering::SeqCst);
        assert!(
            taken <= bound + ON_ITS_WAY,
            "{what}: {taken} bytes were taken"
        );
        Ok(())
    }
}
