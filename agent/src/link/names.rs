//! Name resolution that outlives its resolver: the last good answer of a name stands while none can be had.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;

/// Resolves through the system and remembers. Cheap to clone; clones share what they remember.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>);

/// A name has no address, and never had one.
#[derive(Debug, thiserror::Error)]
#[error("{host}: {source}")]
pub struct NotResolved {
    /// The name.
    host: String,
    /// What the system said.
    source: std::io::Error,
}

impl Names {
    /// The addresses of `host`, with port 0: from the system, else the last that it gave.
    ///
    /// # Errors
    /// If the system gives none and never did.
    pub async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, NotResolved> {
        match tokio::net::lookup_host((host, 0)).await {
            Ok(found) => {
                let found: Vec<_> = found.collect();
                self.0.lock().insert(host.to_owned(), found.clone());
                Ok(found)
            }
            Err(source) => {
                let known = self.0.lock().get(host).cloned();
                known.ok_or_else(|| NotResolved {
                    host: host.to_owned(),
                    source,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // `.invalid` never resolves (RFC 6761).
    const NOWHERE: &str = "primary.invalid";

    #[tokio::test]
    async fn the_last_good_answer_stands_while_the_resolver_has_none() {
        let names = Names::default();
        assert!(Names::resolve(&names, NOWHERE).await.is_err());
        let last: SocketAddr = "192.0.2.7:0".parse().unwrap();
        names.0.lock().insert(NOWHERE.to_owned(), vec![last]);
        assert_eq!(Names::resolve(&names, NOWHERE).await.unwrap(), [last]);
    }
}
