//! The ruleset that podwire writes, beside what the system's own `nft` makes of the same words.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod foreign;
mod rulesets;

use std::net::Ipv4Addr;

use kernel::{Error, ErrorKind, Kernel, OnError};
use net::nft::{
    Chain, ChainKind, Element, Family, Field, Hook, Key, KeyType, Mapped, Object, Rule, Statement,
    Table, Value, Verdict, text,
};
use net::{Change, Space, Step};
use testbed::Namespace;

use crate::rulesets::{all, cni, element, every_statement, hook, host_ports, masquerade, set, v4};

/// The same objects by netlink and by `nft -f -`, in every way of writing them.
#[test]
fn netlink_and_text_make_the_same_ruleset() {
    testbed::isolated!();
    testbed::need("nft", "nftables");
    for (name, objects) in all() {
        for change in [Change::Create, Change::Ensure] {
            let (ours, theirs) = (Namespace::new("ours"), Namespace::new("theirs"));
            let changes: Vec<Change> =
                objects.iter().map(|object| change(object.clone().into())).collect();
            apply(&ours.space(), &changes).unwrap();
            type_in(&theirs, &changes);
            for list in ["nft list ruleset", "nft -j list ruleset"] {
                assert_eq!(listed(&ours, list), listed(&theirs, list), "{name}: {list}");
            }
            let (mine, other) = (dump(&ours.space()), dump(&theirs.space()));
            assert_eq!(mine, other, "{name}");
            assert_eq!(sorted(mine), sorted(objects.clone()), "{name}");
        }
    }
}

/// A dormant table keeps what is in it, and wakes when it is wanted; `nft` does it in the same words.
#[test]
fn a_dormant_table_is_woken_with_all_that_is_in_it() {
    testbed::isolated!();
    testbed::need("nft", "nftables");
    let objects = masquerade();
    let asleep = Table { dormant: true, ..Table::new(cni(Family::Inet)) };
    let table = |dormant| net::Object::from(Table { dormant, ..asleep.clone() });
    let sleep = Change::replace(table(false), table(true));
    let wake = Change::replace(table(true), table(false));
    let create: Vec<_> = objects.iter().map(|it| Change::Create(it.clone().into())).collect();
    let (ours, theirs) = (Namespace::new("ours"), Namespace::new("theirs"));
    apply(&ours.space(), &create).unwrap();
    type_in(&theirs, &create);
    let awake = dump(&ours.space());
    for wake in [wake, Change::Ensure(table(false))] {
        apply(&ours.space(), std::slice::from_ref(&sleep)).unwrap();
        type_in(&theirs, std::slice::from_ref(&sleep));
        for namespace in [&ours, &theirs] {
            let list = listed(namespace, "nft list ruleset");
            assert!(list.contains("flags dormant"), "{list}");
            let seen = dump(&namespace.space());
            assert!(seen.contains(&Object::from(asleep.clone())), "{seen:#?}");
            assert_eq!(seen.len(), awake.len());
            assert_eq!(net::nft::acting(&seen).count(), 0);
        }
        apply(&ours.space(), std::slice::from_ref(&wake)).unwrap();
        type_in(&theirs, &[wake]);
        assert_eq!(dump(&ours.space()), awake);
        assert_eq!(dump(&theirs.space()), awake);
    }
    // What was is put back where a later step fails.
    apply(&ours.space(), std::slice::from_ref(&sleep)).unwrap();
    let before = dump(&ours.space());
    let wanted = vec![table(false)];
    let [wake] = &net::diff(&ours.space(), wanted, &[table(true)], |_| true)[..] else {
        panic!("one step wakes it")
    };
    apply(&ours.space(), &[wake.change.clone(), create[0].clone()]).unwrap_err();
    assert_eq!(dump(&ours.space()), before);
}

/// What is written is found again by its key, and nothing else is.
#[test]
fn elements_have_keys() {
    testbed::isolated!();
    let space = Namespace::new("ours");
    let (space, table) = (space.space(), cni(Family::Inet));
    let mut kernel = Kernel::new().unwrap();
    assert_eq!(kernel.nft_elements(&space, &table, "masquerade4", |_| true).unwrap(), None);
    let pod = Key::Point(vec![v4("10.1.0.2")]);
    assert_eq!(kernel.nft_element(&space, &table, "masquerade4", &pod).unwrap(), None);

    for ruleset in [masquerade(), host_ports(), every_statement()] {
        let changes: Vec<_> = ruleset.iter().map(|it| Change::Ensure(it.clone().into())).collect();
        apply(&space, &changes).unwrap();
        for object in ruleset {
            let Object::Element(element) = object else { continue };
            let seen = kernel.nft_element(&space, &element.table, &element.set, &element.key);
            assert_eq!(seen.unwrap().as_ref(), Some(&element));
            let delete = Change::Delete(element.clone().into());
            let all = kernel
                .nft_elements(&space, &element.table, &element.set, |_| true)
                .unwrap()
                .unwrap();
            apply(&space, std::slice::from_ref(&delete)).unwrap();
            let rest = kernel
                .nft_elements(&space, &element.table, &element.set, |_| true)
                .unwrap()
                .unwrap();
            assert_eq!(rest.len(), all.len() - 1, "{element:?}");
            assert!(!rest.contains(&element));
            let seen = kernel.nft_element(&space, &element.table, &element.set, &element.key);
            assert_eq!(seen.unwrap(), None);
            apply(&space, &[delete]).unwrap();
        }
    }
    let other = Key::Point(vec![v4("10.1.0.99")]);
    assert_eq!(kernel.nft_element(&space, &table, "masquerade4", &other).unwrap(), None);
}

/// What is refused is named, with its place, and nothing of the transaction remains.
#[test]
fn a_refusal_names_the_change_and_undoes_all() {
    testbed::isolated!();
    let ours = Namespace::new("ours");
    let space = ours.space();
    let create = |object: &Object| Change::Create(object.clone().into());
    let all: Vec<_> = masquerade().iter().map(create).collect();
    apply(&space, &all).unwrap();

    let objects = masquerade();
    let pod = |last: u8| {
        let Object::Element(element) = objects[6].clone() else { panic!("{:?}", objects[6]) };
        let key = Key::Point(vec![Ipv4Addr::new(10, 1, 0, last).into()]);
        Object::from(Element { key, ..element })
    };
    let refused = |changes: &[Change]| {
        let plan: Vec<_> = changes.iter().map(|c| Step::new(&space, c.clone(), "tests")).collect();
        let mut failed = Kernel::new().unwrap().apply(&plan, OnError::Undo).failed;
        assert_eq!(failed.len(), 1, "{failed:?}");
        let (place, error) = failed.remove(0);
        (place, error.kind(), error.to_string())
    };
    let exists = "create nft element 10.1.0.2 in inet podwire_cni masquerade4: file exists";
    assert_eq!(
        refused(&[create(&pod(3)), create(&pod(2)), create(&pod(4))]),
        (1, ErrorKind::Exists, exists.to_owned())
    );
    let elements = |set: &str| {
        let mut kernel = Kernel::new().unwrap();
        kernel.nft_elements(&space, &cni(Family::Inet), set, |_| true).unwrap().unwrap()
    };
    assert_eq!(elements("masquerade4").len(), 1);

    let table = Object::from(cni(Family::Inet));
    let exists = "create nft table inet podwire_cni: file exists";
    assert_eq!(refused(&[create(&table)]), (0, ErrorKind::Exists, exists.to_owned()));
    for (at, name) in [(1, "map masquerade4"), (3, "chain subnet-10.1.0.0/16")] {
        let exists = format!("create nft {name} in inet podwire_cni: file exists");
        assert_eq!(refused(&[create(&objects[at])]), (0, ErrorKind::Exists, exists));
    }

    let Object::Element(element) = pod(2) else { panic!("{objects:?}") };
    let other = Element { value: Some(Mapped::Verdict(Verdict::Accept)), ..element.clone() };
    let (place, _, text) =
        refused(&[Change::Delete(pod(9).into()), Change::Ensure(other.clone().into())]);
    assert_eq!(place, 1);
    assert!(
        text.starts_with("ensure nft element 10.1.0.2 in inet podwire_cni masquerade4"),
        "{text}"
    );
    assert!(text.contains("not as it should be"), "{text}");

    let Object::Chain(chain) = objects[5].clone() else { panic!("{objects:?}") };
    let moved = Chain { base: hook(ChainKind::Nat, Hook::Postrouting, 5), ..chain.clone() };
    let (_, _, text) = refused(&[Change::Ensure(moved.clone().into())]);
    assert!(text.contains("it is there"), "{text}");

    let nonsense = Rule::new([Statement::is(Field::IpSource, Value::Port(1))]);
    let chain = Chain { rules: vec![nonsense], ..chain };
    let (place, _, text) =
        refused(&[Change::Ensure(pod(2).into()), Change::Ensure(chain.clone().into())]);
    assert_eq!(place, 1);
    assert_eq!(
        text,
        "ensure nft chain postrouting in inet podwire_cni: ip saddr is never 1: it has another type"
    );

    let comment = Some("x".repeat(129));
    let (_, _, text) = refused(&[create(&Element { comment, ..other.clone() }.into())]);
    assert!(text.contains("at most 128 bytes"), "{text}");

    let absent = Element { set: "absent".into(), ..element.clone() };
    let (_, kind, text) = refused(&[create(&absent.into())]);
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(text.contains("there is no such set"), "{text}");
    let rules = vec![Rule::new([Statement::lookup([Field::IpSource], "absent")])];
    let (_, _, text) = refused(&[Change::Ensure(Chain { rules, ..chain.clone() }.into())]);
    assert!(text.contains("names a set or a chain that is not there"), "{text}");

    // Replacing is one transaction, and works whether or not the old one is still there.
    for _ in 0..2 {
        apply(&space, &[Change::replace(element.clone(), other.clone())]).unwrap();
        assert_eq!(elements("masquerade4"), std::slice::from_ref(&other));
        apply(&space, &[Change::Delete(other.clone().into())]).unwrap();
    }
    apply(&space, &[Change::replace(objects[5].clone(), moved.clone())]).unwrap();
    assert!(dump(&space).contains(&moved.into()));
}

/// Deleting is done where there is nothing to delete, in part or as a whole, and is not told as a
/// change, so that taking a plan back does not make what never was.
#[test]
fn what_is_gone_is_deleted() {
    testbed::isolated!();
    let ours = Namespace::new("ours");
    let space = ours.space();
    let steps = |change: fn(net::Object) -> Change, objects: Vec<Object>| -> Vec<Step> {
        objects.into_iter().map(|it| Step::new(&space, change(it.into()), "tests it")).collect()
    };
    let mut kernel = Kernel::new().unwrap();
    let mut delete = |objects: Vec<Object>| -> Vec<Step> {
        let plan = steps(Change::Delete, objects);
        let applied = kernel.apply(&plan, OnError::Undo);
        assert!(applied.failed.is_empty(), "{:?}", applied.failed);
        applied.steps(&plan).cloned().collect()
    };
    assert_eq!(delete(masquerade()), []);
    assert_eq!(delete(masquerade().into_iter().rev().collect()), []);

    let create = steps(Change::Create, masquerade());
    Kernel::new().unwrap().apply(&create, OnError::Undo).into_result().unwrap();
    let objects = masquerade();
    let absent =
        element(&cni(Family::Inet), "masquerade4", Key::Point(vec![v4("10.1.0.99")]), None);
    // The element that is there, one that is not, and a table that is not.
    let some = vec![absent.into(), objects[6].clone(), Object::from(cni(Family::Bridge))];
    assert_eq!(delete(some.clone()), steps(Change::Delete, vec![objects[6].clone()]));
    assert_eq!(delete(some), []);

    // A chain that a map leads to stays; one that nothing leads to goes, with its rules.
    let plan = steps(Change::Delete, vec![objects[4].clone()]);
    let failed = Kernel::new().unwrap().apply(&plan, OnError::Undo).into_result().unwrap_err();
    assert_eq!(
        failed.to_string(),
        "delete nft chain subnet-fd00__/64 in inet podwire_cni: device or resource busy"
    );
    assert_eq!(delete(vec![objects[3].clone()]).len(), 1);

    assert_eq!(delete(objects.into_iter().rev().collect()).len(), 6);
    assert_eq!(dump(&space), []);
}

/// A chain that is right is left alone, however its rules are put; one that is deleted on the way is
/// made again.
#[test]
fn a_chain_is_written_only_if_it_has_to_be() {
    testbed::isolated!();
    let ours = Namespace::new("ours");
    let space = ours.space();
    let table = cni(Family::Inet);
    let is_v4 = Statement::is(Field::NetworkFamily, Value::NetworkFamily(2));
    let pod = Statement::within(Field::IpSource, "10.1.0.2/32".parse().unwrap());
    let chain = |statements: &[Statement]| Chain {
        table: table.clone(),
        name: "pods".to_owned(),
        base: None,
        rules: vec![Rule::new(statements)],
    };
    let changed = |changes: Vec<Change>| {
        let plan: Vec<_> =
            changes.into_iter().map(|it| Step::new(&space, it, "tests it")).collect();
        let applied = Kernel::new().unwrap().apply(&plan, OnError::Undo);
        assert!(applied.failed.is_empty(), "{:?}", applied.failed);
        applied.done.len()
    };
    let wanted = chain(&[is_v4, pod]);
    let ensure = || Change::Ensure(wanted.clone().into());
    assert_eq!(changed(vec![Change::Ensure(Object::from(table.clone()).into()), ensure()]), 2);
    assert_eq!(changed(vec![ensure()]), 0);
    let other = chain(&[Verdict::Accept.into()]);
    assert_eq!(changed(vec![Change::Ensure(other.into())]), 1);
    assert_eq!(changed(vec![ensure()]), 1);
    assert_eq!(changed(vec![Change::Delete(wanted.clone().into()), ensure()]), 2);
    assert_eq!(changed(vec![ensure()]), 0);
}

/// Many plugins see to what is shared at the same time, each with a pod of its own.
#[test]
fn ensuring_is_idempotent_under_contention() {
    testbed::isolated!();
    const WORKERS: u8 = 8;
    const ROUNDS: u8 = 20;
    let ours = Namespace::new("ours");
    let space = ours.space();
    let objects = masquerade();
    let (shared, own) = objects.split_at(6);
    let Object::Element(element) = &own[0] else { panic!("{own:?}") };
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let space = &space;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let key = Key::Point(vec![Ipv4Addr::new(10, 1, worker, round).into()]);
                    let pod = Object::from(Element { key, ..element.clone() });
                    let mut changes: Vec<_> =
                        shared.iter().map(|it| Change::Ensure(it.clone().into())).collect();
                    changes.push(Change::Create(pod.into()));
                    apply(space, &changes).unwrap();
                    // Reading gives one picture, whatever the others write meanwhile.
                    let chains =
                        dump(space).into_iter().filter(|it| matches!(it, Object::Chain(_)));
                    assert_eq!(chains.collect::<Vec<_>>(), shared[3..]);
                }
            });
        }
    });
    let elements = dump(&space).into_iter().filter(|it| matches!(it, Object::Element(_))).count();
    assert_eq!(elements, usize::from(WORKERS) * usize::from(ROUNDS));
}

/// A transaction larger than a socket takes by default, and one in which more is refused than it
/// has room to tell.
#[test]
fn large_transactions_go_through() {
    testbed::isolated!();
    let ours = Namespace::new("ours");
    let space = ours.space();
    let table = cni(Family::Inet);
    let pods = |from: u16| -> Vec<Object> {
        let pod = |n: u16| {
            let [high, low] = n.to_be_bytes();
            let key = Key::Point(vec![Ipv4Addr::new(10, 1, high, low).into()]);
            let comment = Some(format!("pod {n}"));
            Element { comment, ..element(&table, "pods", key, None) }.into()
        };
        (from..from + 3000).map(pod).collect()
    };
    let shared = [table.clone().into(), set(&table, "pods", &[KeyType::Ipv4Addr], None).into()];
    let changes = |change: fn(net::Object) -> Change, objects: &[Object]| -> Vec<Change> {
        objects.iter().map(|object| change(object.clone().into())).collect()
    };
    apply(&space, &changes(Change::Create, &shared)).unwrap();
    apply(&space, &changes(Change::Create, &pods(0))).unwrap();
    let error = apply(&space, &changes(Change::Create, &pods(0))).unwrap_err();
    assert!(error.to_string().starts_with("create nft element 10.1.0.0 in"), "{error}");
    apply(&space, &changes(Change::Delete, &pods(1500))).unwrap();
    apply(&space, &changes(Change::Delete, &pods(6000))).unwrap();
    let mut kernel = Kernel::new().unwrap();
    assert_eq!(kernel.nft_elements(&space, &table, "pods", |_| true).unwrap().unwrap().len(), 1500);
    let one = |comment: Option<&str>| comment == Some("pod 7");
    assert_eq!(kernel.nft_elements(&space, &table, "pods", one).unwrap().unwrap().len(), 1);
}

fn type_in(namespace: &Namespace, changes: &[Change]) {
    let lines: Vec<_> = changes.iter().flat_map(text::command).collect();
    namespace.sh(&format!("nft -f - <<'RULES'\n{}\nRULES", lines.join("\n")));
}

/// The ruleset in nft's words, without the handles, which tell the order of creation.
fn listed(namespace: &Namespace, command: &str) -> String {
    namespace.sh(&format!("{command} | sed -E 's/\"handle\": [0-9]+, //g'"))
}

fn apply(space: &Space, changes: &[Change]) -> Result<(), Error> {
    let plan: Vec<Step> = changes.iter().map(|c| Step::new(space, c.clone(), "tests it")).collect();
    Kernel::new()?.apply(&plan, OnError::Undo).into_result().map(|_| ())
}

fn dump(space: &Space) -> Vec<Object> {
    Kernel::new().unwrap().dump(space).unwrap().nft
}

fn sorted(mut objects: Vec<Object>) -> Vec<Object> {
    objects.sort_by_cached_key(|object| format!("{object:?}"));
    objects
}
