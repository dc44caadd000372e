//! Certificates and keys, from files to what the HTTP client takes.
//!
//! They are checked here, whenever they are read: the client would end the thread over a key that is not its
//! certificate's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fabric::Etcd;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{
    Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem,
};

use super::error::Error;

/// Where distributions keep the authorities that their users trust.
const SYSTEM: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What tells a file from what it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<(u64, u64, i64, i64)>);

/// How the files of the configuration look now.
pub(super) fn stamps(etcd: &Etcd) -> Vec<Stamp> {
    let files = [&etcd.ca_file, &etcd.cert_file, &etcd.key_file, &etcd.password_file];
    let stamp = |path: &PathBuf| {
        let seen = fs::metadata(path).ok();
        // The time of change is not for anybody to set.
        Stamp(seen.map(|it| (it.ino(), it.size(), it.ctime(), it.ctime_nsec())))
    };
    files.into_iter().flatten().map(stamp).collect()
}

/// What is needed where an endpoint is `https`.
pub(super) fn config(etcd: &Etcd) -> Result<TlsConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let roots = match &etcd.ca_file {
        Some(path) => certificates(path)?,
        None => system_roots(),
    };
    let client = match (&etcd.cert_file, &etcd.key_file) {
        (None, None) => None,
        (Some(chain), Some(key)) => Some(client(chain, key, &provider)?),
        (Some(_), None) => return Err(Error::Half("certFile", "keyFile")),
        (None, Some(_)) => return Err(Error::Half("keyFile", "certFile")),
    };
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .client_cert(client)
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

/// Without any, each `https` member is refused as unknown, which says what is missing.
fn system_roots() -> Vec<Certificate<'static>> {
    let found = SYSTEM.iter().find_map(|path| fs::read(path).ok()).unwrap_or_default();
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    parse_pem(&found).filter_map(certificate).collect()
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let mut all = Vec::new();
    for item in parse_pem(&read(path)?) {
        let item = item.map_err(|error| refuse(path, error.to_string()))?;
        if let PemItem::Certificate(certificate) = item {
            all.push(certificate);
        }
    }
    if all.is_empty() {
        return Err(refuse(path, "holds no certificate in PEM".to_owned()));
    }
    Ok(all)
}

fn client(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<ClientCert, Error> {
    let certificates = certificates(chain)?;
    let bytes = read(key)?;
    let none = |error: &dyn std::fmt::Display| {
        refuse(key, format!("holds no private key in PEM: {error}"))
    };
    let der = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| none(&error))?;
    let found = PrivateKey::from_pem(&bytes).map_err(|error| none(&error))?;
    let ders = certificates.iter().map(|it| CertificateDer::from(it.der().to_vec())).collect();
    CertifiedKey::from_der(ders, der, provider)
        .map_err(|error| refuse(key, format!("does not go with {}: {error}", chain.display())))?;
    Ok(ClientCert::new_with_certs(&certificates, found))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| refuse(path, error.to_string()))
}

fn refuse(path: &Path, what: String) -> Error {
    Error::File { path: PathBuf::from(path), what }
}
