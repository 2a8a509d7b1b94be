//! The balancer that chooses per request.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, Response, StatusCode};

use super::Backends;
use crate::authority::Authority;
use crate::failure::Result;
use crate::front::{Backend, Body, Front, Session, pass_on, say};

pub(super) async fn open(authority: &Authority, backends: Backends) -> Result<Front> {
    let trusted = authority.clone();
    Front::open(authority, move || Requests {
        backends: backends.clone(),
        authority: trusted.clone(),
        ways: BTreeMap::new(),
    })
    .await
}

/// One client connection, with a connection of its own to each backend that it has been led to.
struct Requests {
    backends: Backends,
    authority: Authority,
    ways: BTreeMap<String, Backend>,
}

impl Session for Requests {
    async fn answer(&mut self, request: Request<Bytes>) -> Result<Response<Body>> {
        let Some(next) = self.backends.take_turn().into_iter().next() else {
            return Ok(say(StatusCode::SERVICE_UNAVAILABLE, "no backend"));
        };
        let way = match self.ways.remove(&next) {
            Some(way) => way,
            None => Backend::new(&next, &self.authority)?,
        };
        let way = self.ways.entry(next).or_insert(way);
        match way.send(&request).await {
            Ok(answer) => Ok(pass_on(answer)),
            Err(failure) => Ok(say(StatusCode::BAD_GATEWAY, failure.to_string())),
        }
    }
}
