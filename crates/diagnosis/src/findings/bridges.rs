//! Ports that do not pass on what they should, and bridged packets that rules see or do not see.

use net::nft::Hook;
use topology::End;
use topology::dump::Link;

use crate::explain;
use crate::finding::{Code, Finding};
use crate::rules::{Action, Packet, Rules};
use crate::view::{View, carries};
use crate::words;

pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, _) in view.all() {
        for (end, link) in view.ends(at).filter(|(_, link)| link.kind == "bridge") {
            findings.extend(ports(view, end, link));
            findings.extend(vlans(view, end, link));
        }
        findings.extend(rules(view, at));
    }
    findings
}

fn ports(view: &View<'_>, bridge: End, link: &Link) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut isolated = Vec::new();
    for port in view.ports(bridge) {
        let Some((port_link, flags)) = view.link(*port).and_then(|it| Some((it, it.port?))) else {
            continue;
        };
        let name = net::quote(&port_link.name);
        let show = view.command(port.namespace, &format!("bridge -d link show dev {name}"));
        let far = view.peer(*port);
        let about = || {
            let far = far.map(|far| view.thing(far));
            [view.thing(*port)].into_iter().chain(far).chain([view.thing(bridge)]).collect()
        };
        let state = explain::port_state(flags.state);
        if flags.state != explain::FORWARDING && carries(port_link) && link.up {
            let text =
                format!("The port {} of the bridge {} is {state}.", view.device(*port), link.name);
            let consequence = "The bridge drops what comes in by it, and sends nothing out by it.";
            let remedy = format!("bridge link set dev {name} state 3");
            let remedy = view.command(port.namespace, &remedy);
            let finding = Finding::new(Code::PortBlocked, text, consequence, about());
            findings.push(finding.remedy(remedy).shown_by(show.clone()));
        }
        if flags.isolated {
            isolated.push(*port);
        }
        let asks = far.is_some_and(|far| asks(view, far.namespace, "hairpinMode"));
        if asks && !flags.hairpin {
            let text = format!(
                "The configuration asks for hairpin, and the port {} does not do it.",
                view.device(*port)
            );
            let consequence =
                "The pod does not reach itself by the address of a service or a port of the node.";
            let remedy =
                view.command(port.namespace, &format!("bridge link set dev {name} hairpin on"));
            let finding = Finding::new(Code::HairpinMissing, text, consequence, about());
            findings.push(finding.remedy(remedy).shown_by(show));
        }
    }
    let is_asked = isolated
        .iter()
        .filter_map(|port| view.peer(*port))
        .any(|far| asks(view, far.namespace, "portIsolation"));
    if let [first, _, ..] = isolated[..]
        && !is_asked
    {
        let names = isolated.iter().map(|port| view.name(port.namespace, port.link));
        let text = format!(
            "The ports {} of the bridge {} are isolated.",
            words::some(names, 6),
            link.name
        );
        let consequence = "Who is behind one of them does not reach who is behind another.";
        let about = isolated.iter().flat_map(|port| [Some(*port), view.peer(*port)]).flatten();
        let about = about.map(|end| view.thing(end)).collect();
        let name = net::quote(&view.name(first.namespace, first.link));
        let show = view.command(first.namespace, &format!("bridge -d link show dev {name}"));
        let remedy =
            view.command(first.namespace, &format!("bridge link set dev {name} isolated off"));
        let finding = Finding::new(Code::PortIsolated, text, consequence, about);
        findings.push(finding.remedy(remedy).shown_by(show));
    }
    findings
}

/// Which VLANs ports are in decides whom they reach, and is not read.
fn vlans(view: &View<'_>, bridge: End, link: &Link) -> Option<Finding> {
    if !explain::keeps_vlans_apart(link) || view.ports(bridge).is_empty() {
        return None;
    }
    let text = format!(
        "The bridge {} keeps VLANs apart, and podwire does not read which ones its ports are in.",
        view.device(bridge)
    );
    let consequence =
        "Whether who is behind one port reaches who is behind another cannot be told.";
    let finding = Finding::new(Code::Unreadable, text, consequence, vec![view.thing(bridge)]);
    Some(finding.shown_by(view.command(bridge.namespace, "bridge vlan show")))
}

/// Whether a pod's network is configured with a key that is true.
pub(super) fn asks(view: &View<'_>, at: usize, key: &str) -> bool {
    view.attachments(at).any(|(node, attachment)| {
        let files = node.configurations.iter().filter(|it| it.name == attachment.network);
        files.flat_map(explain::plugins).any(|plugin| plugin[key].as_bool() == Some(true))
    })
}

/// `br_netfilter` shows bridged packets to rules for IP packets, which kube-proxy needs and hardly
/// anybody else expects.
fn rules(view: &View<'_>, at: usize) -> Option<Finding> {
    let value = view.setting(at, SETTING)?.trim();
    let has_pods = view.ends(at).any(|(end, link)| {
        link.kind == "bridge"
            && view.ports(end).iter().any(|port| {
                view.peer(*port)
                    .is_some_and(|far| far.namespace != at && view.is_pod(far.namespace))
            })
    });
    if !has_pods {
        return None;
    }
    let rules = Rules::new(&view.namespace(at).dump.nft);
    let has_proxy = rules.has_chain("KUBE-SERVICES");
    let show = view.command(at, &format!("sysctl {SETTING}"));
    let about = vec![view.space(at)];
    if value == "0" && has_proxy {
        let text =
            format!("{SETTING} is 0 on {}, and kube-proxy has its rules there.", view.called(at));
        let consequence =
            "A pod that asks a service gets no answer if the answering pod is on the same bridge.";
        let finding = Finding::new(Code::BridgeRulesSkipped, text, consequence, about);
        let remedy = view.command(at, &format!("sysctl -w {SETTING}=1"));
        return Some(finding.remedy(remedy).shown_by(show));
    }
    let blocks = || {
        let effects = rules.effects(&[Hook::Forward], &Packet::default());
        effects.into_iter().any(|it| matches!(it.action, Action::Drop | Action::Reject))
    };
    if value != "0" && !has_proxy && blocks() {
        let text = format!(
            "{SETTING} is {value} on {}, where rules drop packets and no kube-proxy is.",
            view.called(at)
        );
        let consequence = "These rules also decide about packets between pods on one bridge.";
        let finding = Finding::new(Code::BridgeRulesApplied, text, consequence, about);
        let remedy = view.command(at, &format!("sysctl -w {SETTING}=0"));
        return Some(finding.remedy(remedy).shown_by(show));
    }
    None
}

const SETTING: &str = "net.bridge.bridge-nf-call-iptables";
