//! The cluster's configuration as it is in etcd: flannel's `net-conf.json`. Never I/O.

use fabric::flannel::{NetConf, NetConfBackend};
use fabric::{PerFamily, Publication};

use super::error::Error;
use super::subnets::{Range, ranges};

/// The port of vxlan where the kernel or flannel chooses one.
const USUAL_PORT: u16 = 8472;

/// The ranges that the value of `key` offers, if it can be and goes with what this node publishes.
pub(super) fn ranges_of(
    key: &str,
    value: Option<&[u8]>,
    publication: &Publication,
    port: Option<u16>,
) -> Result<PerFamily<Range>, Error> {
    let value = value.ok_or_else(|| Error::NoConfig(key.to_owned()))?;
    let bad = |what: String| Error::BadConfig { key: key.to_owned(), what };
    let conf: NetConf = serde_json::from_slice(value).map_err(|error| {
        let example = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;
        bad(format!("it is not a network configuration such as {example}: {error}"))
    })?;
    let ranges = ranges(&conf).map_err(bad)?;
    match mismatch(&conf, publication, port) {
        Some(what) => Err(Error::Mismatch { key: key.to_owned(), what }),
        None => Ok(ranges),
    }
}

/// What the cluster's configuration says otherwise than this node's: `None` if they go together. All
/// nodes have to agree on it, or packets are sent where nobody listens. A port that is not given is
/// not compared.
pub fn mismatch(conf: &NetConf, publication: &Publication, port: Option<u16>) -> Option<String> {
    // flannel without a Backend is its oldest one, which no cluster uses: it says nothing.
    let NetConfBackend { kind, vni, port: there } = conf.backend.as_ref()?;
    let here = &publication.backend;
    if kind != here {
        return Some(format!("Backend.Type is {kind:?} there, the backend is {here:?} here"));
    }
    if kind == "host-gw" {
        return None;
    }
    let vni = vni.unwrap_or(1);
    if vni != publication.vni {
        return Some(format!("Backend.VNI is {vni} there, tunnel.vni is {} here", publication.vni));
    }
    let there = there.filter(|port| *port != 0).unwrap_or(USUAL_PORT);
    let port = port.unwrap_or(there);
    (port != there).then(|| format!("Backend.Port is {there} there, tunnel.port is {port} here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(backend: &str) -> Publication {
        Publication {
            name: "n1".parse().unwrap(),
            addresses: PerFamily::default(),
            backend: backend.to_owned(),
            vni: 1,
        }
    }

    #[test]
    fn what_differs_is_named() {
        for (backend, here, port, expected) in [
            (r#"{"Type":"vxlan"}"#, "vxlan", Some(8472), None),
            (r#"{"Type":"vxlan","VNI":1,"Port":0}"#, "vxlan", Some(8472), None),
            (r#"{"Type":"vxlan","Port":4789}"#, "vxlan", None, None),
            (r#"{"Type":"host-gw","VNI":7}"#, "host-gw", Some(1), None),
            (r#"{"Type":"vxlan"}"#, "host-gw", None, Some("Backend.Type is \"vxlan\" there")),
            (r#"{"Type":"vxlan","VNI":7}"#, "vxlan", None, Some("Backend.VNI is 7 there")),
            (r#"{"Type":"vxlan","Port":4789}"#, "vxlan", Some(8472), Some("Port is 4789 there")),
            (r#"{"Type":"vxlan"}"#, "vxlan", Some(4789), Some("Port is 8472 there")),
        ] {
            let text = format!(r#"{{"Network":"10.5.0.0/16","Backend":{backend}}}"#);
            let told = ranges_of("/p/config", Some(text.as_bytes()), &publication(here), port);
            let told = told.err().map(|error| error.to_string());
            let is_right = match (&told, expected) {
                (Some(told), Some(expected)) => told.contains(expected),
                (told, expected) => told.is_none() && expected.is_none(),
            };
            assert!(is_right, "{text}: {told:?}");
        }
    }

    #[test]
    fn the_key_and_what_belongs_there_are_named() {
        let here = publication("vxlan");
        for (value, expected) in [
            (None, "/p/config is not in etcd"),
            (Some("{"), "it is not a network configuration such as {\"Network\""),
            (Some("\u{0}"), "/p/config in etcd"),
            (Some(r#"{"Network":"10.5.0.0"}"#), "/p/config in etcd"),
            (Some(r#"{"Network":"10.5.0.0/30"}"#), "/28"),
        ] {
            let error = ranges_of("/p/config", value.map(str::as_bytes), &here, None);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\n  does not say\n{expected}");
        }
    }
}
