//! What the `bridge` plugin is told: its keys, checked.

use std::path::PathBuf;

use cni::{Code, Error, Request, args::Args, fields};
use net::{LinkName, Mac};
use serde::Deserialize;
use serde_json::Value;

use crate::keys;

/// The plugin's keys, in types that cannot be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// `bridge`: the bridge's name.
    pub(crate) bridge: LinkName,
    /// `isGateway`, or implied by `isDefaultGateway`.
    pub(crate) is_gateway: bool,
    /// `isDefaultGateway`.
    pub(crate) is_default_gateway: bool,
    /// `forceAddress`.
    pub(crate) force_address: bool,
    /// `ipMasq`.
    pub(crate) masquerade: bool,
    /// `mtu`; `None` leaves it to the kernel.
    pub(crate) mtu: Option<u32>,
    /// `hairpinMode`.
    pub(crate) hairpin: bool,
    /// `promiscMode`.
    pub(crate) promiscuous: bool,
    /// `macspoofchk`.
    pub(crate) spoof_check: bool,
    /// `enabledad`.
    pub(crate) detect_duplicates: bool,
    /// `disableContainerInterface`.
    pub(crate) leave_down: bool,
    /// `portIsolation`.
    pub(crate) isolated: bool,
    /// `CNI_ARGS` `MAC`, `args.cni.mac` or `runtimeConfig.mac`, the last one given.
    pub(crate) mac: Option<Mac>,
    /// `explainIn`.
    pub(crate) explain_in: Option<PathBuf>,
    /// `dns`, if it says anything.
    pub(crate) dns: Option<cni::Dns>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    bridge: String,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: bool,
    ip_masq_backend: String,
    mtu: i64,
    hairpin_mode: bool,
    promisc_mode: bool,
    vlan: i64,
    vlan_trunk: Option<Value>,
    #[serde(rename = "macspoofchk")]
    spoof_check: bool,
    #[serde(rename = "enabledad")]
    detect_duplicates: bool,
    disable_container_interface: bool,
    port_isolation: bool,
    explain_in: PathBuf,
    runtime_config: MacOnly,
    args: Arguments,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Arguments {
    cni: MacOnly,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MacOnly {
    #[serde(deserialize_with = "fields::optional")]
    mac: Option<fields::Mac>,
}

impl Config {
    /// Reads and checks the keys, with the reference's words.
    pub(crate) fn parse(request: &Request) -> Result<Self, Error> {
        let keys: Keys = request.config("failed to load netconf")?;
        let refuse = |text: String| Err(Error::internal(text));
        if keys.vlan != 0 || keys.vlan_trunk.is_some() {
            if !(0..=4094).contains(&keys.vlan) {
                let vlan = keys.vlan;
                return refuse(format!("invalid VLAN ID {vlan} (must be between 0 and 4094)"));
            }
            let text = "vlan and vlanTrunk are not supported by this build: remove them";
            return Err(Error::new(Code::UnsupportedField, text));
        }
        if keys.disable_container_interface && !request.network.ipam.plugin_type.is_empty() {
            return refuse("cannot use IPAM when DisableContainerInterface flag is set".to_owned());
        }
        if keys.hairpin_mode && keys.promisc_mode {
            return refuse(
                "cannot set hairpin mode and promiscuous mode at the same time".to_owned(),
            );
        }
        keys::masquerade_backend(&keys.ip_masq_backend)?;
        let name = if keys.bridge.is_empty() { "cni0".to_owned() } else { keys.bridge };
        let bridge = LinkName::try_from(name)
            .map_err(|error| Error::internal(format!("failed to load netconf: bridge: {error}")))?;
        let mtu = keys::mtu(keys.mtu)?;
        let args = Args::parse(&request.args, &["MAC"]).map_err(Error::internal)?;
        let from_args = args.value::<fields::Mac>("MAC").map_err(Error::internal)?;
        let sources = [
            ("runtimeConfig.mac", keys.runtime_config.mac),
            ("args.cni.mac", keys.args.cni.mac),
            ("CNI_ARGS: MAC", from_args),
        ];
        let mac = sources.into_iter().find_map(|(source, mac)| Some((source, Mac(mac?.0))));
        if let Some((source, mac)) =
            mac.filter(|(_, Mac(bytes))| bytes[0] & 1 == 1 || *bytes == [0; 6])
        {
            let why = "no interface can have a multicast address, or one of zeros";
            return refuse(format!(
                "failed to load netconf: {source}: invalid value \"{mac}\": {why}"
            ));
        }
        Ok(Self {
            bridge,
            is_gateway: keys.is_gateway || keys.is_default_gateway,
            is_default_gateway: keys.is_default_gateway,
            force_address: keys.force_address,
            masquerade: keys.ip_masq,
            mtu,
            hairpin: keys.hairpin_mode,
            promiscuous: keys.promisc_mode,
            spoof_check: keys.spoof_check,
            detect_duplicates: keys.detect_duplicates,
            leave_down: keys.disable_container_interface,
            isolated: keys.port_isolation,
            explain_in: keys::explain_in(keys.explain_in),
            mac: mac.map(|(_, mac)| mac),
            dns: keys::dns(request),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(keys: &str, args: &str) -> Result<Config, String> {
        let stdin = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"bridge"{keys}}}"#);
        let environment = cni::Environment {
            command: Some("ADD".into()),
            container_id: Some("c".into()),
            netns: Some("/n".into()),
            ifname: Some("eth0".into()),
            path: Some("/p".into()),
            args: Some(args.into()),
            ..cni::Environment::default()
        };
        let request = Request::parse(&environment, stdin.into_bytes(), &cni::Version::ALL).unwrap();
        Config::parse(&request).map_err(|error| error.msg)
    }

    #[test]
    fn defaults_are_the_references() {
        let config = parse("", "").unwrap();
        assert_eq!(config.bridge.as_str(), "cni0");
        assert!(!config.is_gateway && !config.masquerade && config.mtu.is_none());
        assert!(config.mac.is_none() && config.dns.is_none());
    }

    #[test]
    fn keys_match_in_any_case_and_imply_each_other() {
        let config =
            parse(r#","ISDEFAULTGATEWAY":true,"Mtu":1400,"hairpinmode":true"#, "").unwrap();
        assert!(config.is_gateway && config.is_default_gateway && config.hairpin);
        assert_eq!(config.mtu, Some(1400));
    }

    #[test]
    fn the_last_source_of_a_mac_wins() {
        let env = "IgnoreUnknown=1;K8S_POD_NAME=x;MAC=02:00:00:00:00:01";
        let args = r#","args":{"cni":{"mac":"02:00:00:00:00:02"}}"#;
        let runtime = r#","runtimeConfig":{"mac":"02:00:00:00:00:03"}"#;
        let mac = |keys: &str| parse(keys, env).unwrap().mac.unwrap().to_string();
        assert_eq!(mac(""), "02:00:00:00:00:01");
        assert_eq!(mac(args), "02:00:00:00:00:02");
        assert_eq!(mac(&format!("{args}{runtime}")), "02:00:00:00:00:03");
    }

    #[test]
    fn an_empty_dns_list_counts_and_an_empty_object_does_not() {
        assert!(parse(r#","dns":{}"#, "").unwrap().dns.is_none());
        assert!(parse(r#","dns":{"search":[]}"#, "").unwrap().dns.is_some());
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_references_words() {
        for (keys, text) in [
            (
                r#","hairpinMode":true,"promiscMode":true"#,
                "cannot set hairpin mode and promiscuous mode at the same time",
            ),
            (
                r#","disableContainerInterface":true,"ipam":{"type":"x"}"#,
                "cannot use IPAM when DisableContainerInterface flag is set",
            ),
            (r#","ipMasqBackend":"ebtables""#, "unknown ipmasq backend \"ebtables\""),
            (r#","vlan":5000"#, "invalid VLAN ID 5000 (must be between 0 and 4094)"),
            (r#","vlan":-100"#, "invalid VLAN ID -100 (must be between 0 and 4094)"),
            (
                r#","bridge":"much-too-long-a-name""#,
                "failed to load netconf: bridge: interface name \"much-too-long-a-name\" is too long: at most 15 bytes fit",
            ),
            (
                r#","mtu":-1"#,
                "failed to load netconf: mtu: invalid value -1: must be 68 to 65535, or 0 for the kernel's choice",
            ),
        ] {
            assert_eq!(parse(keys, "").unwrap_err(), text);
        }
        assert!(parse("", "MAC=x").unwrap_err().starts_with("ARGS: error parsing value"));
        assert!(parse("", "FOO=x").unwrap_err().starts_with("ARGS: unknown args"));
    }
}
