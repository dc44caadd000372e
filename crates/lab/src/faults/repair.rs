//! What was before a fault, and the way back: the difference between that and what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use kernel::Kernel;
use net::{Action, Change, File, Key, Link, LinkName, Object, Plan, Port, Space, Step, Sysctl};
use serde::{Deserialize, Serialize};

use crate::Result;

/// What was in a namespace, of all that a fault changes and of what goes away with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Before {
    /// The namespace.
    pub(super) space: Space,
    /// What was there.
    objects: Vec<Object>,
    /// What the fault makes that was not.
    made: Vec<Object>,
}

/// What a plan speaks of, by namespace.
pub(super) fn touched(plan: &Plan) -> BTreeMap<&Space, Vec<&Object>> {
    let mut touched: BTreeMap<&Space, Vec<&Object>> = BTreeMap::new();
    for Step { space, change, .. } in plan {
        let from = match change {
            Change::Replace { from, .. } => Some(&**from),
            _ => None,
        };
        touched.entry(space).or_default().extend(from.into_iter().chain(change.object()));
    }
    touched
}

/// The devices that a plan changes, or what is on them, with their namespaces.
pub(super) fn links(plan: &Plan) -> BTreeSet<(&Space, &LinkName)> {
    let mut links = BTreeSet::new();
    for (space, objects) in touched(plan) {
        let devices = objects.into_iter().filter_map(|it| base(it).or_else(|| carrier(it)));
        links.extend(devices.map(|link| (space, link)));
    }
    links
}

/// Whether two plans speak of the same things, or of what goes away with them.
pub(super) fn overlaps(one: &Plan, other: &Plan) -> bool {
    let (one, other) = (touched(one), touched(other));
    one.iter().any(|(space, objects)| {
        let others = other.get(space).into_iter().flatten();
        others.into_iter().any(|it| objects.iter().any(|own| depends(it, own) || depends(own, it)))
    })
}

/// Whether an object is another one, or goes away with it.
fn depends(object: &Object, on: &Object) -> bool {
    Key::of(object) == Key::of(on) || base(on).is_some_and(|link| carrier(object) == Some(link))
}

/// The device that takes what is on it along when it changes: itself, or that of an address.
fn base(object: &Object) -> Option<&LinkName> {
    match object {
        Object::Link(it) => Some(&it.name),
        Object::Address(it) => Some(&it.link),
        _ => None,
    }
}

/// The device that an object is on.
fn carrier(object: &Object) -> Option<&LinkName> {
    match object {
        Object::Address(it) => Some(&it.link),
        Object::Route(it) => it.link.as_ref(),
        Object::Neighbour(it) => Some(&it.link),
        Object::Fdb(it) => Some(&it.link),
        Object::Vni(it) => Some(&it.link),
        Object::Qdisc(it) => Some(&it.link),
        _ => None,
    }
}

impl Before {
    /// Looks at all that `plan` is going to change. `place` says where a namespace of the plan is
    /// found.
    pub(super) fn look(
        kernel: &mut Kernel,
        plan: &Plan,
        place: &impl Fn(&Space) -> Space,
    ) -> Result<Vec<Self>> {
        let look = |(space, touched): (&Space, Vec<&Object>)| {
            let seen = Seen::look(kernel, &place(space), &touched)?;
            let is_wanted = |it: &Object| touched.iter().any(|own| depends(it, own));
            let mut objects: Vec<Object> = seen.objects.into_iter().filter(is_wanted).collect();
            for object in &mut objects {
                if let Object::Link(link) = object {
                    link.free = link.master.is_none();
                }
            }
            let is_new = |it: &&Object| !objects.iter().any(|was| Key::of(was) == Key::of(it));
            let mut made: Vec<Object> = Vec::new();
            for object in touched.into_iter().filter(is_new) {
                if !made.iter().any(|it| Key::of(it) == Key::of(object)) {
                    made.push(object.clone());
                }
            }
            Ok(Self { space: space.clone(), objects, made })
        };
        touched(plan).into_iter().map(look).collect()
    }

    /// The steps back to it.
    pub(super) fn difference(
        &self,
        kernel: &mut Kernel,
        place: &impl Fn(&Space) -> Space,
    ) -> Result<Plan> {
        let known: Vec<&Object> = self.objects.iter().chain(&self.made).collect();
        let seen = Seen::look(kernel, &place(&self.space), &known)?;
        let is_known = |it: &Object| known.iter().any(|own| Key::of(own) == Key::of(it));
        let back = "is as it was before";
        // An address that somebody else has is not used until it is given again.
        let refused = seen.refused.into_iter().filter(|it| is_known(it));
        let mut plan: Plan =
            refused.map(|it| Step::new(&self.space, Change::Delete(it), back)).collect();
        let objects: Vec<Object> = seen.objects.into_iter().filter(is_known).collect();
        let made = |it: &Object| self.made.iter().any(|made| Key::of(made) == Key::of(it));
        // A cable that is gone went with its pod or node, and so did all that was on it.
        let is_gone = |it: &&Object| match it {
            Object::Link(Link { kind: None, .. }) => {
                !objects.iter().any(|seen| Key::of(seen) == Key::of(it))
            }
            _ => false,
        };
        let gone: Vec<&Object> = self.objects.iter().filter(is_gone).collect();
        let stays = |it: &&Object| !gone.iter().any(|cable| depends(it, cable));
        let wanted: Vec<Object> = self.objects.iter().filter(stays).cloned().collect();
        for step in net::diff(&self.space, wanted, &objects, made) {
            let change = match &step.change {
                Change::Replace { from, to: Object::Link(to) }
                    if let Object::Link(from) = &**from =>
                {
                    replace(from, to)
                }
                change => change.clone(),
            };
            plan.push(Step::new(&self.space, change, back));
        }
        let uses: Plan = plan.iter().flat_map(|step| self.use_of(step)).collect();
        plan.extend(uses);
        Ok(plan)
    }

    /// What has an IPv6 address that a step gives be used: the kernel takes it into use a moment later,
    /// detection or not, and whoever sends from it before is refused; and who has heard of it from
    /// somebody else meanwhile is told where it is now.
    fn use_of(&self, step: &Step) -> Plan {
        const PATIENCE: u32 = 3000;
        let (Change::Create(Object::Address(given))
        | Change::Replace { to: Object::Address(given), .. }) = &step.change
        else {
            return Plan::new();
        };
        if given.address.addr().is_ipv4() {
            return Plan::new();
        }
        let link = given.link.clone();
        let addresses = vec![given.address.addr()];
        let wait = Action::WaitAddresses { link: link.clone(), addresses, millis: PATIENCE };
        let mac = self.objects.iter().find_map(|object| match object {
            Object::Link(link) if link.name == given.link => link.mac,
            _ => None,
        });
        let act = |action, why| Step::new(&step.space, Change::Act(action), why);
        let mut plan = vec![act(wait, "waits until the address can be used")];
        plan.extend(mac.map(|mac| {
            act(Action::Announce { link, mac }, "tells the others where the address is")
        }));
        plan
    }
}

/// What is there, of all that a plan can speak of.
struct Seen {
    objects: Vec<Object>,
    /// Addresses that are not used, because somebody else has them.
    refused: Vec<Object>,
}

impl Seen {
    /// Looks at a namespace, and beyond that at what of `known` is looked at one by one.
    fn look(kernel: &mut Kernel, space: &Space, known: &[&Object]) -> Result<Self> {
        let dump = kernel.dump(space)?;
        let mut objects = dump.objects();
        for object in known {
            match object {
                Object::Link(link) => {
                    let found = kernel.observe(space, &kernel::Query::Link(link.name.clone()))?;
                    let is_it = |it: &Object| Key::of(it) == Key::of(object);
                    if let Some(place) = objects.iter_mut().find(|it| is_it(it))
                        && let [found] = &found[..]
                    {
                        place.clone_from(found);
                    }
                }
                Object::Sysctl(it) => {
                    if let Some(value) = kernel.sysctl(space, &it.key)? {
                        objects.push(Sysctl::new(&it.key, value).into());
                    }
                }
                Object::Tracked(it) => {
                    objects.extend(kernel.observe(space, &kernel::Query::Tracked(it.clone()))?);
                }
                Object::File(it) => {
                    if let Ok(content) = fs::read_to_string(&it.path) {
                        objects.push(File { path: it.path.clone(), content }.into());
                    }
                }
                _ => {}
            }
        }
        let refused = dump.addresses.iter().filter(|it| it.dad_failed).map(|it| it.address);
        let refused: Vec<ipnet::IpNet> = refused.collect();
        let is_refused =
            |it: &Object| matches!(it, Object::Address(it) if refused.contains(&it.address));
        let (refused, objects) = objects.into_iter().partition(is_refused);
        Ok(Self { objects, refused })
    }
}

/// The change of a device, which says no more than what differs.
pub(super) fn replace(from: &Link, to: &Link) -> Change {
    fn differs<T: PartialEq + Clone>(from: &Option<T>, to: &Option<T>) -> [Option<T>; 2] {
        if from == to || to.is_none() { [None, None] } else { [from.clone(), to.clone()] }
    }
    let [mut old, mut new] = [Link::existing(from.name.clone()), Link::existing(to.name.clone())];
    [old.mac, new.mac] = differs(&from.mac, &to.mac);
    [old.mtu, new.mtu] = differs(&from.mtu, &to.mtu);
    [old.up, new.up] = differs(&from.up, &to.up);
    [old.promiscuous, new.promiscuous] = differs(&from.promiscuous, &to.promiscuous);
    [old.tx_checksum, new.tx_checksum] = differs(&from.tx_checksum, &to.tx_checksum);
    [old.master, new.master] = differs(&from.master, &to.master);
    let [(own, hairpin), (isolated, set)] =
        [(from.port.hairpin, to.port.hairpin), (from.port.isolated, to.port.isolated)];
    // A port that is plugged in anew has forgotten its flags.
    let is_new = new.master.is_some();
    let flag = |was: Option<bool>, is: Option<bool>| is.filter(|_| is_new || was != is);
    old.port = Port { hairpin: own, isolated };
    new.port = Port { hairpin: flag(own, hairpin), isolated: flag(isolated, set) };
    old.free = from.master.is_none() && new.master.is_some();
    new.free = from.master.is_some() && to.master.is_none();
    if new.free {
        old.master.clone_from(&from.master);
        new.port = Port::default();
    }
    if new.port == Port::default() && !new.free {
        old.port = Port::default();
    }
    Change::replace(old, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_device_says_what_differs() {
        let name: LinkName = "veth1".parse().unwrap();
        let seen = Link {
            mtu: Some(1500),
            master: "cni0".parse().ok(),
            port: Port { hairpin: Some(true), isolated: Some(false) },
            ..Link::existing(name).up()
        };
        let shell = |from: &Link, to: &Link| {
            net::shell(&Step::new(&Space::named("node1"), replace(from, to), ""))
        };
        let down = Link { up: Some(false), ..seen.clone() };
        assert_eq!(shell(&seen, &down), ["ip -n node1 link set veth1 down"]);
        let loose = Link { master: None, port: Port::default(), ..seen.clone() };
        assert_eq!(shell(&seen, &loose), ["ip -n node1 link set veth1 nomaster"]);
        assert_eq!(
            shell(&loose, &seen),
            [
                "ip -n node1 link set veth1 master cni0",
                "bridge -n node1 link set dev veth1 hairpin on isolated off",
            ]
        );
    }

    #[test]
    fn what_goes_away_with_a_device_belongs_to_it() {
        let space = Space::named("node1");
        let link: Object = Link::existing("eth0".parse().unwrap()).up().into();
        let route = net::Route {
            link: "eth0".parse().ok(),
            ..net::Route::new("10.0.0.0/8".parse().unwrap())
        };
        let plan = |object: Object| vec![Step::new(&space, Change::Delete(object), "")];
        let elsewhere = net::Route {
            link: "eth1".parse().ok(),
            ..net::Route::new("10.0.0.0/9".parse().unwrap())
        };
        assert!(overlaps(&plan(link.clone()), &plan(route.clone().into())));
        assert!(overlaps(&plan(route.into()), &plan(link.clone())));
        assert!(!overlaps(&plan(link), &plan(elsewhere.into())));
    }
}
