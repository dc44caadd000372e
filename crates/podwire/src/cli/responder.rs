//! `podwire responder` as it is typed.

use std::path::PathBuf;

use clap::Args;

pub(crate) const EXAMPLES: &str = "The configuration:
  listen: 192.0.2.1:7481            the node's own address
  authority: /etc/podwire/tls/ca.crt
  certificate: /etc/podwire/tls/node1.crt
  key: /etc/podwire/tls/node1.key
  networks: [10.244.0.0/16, 192.0.2.0/24]   of pods and nodes: packets go nowhere else

It needs root of the node, and sees its processes. `podwire verify --responders FILE` asks it.";

/// `podwire responder`
#[derive(Debug, Args)]
pub(crate) struct Responder {
    /// The configuration, in YAML or JSON.
    #[arg(
        long,
        short,
        default_value = "/etc/podwire/responder.yaml",
        env = "PODWIRE_RESPONDER_CONFIG",
        value_name = "FILE"
    )]
    pub(crate) config: PathBuf,
}
