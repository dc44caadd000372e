//! `podwire explain --web`: who is answered, and the page in a real browser while its lab changes.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testbed::browser::{Browser, ENTER, RIGHT};
use testbed::{isolated, sh};

use crate::{assert_nothing_left, command, finish, podwire};

/// What is in focus, as a screen reader tells it.
const FOCUSED: &str = "document.activeElement.getAttribute('aria-label') ?? ''";

/// A page that is served.
struct Served {
    podwire: Child,
    port: u16,
    /// The part of its address that is by chance.
    token: String,
}

impl Served {
    fn start(arguments: &str) -> Self {
        let mut podwire = command(&format!("explain {arguments} --web")).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(podwire.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let Some(rest) = line.strip_prefix("http://127.0.0.1:") else {
            panic!("{line:?} {}", finish(podwire).stderr);
        };
        let (port, token) = rest.split_once('/').unwrap();
        let token = token.trim_end().strip_suffix('/').unwrap().to_owned();
        Self { podwire, port: port.parse().unwrap(), token }
    }

    fn own(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What is answered to a request; of events, the first.
    fn ask(&self, request: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(self.own()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        let mut stream = BufReader::new(stream);
        while !answer.contains("\ndata: ") && stream.read_line(&mut answer).unwrap() > 0 {}
        answer
    }

    /// Waits until the page says this.
    #[track_caller]
    fn wait_for_page(&self, said: &str) {
        let started = Instant::now();
        loop {
            let page = self.ask(&format!("GET /{}/", self.token), &self.own());
            if page.contains(said) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{said}: {page}");
            sleep(Duration::from_millis(50));
        }
    }

    /// Asks it to end; its exit code.
    fn end(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.podwire), signal).unwrap();
        self.podwire.wait().unwrap().code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.podwire.kill();
        let _ = self.podwire.wait();
    }
}

#[track_caller]
fn expect(answer: &str, status: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
}

#[test]
fn only_who_knows_the_address_is_answered() {
    isolated!();
    sh("ip link set lo up");
    podwire("lab up --pods 1").expect(0);
    let served = Served::start("pod/pod1");
    let (own, token) = (served.own(), &served.token);
    assert!(token.len() == 32, "{token}");
    let page = served.ask(&format!("GET /{token}/"), &own);
    expect(&page, 200);
    for said in ["cache-control: no-store", "frame-ancestors 'none'", "connect-src 'self'", "eth0"]
    {
        assert!(page.contains(said), "{said}");
    }
    expect(&served.ask(&format!("GET /{token}/"), &format!("localhost:{}", served.port)), 200);
    for host in ["rebound.example", "127.0.0.1", "127.0.0.1:1", &format!("{own}\r\nHost: {own}")] {
        let answer = served.ask(&format!("GET /{token}/"), host);
        assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains("eth0"), "{host}: {answer}");
    }
    expect(&served.ask("GET /rubbish", "rebound.example"), 403);
    for path in ["", &"0".repeat(32), &format!("{}/", "0".repeat(32)), &format!("{token}/x")] {
        expect(&served.ask(&format!("GET /{path}"), &own), 404);
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        expect(&served.ask(&format!("{method} /{token}/"), &own), 405);
    }
    // Who has another page than the one that there is hears so at once.
    let events = served.ask(&format!("GET /{token}/events/999"), &own);
    expect(&events, 200);
    assert!(events.contains("event: changed"), "{events}");
    // Nobody but this machine is listened to.
    let listening = sh("ss -Hltn");
    assert!(listening.contains(&own) && listening.lines().count() == 1, "{listening}");
    assert_eq!(served.end(Signal::INT), Some(130));
    podwire("lab down").expect(0);
    assert_nothing_left();
}

#[test]
fn a_snapshot_is_served_as_it_is() {
    isolated!();
    sh("ip link set lo up");
    podwire("lab up --pods 1").expect(0);
    let directory = testbed::directory();
    let file = directory.path().join("lab.json");
    podwire(&format!("snapshot {}", file.display())).expect(0);
    podwire("lab down").expect(0);
    let served = Served::start(&format!("pod/pod1 --from {}", file.display()));
    let page = served.ask(&format!("GET /{}/", served.token), &served.own());
    expect(&page, 200);
    assert!(page.contains("eth0") && !page.contains("<meta name=\"podwire-live\""), "{page}");
    expect(&served.ask(&format!("GET /{}/events/0", served.token), &served.own()), 404);
    assert_eq!(served.end(Signal::TERM), Some(143));
    podwire("explain pod/none --web").expect(4);
    podwire("explain --web -o svg").expect(2);
}

/// Whoever listens in a namespace keeps it alive, and with it the cable into it.
#[test]
fn what_is_looked_at_goes_all_the_same() {
    isolated!();
    sh("ip link set lo up
        ip netns add gone
        ip link add near type veth peer name far netns gone");
    let served = Served::start("netns/gone");
    // Its second page is written when its namespaces are listened to.
    sh("ip link set near up");
    served.wait_for_page("near (no carrier)");
    sh("ip netns delete gone");
    let started = Instant::now();
    while sh("ip -o link").contains("near") {
        assert!(started.elapsed() < Duration::from_secs(20), "it is kept alive");
        sleep(Duration::from_millis(50));
    }
    served.wait_for_page("there is no netns/gone");
    assert_eq!(served.end(Signal::INT), Some(130));
}

/// Processes that are not for this user to know come and go; those of the machine are outside the test's
/// user namespace.
#[test]
fn a_page_on_which_nothing_changes_stays() {
    isolated!();
    sh("ip link set lo up; ip netns add pod");
    let served = Served::start("netns/pod");
    let page = || {
        let answer = served.ask(&format!("GET /{}/", served.token), &served.own());
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let before = page();
    assert!(before.contains("processes of other users"), "{before}");
    sh("for i in 1 2 3; do sleep 8 >/dev/null 2>&1 & done");
    // What comes and goes again has it look.
    for _ in 0..12 {
        sh("for change in add del; do ip -n pod address $change 10.9.9.9/32 dev lo; done");
        sleep(Duration::from_millis(500));
    }
    let after = page();
    assert!(after == before, "{after}");
    assert_eq!(served.end(Signal::INT), Some(130));
}

#[test]
fn a_pod_appears_while_somebody_looks() {
    isolated!();
    sh("ip link set lo up");
    podwire("lab up --pods 2").expect(0);
    let served = Served::start("lab/default");
    let browser = Browser::start(env!("CARGO_TARGET_TMPDIR"));
    browser.go(&format!("http://{}/{}/", served.own(), served.token));
    browser.press("/");
    browser.press("pod1");
    browser.press(ENTER);
    let way = ["pod pod1", "device pod1, eth0", "cable between pod1 eth0", "bridge node1"];
    for (step, label) in way.into_iter().enumerate() {
        let focused = browser.text(FOCUSED);
        assert!(focused.starts_with(label), "step {step}: {focused:?} is not {label:?}");
        browser.press(RIGHT);
    }
    browser.press(RIGHT);
    let focused = browser.text(FOCUSED);
    assert!(focused.starts_with("device pod2, eth0"), "{focused}");
    browser.picture("web-before");

    let has = |pod: &str| {
        let labels = "[...document.querySelectorAll('.view:not([hidden]) [aria-label]')]";
        format!("{labels}.some(it => it.ariaLabel.includes('{pod}, eth0'))")
    };
    assert_eq!(browser.value(&has("pod3")), json!(false));
    podwire("lab pod add").expect(0);
    browser.wait_for(&has("pod3"));
    assert_eq!(browser.text(FOCUSED), focused);
    browser.picture("web-after");

    // It goes again, although it was listened to.
    podwire("lab pod rm pod3").expect(0);
    browser.wait_for(&format!("!{}", has("pod3")));
    assert_eq!(browser.text(FOCUSED), focused);

    // What netlink does not tell a timer sees; the page says why it shows something else.
    podwire("lab down").expect(0);
    browser.wait_for(
        "document.getElementById('said').textContent.includes('there is no lab/default')",
    );
    assert_eq!(browser.value(&has("pod1")), json!(false));
    browser.picture("web-gone");
    assert_eq!(browser.complaints(), [""; 0]);
    assert_eq!(served.end(Signal::INT), Some(130));
    browser.wait_for("document.documentElement.dataset.news === 'none'");
    browser.picture("web-ended");
    assert_nothing_left();
}
