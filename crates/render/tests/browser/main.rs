//! The page in a real browser: from a file without a network, by keyboard, in light and dark, and
//! served, while what it shows changes. Pictures of each view are kept in the target directory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../src/tests/machines.rs"]
mod machines;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex};

use machines::{cluster, explanations, hostile, named, real_node};
use render::{Format, View, write};
use serde_json::json;
use testbed::browser::{Browser, DOWN, ENTER, ESCAPE, LEFT, RIGHT, TAB};
use topology::Machine;

/// What is in focus, as a screen reader tells it.
const FOCUSED: &str = "document.activeElement.getAttribute('aria-label') ?? ''";

fn browser() -> Browser {
    Browser::start(env!("CARGO_TARGET_TMPDIR"))
}

fn page(machine: &Machine) -> String {
    let said = explanations(machine);
    write(Format::Html, &View { explanations: &said, ..View::of(machine) })
}

fn three_nodes() -> Machine {
    named(cluster(3, &["br0"]))
}

#[test]
fn a_page_needs_no_network_and_has_nothing_to_complain_about() {
    let browser = browser();
    browser.open(&page(&three_nodes()));
    browser.picture("three-nodes");
    assert_eq!(browser.complaints(), [""; 0]);
    let elsewhere: Vec<String> =
        browser.requests().into_iter().filter(|url| !url.starts_with("file:///")).collect();
    assert_eq!(elsewhere, [""; 0]);
    // Everything that can be chosen says what it is.
    let nameless =
        "[...document.querySelectorAll('[tabindex]')].filter(it => !it.ariaLabel).length";
    assert_eq!(browser.value(nameless), json!(0));
    let twice = "(ids => ids.length - new Set(ids).size)([...document.querySelectorAll('[id]')].map(it => it.id))";
    assert_eq!(browser.value(twice), json!(0));
    is_light_by_day_and_dark_by_night(&browser);
}

fn is_light_by_day_and_dark_by_night(browser: &Browser) {
    let luminance = "(() => {
        const of = (element, name) => getComputedStyle(document.querySelector(element))[name];
        const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).reduce((sum, it) => sum + Number(it), 0) / 765;
        return [light(of('body', 'backgroundColor')), light(of('body', 'color')),
            light(of('.scene .pod > rect', 'fill')), light(of('.scene .name', 'fill'))];
    })()";
    let measure = |scheme: &str| -> Vec<f64> {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        browser.command("Emulation.setEmulatedMedia", &json!({"features": features}));
        browser.picture(scheme);
        serde_json::from_value(browser.value(luminance)).unwrap()
    };
    let [back, text, pod, name] = measure("light")[..] else { panic!("four colours") };
    assert!(back > 0.9 && text < 0.3 && pod > 0.8 && name < 0.3, "{back} {text} {pod} {name}");
    let [back, text, pod, name] = measure("dark")[..] else { panic!("four colours") };
    assert!(back < 0.2 && text > 0.7 && pod < 0.3 && name > 0.7, "{back} {text} {pod} {name}");
}

#[test]
fn the_keyboard_leads_from_a_pod_to_the_other_pod() {
    let browser = browser();
    browser.open(&page(&three_nodes()));
    browser.press("/");
    browser.press("pod1");
    browser.press(ENTER);
    assert_eq!(browser.text(FOCUSED), "pod node1, pod1; default via 10.244.1.1");
    let way = [
        (RIGHT, "device node1, pod1, eth0"),
        (RIGHT, "cable between node1 pod1 eth0 and node1 host network cni0, veth0a1b2c3d001"),
        (RIGHT, "bridge node1, host network, cni0"),
        (RIGHT, "way inside the node between node1 host network cni0"),
        (RIGHT, "node1, host network, routes"),
        (RIGHT, "way inside the node between node1 host network eth0"),
        (DOWN, "way inside the node between node1 host network podwire0"),
        (RIGHT, "tunnel end node1, host network, podwire0"),
        (RIGHT, "tunnel between node1 host network podwire0 and node2 host network podwire0"),
        (RIGHT, "tunnel end node2, host network, podwire0"),
        (RIGHT, "way inside the node between node2 host network podwire0"),
        (RIGHT, "node2, host network, routes"),
        (RIGHT, "way inside the node between node2 host network cni0"),
        (RIGHT, "bridge node2, host network, cni0"),
        (RIGHT, "cable between node2 pod2 eth0 and node2 host network cni0"),
        (RIGHT, "device node2, pod2, eth0"),
        (LEFT, "cable between node2 pod2 eth0 and node2 host network cni0"),
    ];
    for (step, (key, label)) in way.iter().enumerate() {
        browser.press(key);
        let focused = browser.text(FOCUSED);
        assert!(focused.starts_with(label), "step {step}: {focused:?} is not {label:?}");
        if label.starts_with("tunnel between") {
            browser.picture("walk-tunnel");
        }
    }
    // What is said is about the two ends of the cable.
    let said = browser.text("[...document.querySelectorAll('#said li:not([hidden])')].map(it => it.firstChild.data).join('|')");
    assert_eq!(said, "veth0a1b2c3d002 of node2 has index 5.|eth0 of pod2 has index 2.");
    browser.press(ESCAPE);
    assert_eq!(browser.value("document.querySelectorAll('#said li[hidden]').length"), json!(0));
    // A picture is one stop of the tab key.
    assert_eq!(
        browser.value("document.querySelectorAll('.view:not([hidden]) [tabindex=\"0\"]').length"),
        json!(1)
    );
}

#[test]
fn the_tab_key_and_the_mouse_choose_too() {
    let browser = browser();
    browser.open(&page(&three_nodes()));
    // The search, four pictures, and then what is in the first of them.
    browser.press(&TAB.repeat(6));
    assert_eq!(browser.text(FOCUSED), "node node1");
    browser.click("#machine--wire-link-6-2 .hit");
    assert!(browser.text(FOCUSED).starts_with("cable between node1 pod1 eth0"));
    browser.click("#commands");
    let shown = "getComputedStyle(document.querySelector('#said li:not([hidden]) code')).display";
    assert_eq!(browser.text(shown), "block");
    browser.picture("commands");
    browser.click("#tabs button[data-view=node-node2]");
    assert_eq!(browser.value("document.getElementById('view-machine').hidden"), json!(true));
    assert_eq!(browser.value("document.getElementById('view-node-node2').hidden"), json!(false));
    browser.picture("one-node");
}

#[test]
fn a_pod_among_hundreds_is_found_by_its_address() {
    let browser = browser();
    browser.open(&page(&real_node(200, 3)));
    browser.picture("node-of-200");
    browser.press("/");
    browser.press("10.244.1.150 pod");
    browser.wait_for("document.querySelectorAll('#hits li').length > 0");
    browser.picture("search");
    assert!(browser.text("document.querySelector('#hits li').textContent").contains("pod149"));
    browser.press(ENTER);
    assert!(browser.text(FOCUSED).contains("pod149"), "{}", browser.text(FOCUSED));
    let title = "document.querySelector('.view:not([hidden]) title').textContent";
    assert_eq!(browser.text(title), "pod149 on node1");
    browser.picture("pod");
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn names_do_not_run() {
    let browser = browser();
    browser.open(&page(&hostile()));
    browser.picture("hostile");
    assert_eq!(browser.value("document.scripts.length"), json!(2));
    let handlers = "[...document.querySelectorAll('*')].filter(it => [...it.attributes].some(a => a.name.startsWith('on'))).length";
    assert_eq!(browser.value(handlers), json!(0));
    browser.press("/");
    browser.press("script");
    browser.wait_for("document.querySelectorAll('#hits li').length > 0");
    browser.press(ENTER);
    assert!(browser.text(FOCUSED).contains("<script>x()</s>"));
    assert_eq!(browser.complaints(), [""; 0]);
}

/// A server of one page, and of the event that there is a newer one.
fn serve(page: Arc<Mutex<String>>, changed: Arc<(Mutex<bool>, Condvar)>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (page, changed) = (Arc::clone(&page), Arc::clone(&changed));
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head = lines.next().unwrap_or(Ok(String::new())).unwrap_or_default();
                if head.starts_with("GET /events ") {
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
                    let (flag, bell) = &*changed;
                    drop(bell.wait_while(flag.lock().unwrap(), |changed| !*changed).unwrap());
                    let _ = stream.write_all(b"event: changed\ndata: 1\n\n");
                    // The browser ends the connection.
                    lines.for_each(drop);
                } else {
                    let page = page.lock().unwrap();
                    let kind = "Content-Type: text/html; charset=utf-8";
                    let length = page.len();
                    let _ = write!(
                        stream,
                        "HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
                    );
                }
            });
        }
    });
    port
}

#[test]
fn a_served_page_is_renewed_and_keeps_its_focus() {
    let live = |machine: &Machine| {
        let said = explanations(machine);
        let live = Some("events".to_owned());
        write(Format::Html, &View { explanations: &said, live, ..View::of(machine) })
    };
    let mut machine = three_nodes();
    let page = Arc::new(Mutex::new(live(&machine)));
    let changed = Arc::new((Mutex::new(false), Condvar::new()));
    let port = serve(Arc::clone(&page), Arc::clone(&changed));
    let browser = browser();
    browser.go(&format!("http://127.0.0.1:{port}/"));
    browser.click("#machine--wire-link-6-2 .hit");
    assert!(browser.text(FOCUSED).starts_with("cable between node1 pod1 eth0"));
    assert!(!browser.text(FOCUSED).contains("carries nothing"));

    let cable = machine.namespaces[5].dump.links.get_mut(&2).unwrap();
    cable.up = false;
    *page.lock().unwrap() = live(&machine);
    *changed.0.lock().unwrap() = true;
    changed.1.notify_all();
    browser.wait_for(&format!("({FOCUSED}).endsWith('carries nothing')"));
    assert!(browser.text(FOCUSED).starts_with("cable between node1 pod1 eth0"));
    browser.picture("renewed");
    let elsewhere = format!("http://127.0.0.1:{port}/");
    let requests = browser.requests();
    assert!(requests.iter().all(|url| url.starts_with(&elsewhere)), "{requests:?}");
}
