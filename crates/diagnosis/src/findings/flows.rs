//! Flows that go on to where they went first, though nobody is there any more.

use topology::{End, Tracked};

use crate::finding::{Code, Finding};
use crate::view::View;

pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    // Who was not looked at may have the address.
    if !view.machine.gaps.is_empty() {
        return Vec::new();
    }
    let of = |at| view.namespace(at).tracked.iter().filter_map(move |flow| stale(view, at, flow));
    view.all().flat_map(|(at, _)| of(at)).collect()
}

/// A flow to a pod that is gone: to an address of a network on one of the namespace's own bridges that
/// nobody on it has.
fn stale(view: &View<'_>, at: usize, flow: &Tracked) -> Option<Finding> {
    let Tracked { from, to, led_to } = flow;
    let is_its = |(bridge, link): &(End, &topology::dump::Link)| {
        let mut own = view.addresses(*bridge);
        link.kind == "bridge" && own.any(|it| it.address.contains(&led_to.ip()))
    };
    let (bridge, _) = view.ends(at).find(is_its)?;
    // Beyond a port that is no cable in sight may be anybody.
    let may_have = |host: &Option<End>| host.is_none_or(|it| view.owns(it.namespace, led_to.ip()));
    if view.segment(bridge).iter().any(may_have) {
        return None;
    }
    let text = format!(
        "{} leads what {from} sends to {to} (UDP) to {}, which nobody on {} has: it keeps to where the flow went first (conntrack).",
        view.called(at),
        led_to.ip(),
        view.name(at, bridge.link),
    );
    let consequence = "Who goes on sending so gets no answer; who starts anew, from another port of its own, is led by today's rules.";
    let finding =
        Finding::new(Code::FlowStale, text, consequence, vec![view.space(at), view.thing(bridge)]);
    let (ends, gone) =
        (format!("--orig-dst {} --orig-port-dst {}", to.ip(), to.port()), led_to.ip());
    let command = |verb: &str| {
        view.command(at, &format!("conntrack {verb} -p udp {ends} --reply-src {gone}"))
    };
    Some(finding.remedy(command("-D")).shown_by(command("-L")))
}
