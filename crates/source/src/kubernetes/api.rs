//! Kubernetes' API as far as it is asked here: nodes are listed, watched and patched.

use std::time::Duration;

use fabric::NodeName;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::core::request;
use kube::{Client, Config};
use serde_json::{Value, json};
use tower::{BoxError, ServiceBuilder};

use super::Error;

/// The condition that keeps pods off a node whose network is not there yet.
pub(super) const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";

/// How long one answer may take; a page of a list is one.
pub(super) const ANSWER: Duration = Duration::from_secs(20);

/// Who has written what we have written.
const MANAGER: &str = "podwire";

/// All that is asked is asked of nodes.
pub(super) fn nodes() -> Request {
    Request::new("/api/v1/nodes")
}

/// What to ask the API with; nothing is asked yet.
pub(super) async fn connect(config: &fabric::Kubernetes) -> Result<Client, Error> {
    let config = match &config.kubeconfig {
        Some(path) => {
            let refuse = |error: &dyn std::error::Error| Error::Kubeconfig {
                path: path.clone(),
                cause: chain(error),
            };
            let file = Kubeconfig::read_from(path).map_err(|error| refuse(&error))?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(file, &options).await;
            config.map_err(|error| refuse(&error))?
        }
        None => Config::incluster().map_err(|error| Error::NotInCluster(chain(&error)))?,
    };
    client(config).map_err(|error| Error::Client(chain(&error)))
}

/// As kube would make it, but for two things: it never asks again by itself, so that an API that does
/// not answer is noticed; and a connection whose far end has gone without a word is ended after about
/// twenty seconds, where a quiet watch would wait for ever.
fn client(config: Config) -> kube::Result<Client> {
    if let Some(proxy) = config.proxy_url {
        let proxy_url = Box::new(proxy);
        return Err(kube::Error::ProxyProtocolUnsupported { proxy_url });
    }
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    connector.set_keepalive(Some(Duration::from_secs(10)));
    connector.set_keepalive_interval(Some(Duration::from_secs(3)));
    connector.set_keepalive_retries(Some(3));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, config.default_namespace))
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The API has forgotten what happened since the version that was asked for.
    #[error("the API has forgotten this version")]
    Gone,
    /// The API says no.
    #[error("{text}")]
    Refused {
        /// In its words, and what to do.
        text: String,
        /// How long it asks not to be asked.
        wait: Option<Duration>,
    },
    /// It could not be asked, or the answer was not understood.
    #[error("{0}")]
    Broken(String),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        let kube::Error::Api(status) = &error else { return Self::Broken(chain(&error)) };
        if status.code == 410 || matches!(&*status.reason, "Expired" | "Gone") {
            return Self::Gone;
        }
        let hint = match status.code {
            401 => "; are its token or certificate still valid?",
            403 => {
                "; its ClusterRole has to allow list, watch and patch of nodes, and patch of \
                 nodes/status"
            }
            _ => "",
        };
        let wait = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        Self::Refused {
            text: format!("{} ({}){hint}", status.message.trim(), status.code),
            wait: Some(wait).filter(|wait| *wait > 0).map(|wait| Duration::from_secs(wait.into())),
        }
    }
}

impl From<request::Error> for Failure {
    fn from(error: request::Error) -> Self {
        Self::Broken(chain(&error))
    }
}

impl Failure {
    /// Nothing came for too long.
    pub(super) fn silence() -> Self {
        Self::Broken(format!("no answer within {} s", ANSWER.as_secs()))
    }
}

/// What to write to the own Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Its annotations.
    Annotations(Value),
    /// That its network is there.
    NetworkAvailable,
}

/// Writes to the Node `name`.
pub(super) async fn write(client: &Client, name: &NodeName, change: Change) -> Result<(), Failure> {
    let by = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let request = match change {
        Change::Annotations(annotations) => {
            let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
            nodes().patch_metadata(name.as_str(), &by, &patch)?
        }
        Change::NetworkAvailable => {
            // A merge patch would replace all conditions, the kubelet's among them.
            let patch = Patch::Strategic(network_available(&now()));
            nodes().patch_subresource("status", name.as_str(), &by, &patch)?
        }
    };
    let answer = tokio::time::timeout(ANSWER, client.request_text(request)).await;
    answer.map_err(|_| Failure::silence())??;
    Ok(())
}

fn network_available(now: &str) -> Value {
    json!({ "status": { "conditions": [{
        "type": NETWORK_UNAVAILABLE,
        "status": "False",
        "reason": "PodwireIsUp",
        "message": "podwire has set up this node's network",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }] } })
}

/// As the API writes time: in whole seconds.
fn now() -> String {
    let second = Timestamp::now().as_second();
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// An error and what caused it, each thing said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn failure(code: u16, reason: &str) -> Failure {
        let status = Status::failure("no", reason).with_code(code);
        kube::Error::Api(status.boxed()).into()
    }

    #[test]
    fn what_is_forgotten_is_not_an_error() {
        for (code, reason) in [(410, "Expired"), (410, "Gone"), (0, "Expired")] {
            assert!(matches!(failure(code, reason), Failure::Gone));
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let text = failure(403, "Forbidden").to_string();
        assert!(text.contains("no (403)") && text.contains("ClusterRole"), "{text}");
    }

    #[test]
    fn time_is_written_as_the_api_does() {
        let now = now();
        assert!(now.len() == 20 && now.ends_with('Z'), "{now}");
    }
}
