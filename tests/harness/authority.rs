//! The private certificate authority of the tests' primary.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::failure::Result;

/// A root certificate and one server certificate for loopback under it, all PEM.
#[derive(Clone)]
pub struct Authority {
    /// What clients trust.
    pub ca: String,
    /// What the server shows.
    pub certificate: String,
    /// The server's private key.
    pub key: String,
}

impl Authority {
    /// Makes new keys and certificates.
    pub fn make() -> Result<Authority> {
        let ca_key = KeyPair::generate()?;
        let mut ca_params = CertificateParams::new(Vec::new())?;
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca_params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Holdover tests");
        let ca = ca_params.self_signed(&ca_key)?;
        let key = KeyPair::generate()?;
        let names = ["127.0.0.1", "localhost"].map(str::to_owned);
        let certificate = CertificateParams::new(names)?
            .signed_by(&key, &Issuer::from_params(&ca_params, &ca_key))?;
        Ok(Authority {
            ca: pem("CERTIFICATE", ca.der()),
            certificate: pem("CERTIFICATE", certificate.der()),
            key: pem("PRIVATE KEY", &key.serialize_der()),
        })
    }
}

/// An authority whose certificates clients show, each with a name.
pub struct ClientAuthority {
    /// What a server trusts, PEM.
    pub ca: String,
    params: CertificateParams,
    key: KeyPair,
}

impl ClientAuthority {
    /// Makes a new key and certificate.
    pub fn make() -> Result<ClientAuthority> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Holdover test clients");
        let ca = pem("CERTIFICATE", params.self_signed(&key)?.der());
        Ok(ClientAuthority { ca, params, key })
    }

    /// A certificate for `name` and its key, both PEM.
    pub fn issue(&self, name: &str) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key))?;
        Ok((
            pem("CERTIFICATE", certificate.der()),
            pem("PRIVATE KEY", &key.serialize_der()),
        ))
    }
}

/// Writes PEM here: the crate's own writer would bring a second base64 into the tree.
pub fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<String> = body
        .as_bytes()
        .chunks(64)
        .map(|c| String::from_utf8_lossy(c).into_owned())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
