use serde_json::json;

use super::*;
use crate::kubernetes::annotation::ANNOTATION;

struct Case {
    index: Index,
    now: Instant,
}

fn me() -> Value {
    json!({
        "metadata": { "name": "n1", "uid": "u1" },
        "spec": { "podCIDRs": ["10.244.1.0/24"] },
        "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] },
    })
}

fn other(number: u8) -> Value {
    let text = format!(
        r#"{{"addresses":{{"v4":"192.0.2.{number}"}},"subnets":{{"v4":"10.244.{number}.0/24"}}}}"#
    );
    json!({ "metadata": {
        "name": format!("n{number}"),
        "uid": format!("u{number}"),
        "annotations": { ANNOTATION: text },
    } })
}

impl Case {
    fn new() -> Self {
        let publication = Publication {
            name: "n1".parse().unwrap(),
            addresses: fabric::PerFamily::default(),
            backend: "vxlan".to_owned(),
            vni: 1,
        };
        Self { index: Index::new(publication, false), now: Instant::now() }
    }

    /// Both watches stand, with nodes 1 to 3.
    fn standing() -> Self {
        let mut case = Self::new();
        case.list(Which::Own, &[me()]);
        case.list(Which::All, &[me(), other(2), other(3)]);
        assert!(case.index.take_change());
        case
    }

    fn apply(&mut self, which: Which, event: Event) {
        self.index.apply(which, event, self.now);
    }

    fn see(&mut self, which: Which, object: &Value) {
        let object = serde_json::from_value(object.clone()).unwrap();
        self.apply(which, Event::Seen(Box::new(object)));
    }

    fn list(&mut self, which: Which, objects: &[Value]) {
        self.apply(which, Event::Listing);
        objects.iter().for_each(|object| self.see(which, object));
        self.apply(which, Event::Listed);
        self.apply(which, Event::Live);
    }

    fn change(&self) -> Option<Change> {
        self.index.change(self.now)
    }

    fn verdict(&self) -> Verdict {
        self.index.verdict(self.now)
    }

    fn names(&self) -> Vec<String> {
        self.index.nodes().into_iter().map(|node| node.name.to_string()).collect()
    }

    fn astray(&self) -> String {
        match self.verdict() {
            Verdict::Astray(_, text) => text,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nothing_is_complete_before_both_lists_are() {
    let mut case = Case::new();
    assert_eq!(case.verdict(), Verdict::Wait);
    case.list(Which::Own, &[me()]);
    assert_eq!(case.verdict(), Verdict::Wait);
    case.apply(Which::All, Event::Listing);
    case.see(Which::All, &other(2));
    assert_eq!(case.verdict(), Verdict::Wait);
    case.see(Which::All, &me());
    case.apply(Which::All, Event::Listed);
    assert_eq!(case.verdict(), Verdict::Complete);
    assert_eq!(case.names(), ["n1", "n2"]);
}

#[test]
fn a_list_that_breaks_off_takes_nothing_away() {
    let mut case = Case::standing();
    case.apply(Which::All, Event::Listing);
    case.see(Which::All, &other(2));
    case.apply(Which::All, Event::Failed("broken".to_owned()));
    case.apply(Which::All, Event::Listing);
    assert!(!case.index.is_changed());
    assert_eq!(case.names(), ["n1", "n2", "n3"]);
    case.list(Which::All, &[other(2), other(3), me()]);
    assert!(!case.index.take_change(), "it is as it was");
    case.list(Which::All, &[other(3), me()]);
    assert!(case.index.take_change());
    assert_eq!(case.names(), ["n1", "n3"]);
}

#[test]
fn what_is_doubted_is_told_again() {
    let mut case = Case::standing();
    case.apply(Which::All, Event::Listing);
    case.index.resync();
    case.see(Which::All, &other(2));
    case.see(Which::All, &other(3));
    case.apply(Which::All, Event::Listed);
    assert!(!case.index.is_changed(), "that list began before");
    case.list(Which::All, &[other(2), other(3)]);
    assert!(case.index.take_change());
    case.list(Which::All, &[other(2), other(3)]);
    assert!(!case.index.is_changed());
}

#[test]
fn what_says_nothing_new_is_no_change() {
    let mut case = Case::standing();
    case.see(Which::All, &other(2));
    case.see(Which::Own, &me());
    assert!(!case.index.is_changed());
    case.apply(Which::All, Event::Gone("n9".to_owned()));
    assert!(!case.index.is_changed());
    case.apply(Which::All, Event::Gone("n2".to_owned()));
    assert!(case.index.is_changed());
}

#[test]
fn a_node_without_annotation_is_as_it_was_until_it_is_another_one() {
    let mut case = Case::standing();
    let mut bare = other(2);
    bare["metadata"]["annotations"] = json!({});
    case.see(Which::All, &bare);
    assert!(!case.index.is_changed());
    bare["metadata"]["uid"] = json!("another");
    case.see(Which::All, &bare);
    assert!(case.index.is_changed());
    let nodes = case.index.nodes();
    let node = nodes.iter().find(|node| node.name.as_str() == "n2").unwrap();
    assert!(node.subnets.is_empty());
}

#[test]
fn trouble_is_told_when_it_lasts() {
    let mut case = Case::standing();
    case.apply(Which::All, Event::Failed("refused".to_owned()));
    assert_eq!(case.verdict(), Verdict::Complete);
    assert_eq!(case.index.next(case.now), Some(case.now + PATIENCE));
    case.now += PATIENCE / 2;
    case.apply(Which::All, Event::Failed("refused again".to_owned()));
    case.now += PATIENCE / 2;
    assert!(case.astray().contains("refused again"));
    case.apply(Which::All, Event::Live);
    assert_eq!(case.verdict(), Verdict::Complete);
}

#[test]
fn a_node_that_is_not_there_or_has_no_subnet_is_named() {
    let mut case = Case::new();
    case.list(Which::All, &[other(2)]);
    case.list(Which::Own, &[]);
    case.now += PATIENCE;
    assert!(case.astray().contains("there is no Node n1"));
    let mut bare = me();
    bare["spec"] = json!({});
    case.see(Which::Own, &bare);
    case.see(Which::All, &bare);
    assert_eq!(case.verdict(), Verdict::Wait);
    case.now += PATIENCE;
    assert_eq!(
        case.astray(),
        "node n1 has no podCIDR; run kube-controller-manager with --allocate-node-cidrs"
    );
    case.see(Which::Own, &me());
    assert_eq!(case.verdict(), Verdict::Complete);
}

#[test]
fn what_is_without_this_node_is_not_believed() {
    let mut case = Case::standing();
    case.list(Which::All, &[other(3)]);
    assert_eq!(case.verdict(), Verdict::Wait);
    // Not before it is whole.
    case.apply(Which::All, Event::Listing);
    case.see(Which::All, &me());
    assert_eq!(case.verdict(), Verdict::Wait);
    case.see(Which::All, &other(2));
    case.apply(Which::All, Event::Listed);
    assert_eq!(case.verdict(), Verdict::Complete);
    assert_eq!(case.names(), ["n1", "n2"]);
    for which in [Which::Own, Which::All] {
        case.apply(which, Event::Gone("n1".to_owned()));
        assert_eq!(case.verdict(), Verdict::Wait);
        case.see(which, &me());
        assert_eq!(case.verdict(), Verdict::Complete);
    }
}

#[test]
fn it_is_written_until_it_is_there() {
    let mut case = Case::standing();
    let Some(Change::Annotations(annotations)) = case.change() else {
        panic!("nothing is published");
    };
    let mut published = me();
    published["metadata"]["annotations"] = annotations;
    case.see(Which::Own, &published);
    assert_eq!(case.change(), None);
    case.index.set_ready(true);
    assert_eq!(case.change(), Some(Change::NetworkAvailable));
    published["status"]["conditions"] =
        json!([{ "type": "NetworkUnavailable", "status": "False" }]);
    case.see(Which::Own, &published);
    assert_eq!(case.change(), None);
    // Somebody wrote over it.
    case.see(Which::Own, &me());
    assert!(matches!(case.change(), Some(Change::Annotations(_))));
    case.apply(Which::Own, Event::Gone("n1".to_owned()));
    assert_eq!(case.change(), None, "there is nothing to write to");
}

#[test]
fn what_cannot_be_published_at_first_is_told() {
    let mut case = Case::standing();
    let change = case.change().unwrap();
    case.index.wrote(&change, Err("forbidden".to_owned()), case.now);
    case.now += PATIENCE;
    assert!(case.astray().contains("cannot be written: forbidden"));
    case.index.wrote(&change, Ok(()), case.now);
    case.index.wrote(&change, Err("forbidden".to_owned()), case.now);
    case.now += PATIENCE;
    assert_eq!(case.verdict(), Verdict::Complete);
}

#[test]
fn what_was_published_before_a_restart_is_published() {
    let mut published = me();
    let Some(Change::Annotations(annotations)) = Case::standing().change() else {
        panic!("nothing is published");
    };
    published["metadata"]["annotations"] = annotations;
    let mut case = Case::standing();
    case.see(Which::Own, &published);
    case.see(Which::Own, &me());
    let change = case.change().unwrap();
    case.index.wrote(&change, Err("forbidden".to_owned()), case.now);
    case.now += PATIENCE;
    assert_eq!(case.verdict(), Verdict::Complete);
}

#[test]
fn what_was_written_is_waited_for() {
    let mut case = Case::standing();
    let change = case.change().unwrap();
    case.index.wrote(&change, Ok(()), case.now);
    assert_eq!(case.change(), None);
    assert_eq!(case.index.next(case.now), Some(case.now + ECHO));
    case.now += ECHO;
    assert_eq!(case.change(), Some(change.clone()), "it has not come to pass");
    case.index.wrote(&change, Ok(()), case.now);
    case.see(Which::Own, &me());
    assert_eq!(case.change(), Some(change), "somebody wrote over it");
}
