//! Names that the reference plugins derive from an attachment.
//!
//! They are computed from values that every `DEL` has, so what an `ADD` made can be found again
//! without state, whichever implementation made it.

use std::fmt::Write;

use sha2::{Digest, Sha512};

/// The longest name of a chain that is made here. iptables allows 28 characters.
const CHAIN_LENGTH: usize = 28;

/// The longest comment that nftables keeps in a rule.
const COMMENT_LENGTH: usize = 128;

/// The length of each hash in a comment.
const COMMENT_HASH_LENGTH: usize = 16;

/// The iptables chain of an attachment: `CNI-` and a hash, 28 characters.
pub fn chain_name(network: &str, container_id: &str) -> String {
    chain_name_with_prefix("", network, container_id)
}

/// The iptables chain of an attachment for one purpose, such as `DN-` for port mappings:
/// `CNI-`, the prefix and a hash, 28 characters.
pub fn chain_name_with_prefix(prefix: &str, network: &str, container_id: &str) -> String {
    prefixed(CHAIN_LENGTH, &format!("CNI-{prefix}"), &format!("{network}{container_id}"))
}

/// A prefix and as much of the lower-case hexadecimal SHA-512 of the input as fits in `length`.
pub fn prefixed(length: usize, prefix: &str, input: &str) -> String {
    let mut name = prefix.to_owned();
    for byte in Sha512::digest(input) {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name.truncate(length.max(prefix.len()));
    name
}

/// What the comments of all nftables rules of a network begin with.
pub fn network(network: &str) -> String {
    prefixed(COMMENT_HASH_LENGTH, "", network)
}

/// What the comments of all nftables rules of an attachment begin with.
pub fn attachment(network_name: &str, ifname: &str, container_id: &str) -> String {
    let instance = prefixed(COMMENT_HASH_LENGTH, "", &format!("{ifname}:{container_id}"));
    format!("{}-{instance}", network(network_name))
}

/// The comment of an nftables rule of an attachment: its hash, then its parts for people, without
/// quotes and cut at 128 bytes.
pub fn comment(network_name: &str, ifname: &str, container_id: &str) -> String {
    let mut comment = format!(
        "{}, net: {}, if: {}, id: {}",
        attachment(network_name, ifname, container_id),
        network_name.replace('"', ""),
        ifname.replace('"', ""),
        container_id.replace('"', ""),
    );
    comment.truncate(comment.floor_char_boundary(COMMENT_LENGTH));
    comment
}

/// What the comment of an nftables rule or element says of its attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// What follows the network's hash: the attachment's own, or the name of its host link.
    pub instance: &'a str,
    /// The network.
    pub network: &'a str,
    /// The interface.
    pub ifname: &'a str,
    /// The container, or as much of its name as a long comment has had room for.
    pub container_id: &'a str,
}

impl<'a> Named<'a> {
    /// Reads a comment; `None` if it is somebody else's. Whether its hash is that of what it names is
    /// for the reader to see.
    pub fn read(comment: &'a str) -> Option<Self> {
        let (mark, words) = comment.split_once(", net: ")?;
        let (_, instance) = mark.split_once('-')?;
        let (network, words) = words.split_once(", if: ")?;
        let cut_short = || (words.split_once(',').map_or(words, |(ifname, _)| ifname), "");
        let (ifname, container_id) = words.split_once(", id: ").unwrap_or_else(cut_short);
        Some(Self { instance, network, ifname, container_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains() {
        assert_eq!(chain_name("test", "1234"), "CNI-2bbe0c48b91a7d1b8a6753a8");
        assert_eq!(chain_name_with_prefix("DN-", "test", "1234"), "CNI-DN-2bbe0c48b91a7d1b8a675");
        assert_ne!(chain_name("test", "1234"), chain_name("test", "1235"));
        assert_eq!(chain_name(&"n".repeat(500), &"i".repeat(500)).len(), 28);
    }

    #[test]
    fn comments() {
        let hash = "6fd94d501e58f0aa-287fc69eff0574a2";
        assert_eq!(attachment("unit-test", "eth0", "one"), hash);
        assert_eq!(network("unit-test"), &hash[..16]);
        assert_eq!(
            comment("unit-test", "eth0", "one"),
            format!("{hash}, net: unit-test, if: eth0, id: one")
        );
        let text = format!("{hash}, net: unit-test, if: eth0, id: one");
        let named = Named {
            instance: &hash[17..],
            network: "unit-test",
            ifname: "eth0",
            container_id: "one",
        };
        assert_eq!(Named::read(&text), Some(named));
        let cut = Named { container_id: "", ..named };
        for end in [", id: one".len(), ", id: one".len() - 3, 1 + ": one".len()] {
            assert_eq!(Named::read(&text[..text.len() - end]), Some(cut));
        }
        assert_eq!(Named::read("somebody else's, net: a"), None);
        assert!(comment("a\"b", "e\"0", "c\"").ends_with(", net: ab, if: e0, id: c"));
        assert_eq!(comment("unit-test", "eth0", &"x".repeat(200)).len(), 128);
        assert_eq!(comment("unit-test", "eth0", &"é".repeat(200)).len(), 127);
    }
}
