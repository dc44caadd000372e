//! Faults of labs that are up: made, taken back, hidden and judged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use diagnosis::{Code, Finding, Reference};
use kernel::{Kernel, OnError};
use net::{Plan, Space, Step};
use topology::Machine;

use super::record::{self, Broken};
use super::repair::{Before, links, overlaps};
use super::site::Site;
use super::{Families, Fault, Scene, all};
use crate::store::Directory;
use crate::{AgentRun, Error, Lab, Name, Namespace, Network, Result, Store, cluster};

/// What came of taking faults back.
#[derive(Clone, Debug, Default)]
pub struct Repair {
    /// What was broken.
    pub broken: Vec<Broken>,
    /// The steps that were taken, or would be.
    pub steps: Plan,
    /// What could not be taken back.
    pub failures: Vec<String>,
}

/// What is seen of a fault that a person was to find.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Which it was.
    pub broken: Broken,
    /// What is still seen of it; empty once it is repaired, in whatever way.
    pub findings: Vec<Finding>,
}

/// How often the way back is looked for: what stands on a device that is made anew is made after it.
const ROUNDS: usize = 4;

impl Store {
    /// What [`Store::inject`] would do.
    pub fn plan_fault(&self, name: &Name, fault: &Fault, on: Option<&str>) -> Result<Broken> {
        let (directory, lab) = self.open_up(name)?;
        Wounded::look(&directory, &lab)?.broken(fault, on)
    }

    /// Makes a fault, or nothing. What was before is written down first. What an agent that is at
    /// work would heal at once is only made if a person wants to see that.
    pub fn inject(
        &self,
        name: &Name,
        fault: &Fault,
        on: Option<&str>,
        though_healed: bool,
    ) -> Result<Broken> {
        let (directory, lab) = self.open_up(name)?;
        let wounded = Wounded::look(&directory, &lab)?;
        let broken = wounded.broken(fault, on)?;
        if !though_healed {
            wounded.require_unhealed(fault, &broken.on)?;
        }
        wounded.inject(broken)
    }

    /// What is broken in a lab.
    pub fn broken(&self, name: &Name) -> Result<Vec<Broken>> {
        self.get(name)?;
        record::read(&self.directory(name))
    }

    /// Takes faults back, all or those of that name: the difference to what was before is undone,
    /// whoever has repaired what of it.
    pub fn fix(&self, name: &Name, fault: Option<&Fault>) -> Result<Repair> {
        self.repair(name, fault, false)
    }

    /// What [`Store::fix`] would do first.
    pub fn plan_fix(&self, name: &Name, fault: Option<&Fault>) -> Result<Repair> {
        self.repair(name, fault, true)
    }

    fn repair(&self, name: &Name, fault: Option<&Fault>, is_dry: bool) -> Result<Repair> {
        let (directory, lab) = self.open_up(name)?;
        let known = record::read(&directory.path)?;
        let is_meant = |it: &Broken| match fault {
            Some(fault) => it.name() == fault.name && !it.is_hidden(),
            None => !it.is_hidden(),
        };
        let (mut broken, stays): (Vec<Broken>, Vec<Broken>) = known.into_iter().partition(is_meant);
        if let (true, Some(fault)) = (broken.is_empty(), fault) {
            let broken = stays.iter().filter(|it| !it.is_hidden());
            let broken = broken.map(|it| it.name().to_owned()).collect();
            return Err(Error::NotBroken { name: name.to_string(), fault: fault.name, broken });
        }
        // The last one first: it was made on what the others had left.
        broken.reverse();
        let back = Back { lab: &lab, directory: &directory.path };
        let repair = back.all(broken, is_dry)?;
        if !is_dry && repair.failures.is_empty() {
            record::write(&directory.path, &stays)?;
        }
        Ok(repair)
    }

    /// Hides a fault in a lab: which one, and where, follows from the seed.
    pub fn hide(&self, name: &Name, seed: u64) -> Result<()> {
        let (directory, lab) = self.open_up(name)?;
        let wounded = Wounded::look(&directory, &lab)?;
        if wounded.known.iter().any(Broken::is_hidden) {
            return Err(Error::QuizRuns { name: name.to_string() });
        }
        let mut chance = Chance(seed);
        let mut faults: Vec<&'static Fault> =
            all().filter(|fault| !fault.rules.is_empty()).collect();
        while !faults.is_empty() {
            let fault = faults.swap_remove(chance.below(faults.len()));
            let mut places = wounded.places(fault);
            while !places.is_empty() {
                let place = places.swap_remove(chance.below(places.len())).object();
                let Ok(broken) = wounded.broken(fault, Some(&place)) else { continue };
                let is_felt = wounded.scene.is_some_and(|it| !fault.felt_in(it).is_empty());
                if is_felt && wounded.require_unhealed(fault, &place).is_ok() {
                    return wounded.inject(Broken { hints: Some(0), ..broken }).map(|_| ());
                }
            }
        }
        Err(Error::NoQuiz { name: name.to_string() })
    }

    /// Looks whether the fault that was hidden is still there. If nothing is seen of it any more, that
    /// is for packets to say: whoever has asked them ends the quiz by
    /// [`Store::end_quiz`].
    pub fn judge(&self, name: &Name) -> Result<Verdict> {
        let (directory, lab) = self.open_up(name)?;
        let (broken, _) = hidden(&directory, name)?;
        let codes = broken.fault().map(|fault| fault.codes).unwrap_or_default();
        let machine = Machine::collect(&lab.sources(&directory.path))?;
        let is_of_it = |it: &Finding| codes.contains(&it.code) && it.code != Code::Unreadable;
        let findings = diagnosis::findings(&machine).into_iter().filter(is_of_it).collect();
        Ok(Verdict { broken, findings })
    }

    /// One more hint about the fault that was hidden: what it is, with the number of hints so far.
    pub fn hint(&self, name: &Name) -> Result<Broken> {
        let (directory, _) = self.open_up(name)?;
        let (mut broken, mut stays) = hidden(&directory, name)?;
        broken.hints = broken.hints.map(|hints| hints.saturating_add(1));
        stays.push(broken.clone());
        record::write(&directory.path, &stays)?;
        Ok(broken)
    }

    /// Ends the quiz: what is left of the fault that was hidden is taken back.
    pub fn end_quiz(&self, name: &Name) -> Result<Repair> {
        let (directory, lab) = self.open_up(name)?;
        let (broken, stays) = hidden(&directory, name)?;
        let back = Back { lab: &lab, directory: &directory.path };
        let repair = back.all(vec![broken], false)?;
        if repair.failures.is_empty() {
            record::write(&directory.path, &stays)?;
        }
        Ok(repair)
    }
}

/// The fault that a person is to find, and all others.
fn hidden(directory: &Directory, name: &Name) -> Result<(Broken, Vec<Broken>)> {
    let (mut hidden, stays): (Vec<Broken>, Vec<Broken>) =
        record::read(&directory.path)?.into_iter().partition(Broken::is_hidden);
    match hidden.pop() {
        Some(broken) => Ok((broken, stays)),
        None => Err(Error::QuizOver { name: name.to_string() }),
    }
}

/// A lab that is up, as it is seen, with what is broken in it.
struct Wounded<'a> {
    directory: &'a Directory,
    lab: &'a Lab,
    machine: Machine,
    scene: Option<Scene>,
    known: Vec<Broken>,
}

impl<'a> Wounded<'a> {
    fn look(directory: &'a Directory, lab: &'a Lab) -> Result<Self> {
        let known = record::read(&directory.path)?;
        let machine = Machine::collect(&lab.sources(&directory.path))?;
        let links = || machine.namespaces.iter().flat_map(topology::Namespace::links);
        let is_gpe = links().any(|link| link.vxlan.is_some_and(|it| it.gpe));
        Ok(Self { directory, lab, scene: Scene::of(lab, is_gpe), machine, known })
    }

    /// What a fault can be made on.
    fn places(&self, fault: &Fault) -> Vec<&'a Namespace> {
        let of_role = |it: &&Namespace| it.role == fault.on;
        self.lab.namespaces.iter().filter(of_role).collect()
    }

    /// The fault with its steps and what is before them; on the first thing that it can be made on
    /// if nothing is said.
    fn broken(&self, fault: &Fault, on: Option<&str>) -> Result<Broken> {
        let unfit =
            |why: String| Error::Unfit { name: self.lab.name.to_string(), fault: fault.name, why };
        let scene = self.scene.ok_or_else(|| unfit("it has no pods".to_owned()))?;
        if !fault.exists_in(scene) {
            let scenes: Vec<&str> = fault.scenes.iter().map(|scene| scene.word()).collect();
            let why = format!("it is of labs of another kind: {}", scenes.join(", "));
            return Err(unfit(why));
        }
        let v6 = self.is_v6(fault).map_err(unfit)?;
        if let Some(Ok(Reference::Link(at, name))) = on.map(str::parse) {
            return self.broken_link(fault, scene, v6, at.as_deref(), &name);
        }
        let places = match on {
            Some(object) => vec![self.lab.namespace(fault.on, object)?],
            None => self.places(fault),
        };
        let mut refused = None;
        for on in places {
            match fault.plan(&self.site(on, scene, v6)) {
                Ok(steps) => return self.recorded(fault, on.object(), steps),
                Err(why) => {
                    refused.get_or_insert(why);
                }
            }
        }
        Err(unfit(refused.unwrap_or_else(|| format!("it has no {}", fault.on.word()))))
    }

    /// The fault on a device: where its steps change that device, or what is on it.
    fn broken_link(
        &self,
        fault: &Fault,
        scene: Scene,
        v6: bool,
        at: Option<&str>,
        name: &str,
    ) -> Result<Broken> {
        let (mut known, mut fitting) = (BTreeSet::new(), BTreeMap::new());
        for on in self.places(fault) {
            let Ok(steps) = fault.plan(&self.site(on, scene, v6)) else { continue };
            for (space, link) in links(&steps) {
                let place = self.lab.namespaces.iter().find(|it| it.space() == *space);
                let Some(place) = place.map(|it| it.public.as_str()) else { continue };
                known.insert(format!("link/{place}:{link}"));
                if link.as_str() == name && at.is_none_or(|at| at == place) {
                    fitting.entry(place).or_insert_with(|| (on, steps.clone()));
                }
            }
        }
        let object = Reference::Link(at.map(str::to_owned), name.to_owned()).to_string();
        let unfit = |why| Error::Unfit { name: self.lab.name.to_string(), fault: fault.name, why };
        let places: Vec<&str> = fitting.keys().copied().collect();
        match (fitting.pop_first(), fitting.is_empty()) {
            (Some((_, (on, steps))), true) => self.recorded(fault, on.object(), steps),
            (Some(_), false) => {
                let all: Vec<String> =
                    places.iter().map(|place| format!("link/{place}:{name}")).collect();
                Err(unfit(format!("{object} may be {}", all.join(", "))))
            }
            (None, _) if known.is_empty() => Err(unfit("it changes no device there".to_owned())),
            (None, _) => Err(Error::NoObject { object, objects: known.into_iter().collect() }),
        }
    }

    fn site(&self, on: &'a Namespace, scene: Scene, v6: bool) -> Site<'_> {
        Site { lab: self.lab, machine: &self.machine, scene, on, v6 }
    }

    fn recorded(&self, fault: &Fault, on: String, steps: Plan) -> Result<Broken> {
        if let Some(other) = self.known.iter().find(|it| overlaps(&it.steps, &steps)) {
            let other = (!other.is_hidden()).then(|| other.name().to_owned());
            let (name, fault) = (self.lab.name.to_string(), fault.name);
            return Err(Error::Overlap { name, fault, other });
        }
        let back = Back { lab: self.lab, directory: &self.directory.path };
        let before = Before::look(&mut Kernel::new()?, &steps, &|space| back.place(space))?;
        Ok(Broken::new(fault, on, steps, before))
    }

    /// Whether a fault is about IPv6 here.
    fn is_v6(&self, fault: &Fault) -> std::result::Result<bool, String> {
        let (v4, v6) = match &self.lab.network {
            Network::Plain => (false, false),
            Network::Pods(network) => (true, network.dual_stack),
            Network::Cluster(network) => network.families.both(),
        };
        match fault.families {
            Families::Any => Ok(!v4),
            Families::V4 if v4 => Ok(false),
            Families::V6 if v6 => Ok(true),
            Families::V4 => Err("it is about IPv4, and pods have IPv6 only".to_owned()),
            Families::V6 => Err("it is about IPv6, and pods have IPv4 only".to_owned()),
        }
    }

    /// Refuses what an agent that is at work heals at once.
    fn require_unhealed(&self, fault: &Fault, on: &str) -> Result<()> {
        let Network::Cluster(network) = &self.lab.network else { return Ok(()) };
        let place = self.lab.namespace(fault.on, on)?;
        let node =
            if fault.on == crate::Role::Node { Some(place) } else { self.lab.node_of(place) };
        let run = |node| cluster::agent(self.lab, network, &self.directory.path, node, true);
        let healer = node.map(run).filter(AgentRun::is_running);
        match healer {
            Some(AgentRun { node, .. }) if fault.healed => {
                let name = self.lab.name.to_string();
                Err(Error::Healed { name, fault: fault.name, node })
            }
            _ => Ok(()),
        }
    }

    fn inject(&self, broken: Broken) -> Result<Broken> {
        let mut all = self.known.clone();
        all.push(broken.clone());
        record::write(&self.directory.path, &all)?;
        let back = Back { lab: self.lab, directory: &self.directory.path };
        let steps = back.placed(&broken.steps);
        match Kernel::new()?.apply(&steps, OnError::Undo).into_result() {
            Ok(_) => Ok(broken),
            Err(error) => {
                let repair = back.all(vec![broken], false)?;
                if repair.failures.is_empty() {
                    record::write(&self.directory.path, &self.known)?;
                }
                Err(error.into())
            }
        }
    }
}

/// The way back of a lab's faults.
struct Back<'a> {
    lab: &'a Lab,
    directory: &'a Path,
}

impl Back<'_> {
    /// Where a namespace of a plan is: by the lab's own name for it, because a public one may have
    /// come to mean something else.
    fn place(&self, space: &Space) -> Space {
        let own = self.lab.namespaces.iter().find(|it| it.space() == *space);
        own.map_or_else(|| space.clone(), |it| Space::At(it.private_path(self.directory)))
    }

    fn placed(&self, plan: &Plan) -> Plan {
        let place = |step: &Step| Step { space: self.place(&step.space), ..step.clone() };
        plan.iter().map(place).collect()
    }

    /// Takes faults back, in this order.
    fn all(&self, broken: Vec<Broken>, is_dry: bool) -> Result<Repair> {
        let mut repair = Repair::default();
        for it in &broken {
            let mut rounds = 0;
            loop {
                let mut kernel = Kernel::new()?;
                let steps = self.difference(&mut kernel, it)?;
                if is_dry || steps.is_empty() {
                    repair.steps.extend(steps);
                    break;
                }
                let applied = kernel.apply(&self.placed(&steps), OnError::Continue);
                repair.steps.extend(steps);
                rounds += 1;
                if rounds == ROUNDS && !self.difference(&mut kernel, it)?.is_empty() {
                    let said: Vec<String> =
                        applied.failed.into_iter().map(|(_, error)| error.to_string()).collect();
                    repair.failures.push(match &said[..] {
                        [] => format!("{} on {} comes back", it.name(), it.on),
                        said => said.join("; "),
                    });
                    break;
                }
            }
        }
        repair.broken = broken;
        Ok(repair)
    }

    fn difference(&self, kernel: &mut Kernel, broken: &Broken) -> Result<Plan> {
        let mut plan = Plan::new();
        for before in &broken.before {
            // With a namespace went all that was broken in it.
            let is_there = kernel.open(&self.place(&before.space)).is_ok();
            if is_there {
                plan.extend(before.difference(kernel, &|space| self.place(space))?);
            }
        }
        Ok(plan)
    }
}

/// Numbers that look like chance and follow from a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let limit = u64::try_from(limit.max(1)).unwrap_or(u64::MAX);
        usize::try_from((mixed ^ (mixed >> 31)) % limit).unwrap_or_default()
    }
}
