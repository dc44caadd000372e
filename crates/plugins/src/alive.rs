//! Whether an attachment that a runtime calls invalid still carries packets.
//!
//! A list of valid attachments that leaves out a pod which is there is more likely wrong than the
//! pod: some runtimes send an empty one whenever they start. So GC spares what lives, and says so.

use std::fs;
use std::path::{Path, PathBuf};

use kernel::Kernel;
use net::{LinkName, Space};
use serde_json::Value;

use crate::attachment::Attachment;

/// Where the library of the runtimes keeps what it knows of each attachment.
const RESULTS: &str = "/var/lib/cni/results";

/// Whether GC has to spare `attachment`; if so, it is reported.
pub(crate) fn spare(kernel: &mut Kernel, attachment: &Attachment) -> bool {
    let lives = has_link(kernel, attachment.host_link())
        || is_cached_and_there(kernel, attachment, Path::new(RESULTS));
    if lives {
        report(&attachment.comment());
    }
    lives
}

/// Whether the host's end of a cable that podwire made is still there.
pub(crate) fn has_link(kernel: &mut Kernel, host_link: Option<LinkName>) -> bool {
    host_link.is_some_and(|link| is_there(kernel, &Space::Here, &link))
}

/// Whether the runtime's own notes lead to a namespace in which the interface is.
pub(crate) fn is_noted(kernel: &mut Kernel, attachment: &Attachment) -> bool {
    is_cached_and_there(kernel, attachment, Path::new(RESULTS))
}

/// Whether what carries this comment is certain to be gone: the runtime's notes lead to no interface
/// any more. Without notes nothing is certain.
pub(crate) fn is_gone(kernel: &mut Kernel, comment: &str) -> bool {
    let attachment = Attachment::in_comment(comment);
    attachment.is_some_and(|it| is_noted_in_vain(kernel, &it, Path::new(RESULTS)))
}

fn is_noted_in_vain(kernel: &mut Kernel, attachment: &Attachment, results: &Path) -> bool {
    note(attachment, results).exists()
        && !has_link(kernel, attachment.host_link())
        && !is_cached_and_there(kernel, attachment, results)
}

/// Says that an attachment was spared.
pub(crate) fn report(comment: &str) {
    eprintln!("podwire: GC spares an attachment that is not valid but lives: {comment}");
}

/// Whether the runtime's own notes lead to a namespace in which the interface is: so also what the
/// reference plugins have made is found.
fn is_cached_and_there(kernel: &mut Kernel, attachment: &Attachment, results: &Path) -> bool {
    let ifname = &attachment.ifname;
    let note = note(attachment, results);
    let Some(netns) = fs::read(note).ok().and_then(|text| netns_in(&text, ifname)) else {
        return false;
    };
    let space = Space::At(netns);
    let Ok(name) = ifname.parse() else { return false };
    let there = is_there(kernel, &space, &name);
    kernel.close(&space);
    there
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
        let attachment =
            Attachment { network: "net".into(), container_id: "one".into(), ifname: "eth0".into() };
        let note = format!(r#"{{"netns":"{}"}}"#, pod.path().display());
        fs::write(results.path().join("net-one-eth0"), note).unwrap();
        let lives = || {
            let mut kernel = Kernel::new().unwrap();
            is_cached_and_there(&mut kernel, &attachment, results.path())
        };
        let gone = || {
            let mut kernel = Kernel::new().unwrap();
            is_noted_in_vain(&mut kernel, &attachment, results.path())
        };
        assert!(!lives() && gone());
        pod.sh("ip link add eth0 type veth peer name other");
        assert!(lives() && !gone());
        drop(pod);
        assert!(!lives() && gone());
        fs::remove_file(results.path().join("net-one-eth0")).unwrap();
        assert!(!gone());
    }
}
