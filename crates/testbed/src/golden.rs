//! Answers that are held against files, with what differs from run to run made equal.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Holds a text against its file, which `PODWIRE_BLESS=1` writes anew.
#[track_caller]
pub fn hold(file: impl AsRef<Path>, text: &str) {
    let file = file.as_ref();
    if env::var_os("PODWIRE_BLESS").is_some() {
        fs::write(file, text).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    assert!(
        expected == text,
        "{} says otherwise (PODWIRE_BLESS=1 writes it anew):\n{text}",
        file.display()
    );
}

/// What `podwire snapshot` wrote, with what differs from run to run made equal. Of its nodes and
/// namespaces only those are kept that the test is about: where it runs is none of its business.
pub fn snapshot(text: &str, is_kept: impl Fn(&Value) -> bool) -> Value {
    let mut machine: Value = serde_json::from_str(text).unwrap();
    machine["gaps"] = json!([]);
    machine["host"] = json!({ "name": "machine", "kernel": "6", "taken": 0 });
    machine["nodes"].as_array_mut().unwrap().retain(&is_kept);
    let namespaces = machine["namespaces"].as_array_mut().unwrap();
    namespaces.retain(is_kept);
    // Names are given in the order of namespaces and devices, and not in that of tables, which the
    // kernel lists in any order.
    let mut seed = String::new();
    for namespace in namespaces {
        let neighbours = namespace["dump"]["neighbours"].as_array_mut().unwrap();
        // What a bridge has learned by now, and who has been asked for, is a matter of time.
        neighbours.retain(|it| it["permanent"] == true || it["noarp"] == true);
        give_bridges_their_first_ports_address(&mut namespace["dump"]["links"]);
        if let Some(conntrack) = namespace.get_mut("conntrack") {
            *conntrack = json!({ "count": 0, "max": 1 });
        }
        seed += &format!("{} {} ", namespace["id"], namespace["dump"]["links"]);
    }
    let all = same(&format!("{seed}\n{machine}"));
    serde_json::from_str(all.split_once('\n').unwrap().1).unwrap()
}

/// A bridge that was given no hardware address has the smallest of its ports', and which port that is
/// is chance where the ports' are. It gets the first port's.
fn give_bridges_their_first_ports_address(links: &mut Value) {
    let links = links.as_object_mut().unwrap();
    let all: Vec<Value> = links.values().cloned().collect();
    for bridge in links.values_mut().filter(|it| it["info_kind"] == "bridge") {
        let mut ports = all.iter().filter(|it| it["master"] == bridge["ifindex"]);
        let Some(first) = ports.clone().next() else { continue };
        if ports.any(|it| it["address"] == bridge["address"]) {
            bridge["address"] = first["address"].clone();
        }
    }
}

/// Numbers of namespaces, hardware addresses and names by chance, in the order in which they come.
pub fn same(text: &str) -> String {
    let text = numbered(
        text,
        |char| char.is_ascii_digit(),
        |word| word.len() == 10 && word.starts_with("4026"),
        |number| format!("{}", 4_026_530_000 + number),
    );
    let text = numbered(
        &text,
        |char| char.is_ascii_hexdigit() || char == ':',
        |word| word.len() == 17 && word.split(':').count() == 6,
        |number| format!("02:00:00:00:00:{number:02x}"),
    );
    // A name as the Go plugins give it.
    numbered(
        &text,
        |char| char.is_ascii_alphanumeric(),
        |word| word.len() == 12 && word.starts_with("veth") && is_hex(&word[4..]),
        |number| format!("veth{number:08x}"),
    )
}

/// Identifiers that podman chose by chance, and names that were made of them.
pub fn same_containers(text: &str) -> String {
    let text = numbered(
        text,
        |char| char.is_ascii_alphanumeric() || char == '-',
        |word| word.starts_with("netns-"),
        |number| format!("netns-{number:08x}-0000-0000-0000-000000000000"),
    );
    // The iptables chains of the Go plugins' bridge and portmap, and containers themselves.
    [24, 21, 64].into_iter().fold(text, |text, length| {
        numbered(
            &text,
            |char| char.is_ascii_alphanumeric(),
            |word| word.len() == length && is_hex(word),
            |number| format!("{number:0length$x}"),
        )
    })
}

fn is_hex(text: &str) -> bool {
    text.chars().all(|it| it.is_ascii_hexdigit())
}

/// The text with each different word of a kind replaced by a number of its own.
fn numbered(
    text: &str,
    is_part: impl Fn(char) -> bool,
    is_word: impl Fn(&str) -> bool,
    name: impl Fn(usize) -> String,
) -> String {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut result = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|char| !is_part(char)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if is_word(word) {
            let number = known.len() + 1;
            result += known.entry(word.to_owned()).or_insert_with(|| name(number));
        } else {
            result += word;
        }
        let next = after.chars().next().map_or(0, char::len_utf8);
        result += &after[..next];
        rest = &after[next..];
    }
    result
}
