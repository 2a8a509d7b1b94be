//! The primary's addresses in order of preference, each with a health of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::config::Address;

/// The addresses. Shared by forwards, probes and Holdover's own requests.
#[derive(Clone)]
pub struct Addresses(Arc<[Monitored]>);

/// One address and what is known of it.
pub struct Monitored {
    /// The address.
    pub address: Address,
    healthy: AtomicBool,
    latency_ms: AtomicU64,
    identity: AtomicU8,
}

/// Whose cluster answers at an address, as far as it was seen since its last failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterIdentity {
    /// Not seen yet: nothing secret may be sent there.
    Unknown = 0,
    /// The pinned one.
    Ours = 1,
    /// Another.
    Foreign = 2,
}

impl Addresses {
    /// All of them healthy until something is known.
    pub fn new(addresses: &[Address]) -> Self {
        let monitored = addresses.iter().map(|address| Monitored {
            address: address.clone(),
            healthy: AtomicBool::new(true),
            latency_ms: AtomicU64::new(u64::MAX),
            identity: AtomicU8::new(ClusterIdentity::Unknown as u8),
        });
        Self(monitored.collect())
    }

    /// The first healthy one; the first of all if none is.
    pub fn preferred(&self) -> Option<&Monitored> {
        self.0
            .iter()
            .find(|one| one.is_healthy())
            .or_else(|| self.0.first())
    }

    /// The healthy ones in order of preference, then the others: the order in which a request tries them.
    pub fn to_try(&self) -> impl Iterator<Item = &Monitored> {
        let healthy = self.0.iter().filter(|one| one.is_healthy());
        healthy.chain(self.0.iter().filter(|one| !one.is_healthy()))
    }

    /// The one that an absolute URL lies below, if it is configured: what a redirect may lead to.
    pub fn at(&self, url: &str) -> Option<&Monitored> {
        self.0.iter().find(|one| {
            url.strip_prefix(one.address.url.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// All of them, in order of preference.
    pub fn all(&self) -> &[Monitored] {
        &self.0
    }
}

impl Monitored {
    /// Whether its last probe or request was answered.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// How long its last probe took; none before the first.
    pub fn latency(&self) -> Option<Duration> {
        match self.latency_ms.load(Ordering::Acquire) {
            u64::MAX => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }

    /// It answered, after `latency`.
    pub fn answered(&self, latency: Duration) {
        let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX - 1);
        self.latency_ms.store(millis, Ordering::Release);
        self.healthy.store(true, Ordering::Release);
    }

    /// It did not. Who answers there has to be seen again.
    pub fn failed(&self) {
        self.healthy.store(false, Ordering::Release);
        self.identified(ClusterIdentity::Unknown);
    }

    /// Whose cluster answers there.
    pub fn identity(&self) -> ClusterIdentity {
        match self.identity.load(Ordering::Acquire) {
            1 => ClusterIdentity::Ours,
            2 => ClusterIdentity::Foreign,
            _ => ClusterIdentity::Unknown,
        }
    }

    /// It said whose cluster it is of.
    pub fn identified(&self, identity: ClusterIdentity) {
        self.identity.store(identity as u8, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        let address = |port: u16| Address {
            url: format!("https://vault:{port}"),
            tls: true,
            host: "vault".to_owned(),
            port,
        };
        Addresses::new(&[address(8200), address(82)])
    }

    #[test]
    fn a_failed_address_is_tried_last_and_must_identify_itself_again() {
        let addresses = addresses();
        let first = &addresses.all()[0];
        first.identified(ClusterIdentity::Ours);
        first.failed();
        assert_eq!(first.identity(), ClusterIdentity::Unknown);
        assert_eq!(addresses.preferred().unwrap().address.port, 82);
        let order: Vec<_> = addresses.to_try().map(|one| one.address.port).collect();
        assert_eq!(order, [82, 8200]);
    }

    #[test]
    fn a_redirect_leads_to_configured_addresses_only() {
        let addresses = addresses();
        assert!(addresses.at("https://vault:8200/v1/x").is_some());
        assert!(addresses.at("https://vault:82001/v1/x").is_none());
        assert!(addresses.at("https://vault:8200.evil/v1/x").is_none());
        assert!(addresses.at("/v1/x").is_none());
    }
}
