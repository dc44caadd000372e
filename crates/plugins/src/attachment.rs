//! One interface of one container on one network, and the names that follow from it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cni::{Request, hash};
use net::LinkName;

/// What identifies an attachment. Everything that a plugin makes for it carries a name or a
/// comment computed from this, so that it is found again without state and without the netns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    pub(crate) container_id: String,
    pub(crate) ifname: String,
}

impl Attachment {
    /// The attachment that a request is about.
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            network: request.network.name.clone(),
            container_id: request.container_id.clone(),
            ifname: request.ifname.clone(),
        }
    }

    /// An attachment of `network` as a runtime lists the valid ones.
    pub(crate) fn on(network: &str, listed: &cni::Attachment) -> Self {
        Self {
            network: network.to_owned(),
            container_id: listed.container_id.clone(),
            ifname: listed.ifname.clone(),
        }
    }

    /// The name of the host's end of the cable. At a thousand pods a node the chance that two of
    /// them meet is one in thirty million.
    pub(crate) fn host_link(&self) -> Option<LinkName> {
        self.host_link_text().parse().ok()
    }

    /// Where in `directory` the explanation of the attachment is: it has the host link's name.
    pub(crate) fn explanation(&self, directory: &Path) -> PathBuf {
        directory.join(self.host_link_text() + ".sh")
    }

    /// The comment on everything of the attachment in nftables: its network's hash and its host
    /// link, which programs read, then words for people, as far as they fit.
    pub(crate) fn comment(&self) -> String {
        let Self { network, container_id, ifname } = self;
        let mut comment =
            format!("{}, net: {network}, if: {ifname}, id: {container_id}", self.mark());
        // What nftables does not take in a comment, the kernel takes in the name of a device.
        comment.retain(|c| c != '"' && !c.is_control());
        comment.truncate(comment.floor_char_boundary(COMMENT_LENGTH));
        comment
    }

    /// The attachment that a comment names, if all of its name has found room there.
    pub(crate) fn in_comment(comment: &str) -> Option<Self> {
        let hash::Named { network, ifname, container_id, .. } = hash::Named::read(comment)?;
        let named = Self {
            network: network.to_owned(),
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        };
        named.owns(Some(comment)).then_some(named)
    }

    /// Whether a comment is of another attachment of the same container. What a long comment has
    /// no room for is its end, which is the container.
    pub(crate) fn is_beside(&self, comment: &str) -> bool {
        let Some(hash::Named { network, ifname, .. }) = hash::Named::read(comment) else {
            return false;
        };
        let other = Self { network: network.into(), ifname: ifname.into(), ..self.clone() };
        other != *self && other.owns(Some(comment))
    }

    /// Whether a comment is one of this attachment's.
    pub(crate) fn owns(&self, comment: Option<&str>) -> bool {
        comment.map(mark_in) == Some(&self.mark())
    }

    /// The same for whoever looks at many comments: what is hashed is hashed once.
    pub(crate) fn recognised(&self) -> impl Fn(Option<&str>) -> bool + use<> {
        let mark = self.mark();
        move |comment| comment.map(mark_in) == Some(&mark)
    }

    /// What the comments of this attachment begin with.
    fn mark(&self) -> String {
        format!("{}-{}", hash::network(&self.network), self.host_link_text())
    }

    /// `veth` and 44 bits of a hash, 15 characters.
    pub(crate) fn host_link_text(&self) -> String {
        let Self { network, container_id, ifname } = self;
        hash::prefixed(15, "veth", &format!("{network}/{container_id}/{ifname}"))
    }
}

/// Whether a device has a name that host links of podwire have, of whichever attachment.
pub(crate) fn is_host_link(name: &str) -> bool {
    let digits = name.strip_prefix("veth").unwrap_or_default();
    digits.len() == 11 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a comment is that of an attachment of `network` which is not among the `valid` ones.
pub(crate) fn stale(network: &str, valid: &[cni::Attachment]) -> impl Fn(Option<&str>) -> bool {
    let of_network = format!("{}-", hash::network(network));
    let marks: BTreeSet<String> =
        valid.iter().map(|it| Attachment::on(network, it).mark()).collect();
    move |comment| {
        let mark = comment.map(mark_in).unwrap_or_default();
        mark.starts_with(&of_network) && !marks.contains(mark)
    }
}

/// The mark that a comment begins with.
fn mark_in(comment: &str) -> &str {
    comment.split_once(',').map_or(comment, |(mark, _)| mark)
}

/// The host link that a comment names.
pub(crate) fn host_link_in(comment: &str) -> Option<LinkName> {
    let (_, rest) = comment.split_once('-')?;
    rest.split(',').next()?.parse().ok()
}

/// The longest comment that `nft` reads back.
const COMMENT_LENGTH: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container_id: &str) -> Attachment {
        Attachment {
            network: "net".into(),
            container_id: container_id.into(),
            ifname: "eth0".into(),
        }
    }

    #[test]
    fn host_links_have_names_that_the_kernel_takes_and_that_differ() {
        let name = |id: &str| attachment(id).host_link().unwrap();
        assert!(is_host_link(name("a").as_str()));
        assert!(!is_host_link("veth12345678") && !is_host_link("eth0"));
        assert_eq!(name("a"), name("a"));
        assert_ne!(name("a"), name("b"));
    }

    #[test]
    fn comments_name_their_attachment() {
        let one = attachment("one");
        let comment = one.comment();
        assert!(comment.ends_with(", net: net, if: eth0, id: one"), "{comment}");
        assert!(one.owns(Some(&comment)) && one.recognised()(Some(&comment)));
        assert!(!attachment("two").owns(Some(&comment)) && !one.owns(None));
        let listed =
            |id: &str| cni::Attachment { container_id: id.to_owned(), ifname: "eth0".to_owned() };
        assert!(stale("net", &[listed("two")])(Some(&comment)));
        assert!(!stale("net", &[listed("two"), listed("one")])(Some(&comment)));
        assert!(!stale("n", &[])(Some(&comment)) && !stale("net", &[])(None));
        let long = attachment(&"x".repeat(200));
        assert_eq!(long.comment().len(), 128);
        assert!(long.owns(Some(&long.comment())));
        assert_eq!(host_link_in(&long.comment()), long.host_link());
        assert_eq!(Attachment::in_comment(&comment), Some(one));
        assert_eq!(Attachment::in_comment(&long.comment()), None);
        let beside = Attachment { ifname: "eth1".into(), ..long.clone() };
        assert!(long.is_beside(&beside.comment()) && !long.is_beside(&long.comment()));
        assert!(!attachment("two").is_beside(&beside.comment()));
        assert_eq!(host_link_in("somebody else's"), None);
    }
}
