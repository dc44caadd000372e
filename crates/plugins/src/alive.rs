//! Whether an attachment that nobody vouches for still carries packets.
//!
//! A list of valid attachments that leaves out a pod which is there is more likely wrong than the
//! pod: some runtimes send an empty one whenever they start. So GC spares what lives, and says so.

use std::path::{Path, PathBuf};
use std::{fs, io};

use ipam::{Holder, Owner};
use kernel::{ErrorKind, Kernel, Netns};
use net::{LinkName, Space};
use serde_json::Value;

use crate::attachment::Attachment;

/// Where the library of the runtimes keeps what it knows of each attachment.
pub const RESULTS: &str = "/var/lib/cni/results";

/// Whether an attachment is still in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Something of it is there.
    Lives,
    /// It was there, and nothing of it is any more.
    Gone,
    /// Nothing tells.
    Unknown,
}

/// Whether an attachment is still in use, and by what that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The answer.
    pub life: Life,
    /// What it rests on, as the end of a sentence.
    pub why: String,
}

/// Whether who holds an address on `network` is still there. `results` is where the runtime keeps
/// its notes.
pub fn judge(kernel: &mut Kernel, network: &str, holder: &Holder, results: &Path) -> Judgement {
    match holder {
        Holder::Attachment(owner) => judge_one(kernel, &attachment(network, owner), results),
        Holder::Container(id) => judge_container(kernel, network, id, results),
        Holder::Nobody => gone("nobody's name is in the file"),
        Holder::Unknown => unknown("the file is none of a reservation"),
    }
}

/// Whether GC has to spare who holds an address on `network`; if so, it is reported.
pub(crate) fn spare(kernel: &mut Kernel, network: &str, holder: &Holder) -> bool {
    let lives = judge(kernel, network, holder, Path::new(RESULTS)).life == Life::Lives;
    if lives {
        report(&match holder {
            Holder::Attachment(owner) => attachment(network, owner).comment(),
            _ => format!("net: {network}, {holder:?}"),
        });
    }
    lives
}

/// Whether the host's end of a cable that podwire made is still there.
pub(crate) fn has_link(kernel: &mut Kernel, host_link: Option<LinkName>) -> bool {
    host_link.is_some_and(|link| is_there(kernel, &Space::Here, &link))
}

/// Whether the runtime's own notes lead to a namespace in which the interface is.
pub(crate) fn is_noted(kernel: &mut Kernel, attachment: &Attachment) -> bool {
    judge_note(kernel, attachment, Path::new(RESULTS)).life == Life::Lives
}

/// Whether what carries this comment is certain to be gone: the runtime's notes lead to no interface
/// any more. Without notes nothing is certain.
pub(crate) fn is_gone(kernel: &mut Kernel, comment: &str) -> bool {
    let attachment = Attachment::in_comment(comment);
    attachment.is_some_and(|it| judge_one(kernel, &it, Path::new(RESULTS)).life == Life::Gone)
}

/// Says that an attachment was spared.
pub(crate) fn report(comment: &str) {
    eprintln!("podwire: GC spares an attachment that is not valid but lives: {comment}");
}

fn judge_one(kernel: &mut Kernel, attachment: &Attachment, results: &Path) -> Judgement {
    let host_link = attachment.host_link();
    if has_link(kernel, host_link) {
        return lives(format!("its cable {} is there", attachment.host_link_text()));
    }
    judge_note(kernel, attachment, results)
}

/// What the runtime's own notes lead to: so also what the reference plugins have made is found.
fn judge_note(kernel: &mut Kernel, attachment: &Attachment, results: &Path) -> Judgement {
    let ifname = &attachment.ifname;
    let note = note(attachment, results);
    let text = match fs::read(&note) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return unknown(format!("{} has no note of it", results.display()));
        }
        Err(error) => return unknown(format!("{}: {error}", note.display())),
    };
    let Some(netns) = netns_in(&text, ifname) else {
        return unknown(format!("{} names no namespace", note.display()));
    };
    let Ok(name) = ifname.parse::<LinkName>() else {
        return unknown(format!("{ifname:?} is no interface's name"));
    };
    let place = netns.display();
    match Netns::open(&netns).and_then(|it| it.id()) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::WrongKind) => {
            return gone(format!("its namespace {place} is not there any more"));
        }
        Err(error) => return unknown(error.to_string()),
        Ok(id) if Netns::current().and_then(|it| it.id()).is_ok_and(|own| own == id) => {
            return unknown(format!("{place} is not a pod's namespace, but this one"));
        }
        Ok(_) => {}
    }
    let space = Space::At(netns.clone());
    let link = kernel.link(&space, &name);
    kernel.close(&space);
    match link {
        Ok(Some(_)) => lives(format!("{ifname} is there in {place}")),
        Ok(None) => gone(format!("there is no {ifname} in {place} any more")),
        Err(error) => unknown(error.to_string()),
    }
}

/// The old format names no interface: what lives of the container may be any of those that it has.
fn judge_container(kernel: &mut Kernel, network: &str, id: &str, results: &Path) -> Judgement {
    let prefix = format!("{network}-{id}-");
    let names = fs::read_dir(results).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let ifnames = names.filter_map(|name| Some(name.strip_prefix(&prefix)?.to_owned()));
    let judgements = ifnames.map(|ifname| {
        let owner = Owner { id: id.to_owned(), ifname };
        judge_one(kernel, &attachment(network, &owner), results)
    });
    let strength = |judgement: &Judgement| match judgement.life {
        Life::Gone => 0,
        Life::Unknown => 1,
        Life::Lives => 2,
    };
    let strongest = judgements.max_by_key(strength);
    strongest.unwrap_or_else(|| unknown(format!("{} has no note of it", results.display())))
}

fn attachment(network: &str, owner: &Owner) -> Attachment {
    let Owner { id, ifname } = owner.clone();
    Attachment { network: network.to_owned(), container_id: id, ifname }
}

fn lives(why: impl Into<String>) -> Judgement {
    Judgement { life: Life::Lives, why: why.into() }
}

fn gone(why: impl Into<String>) -> Judgement {
    Judgement { life: Life::Gone, why: why.into() }
}

fn unknown(why: impl Into<String>) -> Judgement {
    Judgement { life: Life::Unknown, why: why.into() }
}

/// Where the runtime notes what it knows of an attachment.
fn note(attachment: &Attachment, results: &Path) -> PathBuf {
    let Attachment { network, container_id, ifname } = attachment;
    results.join(format!("{network}-{container_id}-{ifname}"))
}

/// The namespace that a note names, or that its result has the interface in.
fn netns_in(text: &[u8], ifname: &str) -> Option<PathBuf> {
    let note: Value = cni::json::parse(text).ok()?;
    let recorded = note["netns"].as_str();
    let interfaces = note["result"]["interfaces"].as_array();
    let mut ours = interfaces.into_iter().flatten().filter(|it| it["name"] == ifname);
    let sandbox = ours.find_map(|it| it["sandbox"].as_str());
    let path = recorded.or(sandbox).filter(|path| !path.is_empty())?;
    Some(PathBuf::from(path))
}

fn is_there(kernel: &mut Kernel, space: &Space, link: &LinkName) -> bool {
    kernel.link(space, link).is_ok_and(|link| link.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_old_and_new_libraries_name_the_namespace() {
        let new = br#"{"kind":"cniCacheV1","netns":"/run/netns/a","result":{}}"#;
        assert_eq!(netns_in(new, "eth0"), Some("/run/netns/a".into()));
        let old = br#"{"kind":"cniCacheV1","result":{"interfaces":[
            {"name":"cni0"},{"name":"eth0","sandbox":"/run/netns/b"}]}}"#;
        assert_eq!(netns_in(old, "eth0"), Some("/run/netns/b".into()));
        for useless in [&b""[..], b"{", b"{}", b"[]", br#"{"netns":""}"#] {
            assert_eq!(netns_in(useless, "eth0"), None);
        }
    }

    #[test]
    fn what_is_noted_lives_as_long_as_its_interface() {
        testbed::isolated!();
        let pod = testbed::Namespace::new("pod");
        let results = testbed::directory();
        let note = format!(r#"{{"netns":"{}"}}"#, pod.path().display());
        fs::write(results.path().join("net-one-eth0"), note).unwrap();
        let named = Holder::Attachment(Owner { id: "one".into(), ifname: "eth0".into() });
        let old = Holder::Container("one".into());
        let judge = || {
            let mut kernel = Kernel::new().unwrap();
            let mut life = |holder| judge(&mut kernel, "net", holder, results.path()).life;
            let [one, other] = [life(&named), life(&old)];
            assert_eq!(one, other);
            one
        };
        assert_eq!(judge(), Life::Gone);
        pod.sh("ip link add eth0 type veth peer name other");
        assert_eq!(judge(), Life::Lives);
        // A container with several interfaces lives as long as one of them does.
        fs::write(results.path().join("net-one-eth1"), r#"{"netns":"/nowhere"}"#).unwrap();
        assert_eq!(judge(), Life::Lives);
        fs::remove_file(results.path().join("net-one-eth1")).unwrap();
        drop(pod);
        assert_eq!(judge(), Life::Gone);
        for nothing in ["", "{", r#"{"netns":"/proc/self/ns/net"}"#] {
            fs::write(results.path().join("net-one-eth0"), nothing).unwrap();
            assert_eq!(judge(), Life::Unknown, "{nothing}");
        }
        fs::remove_file(results.path().join("net-one-eth0")).unwrap();
        assert_eq!(judge(), Life::Unknown);
        let owner = Owner { id: "one".into(), ifname: "eth0".into() };
        let cable = attachment("net", &owner).host_link_text();
        testbed::sh(&format!("ip link add {cable} type bridge"));
        let judgement = super::judge(&mut Kernel::new().unwrap(), "net", &named, results.path());
        assert_eq!(judgement, lives(format!("its cable {cable} is there")));
    }
}
