//! What files say of a pod: which addresses are reserved for it, and what asked for its network.

use serde_json::Value;
use topology::{Configuration, Node, Reservations};

use crate::Thing;
use crate::audit;
use crate::explanation::Sentence;
use crate::view::View;
use crate::words;

/// The reservations of a namespace's attachments.
pub(super) fn addresses(view: &View<'_>, at: usize) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let mut told: Vec<&str> = Vec::new();
    for (node, attachment) in view.attachments(at) {
        if !told.contains(&attachment.container_id.as_str()) {
            told.push(&attachment.container_id);
            sentences.extend(held(node, &attachment.container_id));
        }
    }
    if sentences.is_empty()
        && let Some(home) = view.home(at)
        && let Some(node) = view.node(at).or_else(|| view.node(home))
    {
        // Without a runtime's notes, the addresses tell.
        for reservations in &node.reservations {
            let own = view.own(at).map(|it| it.address.addr());
            let held =
                own.filter_map(|own| reservations.entries.iter().find(|it| it.address == own));
            sentences.extend(held.map(|it| entry(node, reservations, it)));
        }
    }
    sentences
}

/// What a container has reserved, and how it was chosen.
pub(super) fn held(node: &Node, id: &str) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    for reservations in &node.reservations {
        let held: Vec<_> = reservations.entries.iter().filter(|it| it.container_id == id).collect();
        if held.is_empty() {
            continue;
        }
        sentences.extend(held.into_iter().map(|it| entry(node, reservations, it)));
        sentences.extend(network(node, reservations));
    }
    sentences
}

fn entry(node: &Node, reservations: &Reservations, it: &topology::Reservation) -> Sentence {
    let file = reservations.directory.join(it.address.to_string());
    let file = file.display();
    let device = match it.ifname.is_empty() {
        true => String::new(),
        false => format!(" and its device {}", it.ifname),
    };
    let text = format!(
        "The plugin host-local has reserved {} for it: the file {file} names the container{device}, \
         and while it is there nobody else is given the address.",
        it.address
    );
    let command = format!("cat {}", net::quote(&file.to_string()));
    Sentence::new(text, vec![Thing::Node(node.name.clone())]).shown_by(command)
}

/// From this size on a number says nothing.
const MANY: u128 = 1 << 32;

/// The state of one network's addresses.
pub(super) fn network(node: &Node, reservations: &Reservations) -> Vec<Sentence> {
    let about = || vec![Thing::Node(node.name.clone())];
    let directory = reservations.directory.display().to_string();
    let count = reservations.entries.len();
    let mut text = format!(
        "{} of the network {} {} in {directory}",
        words::count(count, "address"),
        reservations.network,
        if count == 1 { "is reserved, by a file" } else { "are reserved, by one file each" },
    );
    if !reservations.subnets.is_empty() {
        let sizes = reservations.subnets.iter().map(|subnet| match audit::usable(*subnet) {
            size @ ..MANY => format!("{subnet} ({size} addresses)"),
            _ => format!("{subnet} (more addresses than there will ever be pods)"),
        });
        text += &format!("; the configuration lets it use {}", words::list(sizes));
    }
    let show = format!("ls {}", net::quote(&directory));
    let mut sentences = vec![Sentence::new(text + ".", about()).shown_by(show)];
    for (set, last) in &reservations.last {
        let file = reservations.directory.join(format!("last_reserved_ip.{set}"));
        let file = file.display().to_string();
        let text = format!(
            "{last} was given last ({file}): the next pod gets the next free address after it, so \
             that an address rests before it is given again."
        );
        let show = format!("cat {}", net::quote(&file));
        sentences.push(Sentence::new(text, about()).shown_by(show));
    }
    sentences
}

/// What asked for the networks of a namespace.
pub(super) fn configuration(view: &View<'_>, at: usize) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    let mut told: Vec<&str> = Vec::new();
    for (node, attachment) in view.attachments(at) {
        if told.contains(&attachment.network.as_str()) {
            continue;
        }
        told.push(&attachment.network);
        let files: Vec<&Configuration> =
            node.configurations.iter().filter(|it| it.name == attachment.network).collect();
        for file in &files {
            sentences.extend(said(node, file));
        }
        if files.is_empty() && !node.configurations.is_empty() {
            let text = format!(
                "No file that was read configures the network {} by now.",
                attachment.network
            );
            sentences.push(Sentence::new(text, vec![Thing::Node(node.name.clone())]));
        }
    }
    sentences
}

/// A configuration's plugins: those of a list, or itself.
pub(crate) fn plugins(configuration: &Configuration) -> Vec<&Value> {
    match configuration.content.get("plugins").and_then(Value::as_array) {
        Some(plugins) => plugins.iter().collect(),
        None => vec![&configuration.content],
    }
}

/// What a file asks for.
pub(super) fn said(node: &Node, configuration: &Configuration) -> Vec<Sentence> {
    let about = || vec![Thing::Node(node.name.clone())];
    let file = configuration.file.display().to_string();
    let show = format!("cat {}", net::quote(&file));
    let plugins = plugins(configuration);
    let kind = |plugin: &Value| plugin["type"].as_str().unwrap_or("?").to_owned();
    let kinds: Vec<String> = plugins.iter().map(|plugin| kind(plugin)).collect();
    let text = format!(
        "{file} asks for the network {}: when a pod comes, the runtime calls the {} {}.",
        configuration.name,
        if kinds.len() == 1 { "plugin" } else { "plugins, in this order," },
        words::some(kinds, 6)
    );
    let mut sentences = vec![Sentence::new(text, about()).shown_by(show.clone())];
    for plugin in plugins.into_iter().take(6) {
        let wishes = wishes(plugin);
        if !wishes.is_empty() {
            let text = format!("It tells {}: {}.", kind(plugin), wishes.join("; "));
            sentences.push(Sentence::new(text, about()).shown_by(show.clone()));
        }
    }
    sentences
}

/// What the keys of a plugin's configuration mean.
fn wishes(plugin: &Value) -> Vec<String> {
    let text = |key: &str| plugin[key].as_str().filter(|text| !text.is_empty());
    let is = |key: &str| plugin[key].as_bool() == Some(true);
    let mut wishes = Vec::new();
    if let Some(bridge) = text("bridge") {
        wishes.push(format!("join pods by the bridge {bridge} (bridge)"));
    }
    if let Some(master) = text("master") {
        wishes.push(format!("stand on {master} (master)"));
    }
    if is("isGateway") || is("isDefaultGateway") {
        wishes.push("give the bridge the gateway's address (isGateway)".to_owned());
    }
    if is("isDefaultGateway") {
        wishes.push("make that the pods' default route (isDefaultGateway)".to_owned());
    }
    if is("ipMasq") {
        wishes.push("masquerade what leaves the pods' subnet (ipMasq)".to_owned());
    }
    if is("hairpinMode") {
        wishes.push("let frames leave by the port they came in by (hairpinMode)".to_owned());
    }
    if is("promiscMode") {
        wishes.push("let the bridge take every frame (promiscMode)".to_owned());
    }
    if let Some(mtu) = plugin["mtu"].as_u64().filter(|mtu| *mtu > 0) {
        wishes.push(format!("take packets of up to {mtu} bytes (mtu)"));
    }
    let ipam = &plugin["ipam"];
    if let Some(kind) = ipam["type"].as_str() {
        let ranges = ipam["ranges"].as_array().into_iter().flatten();
        let ranges = ranges.flat_map(|set| set.as_array().into_iter().flatten());
        let subnets: Vec<&str> =
            ranges.chain([ipam]).filter_map(|range| range["subnet"].as_str()).collect();
        wishes.push(match subnets.is_empty() {
            true => format!("ask {kind} for addresses (ipam)"),
            false => format!("ask {kind} for addresses of {} (ipam)", words::some(subnets, 4)),
        });
        let routes = ipam["routes"].as_array().into_iter().flatten();
        let routes: Vec<&str> = routes.filter_map(|route| route["dst"].as_str()).collect();
        if !routes.is_empty() {
            wishes.push(format!("give the pod routes to {} (ipam.routes)", words::some(routes, 4)));
        }
    }
    if plugin["capabilities"]["portMappings"].as_bool() == Some(true) {
        wishes.push("open ports of the node for pods that ask for it (portMappings)".to_owned());
    }
    wishes
}
