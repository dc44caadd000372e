//! Both ends prove who they are by a certificate of one authority (TLS 1.3).

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Files in PEM.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Files {
    /// Whose certificates are trusted.
    pub(crate) authority: std::path::PathBuf,
    /// Our own certificate, with those between it and the authority.
    pub(crate) certificate: std::path::PathBuf,
    /// Its key.
    pub(crate) key: std::path::PathBuf,
}

type Certified = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Files {
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, String> {
        let (chain, key) = self.own()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(self.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| format!("{}: {error}", self.authority.display()))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| format!("{}: {error}", self.certificate.display()))?;
        Ok(Arc::new(config))
    }

    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let (chain, key) = self.own()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("{}: {error}", self.certificate.display()))?;
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority)? {
            let failed = |error| format!("{}: {error}", self.authority.display());
            roots.add(certificate).map_err(failed)?;
        }
        Ok(roots)
    }

    fn own(&self) -> Result<Certified, String> {
        let failed = |error| format!("read {}: {error}", self.key.display());
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(failed)?;
        Ok((certificates(&self.certificate)?, key))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error| format!("read {}: {error}", path.display());
    let all: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(failed)?;
    if all.is_empty() { Err(format!("{} holds no certificate", path.display())) } else { Ok(all) }
}
