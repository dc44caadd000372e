//! The page of a report in a real browser.

use serde_json::json;
use testbed::browser::{Browser, ENTER, TAB};

use super::*;

/// How light a background and a text are, from 0 to 1.
const LIGHT: &str = "(() => {
    const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).reduce((sum, it) => sum + Number(it), 0) / 765;
    const of = (element, name) => light(getComputedStyle(document.querySelector(element))[name]);
    return [of('body', 'backgroundColor'), of('body', 'color'), of('article', 'backgroundColor'),
        of('article code', 'color')];
})()";

/// Whether an element is on the screen.
const IS_SEEN: &str = "(() => {
    const place = document.querySelector('#cause-1').getBoundingClientRect();
    return place.top >= 0 && place.top < innerHeight;
})()";

#[test]
fn the_page_is_read_without_a_network_and_by_keyboard() {
    isolated!();
    podwire("lab up --nodes 3 --pods 2").expect(0);
    sh("ip -n pod3 link set eth0 down");
    let directory = testbed::directory();
    let file = directory.path().join("report.html");
    verify(&format!("lab/default -O {}", file.display())).expect(1);
    podwire("lab down").expect(0);
    let browser = Browser::start(env!("CARGO_TARGET_TMPDIR"));
    browser.show(&fs::read_to_string(&file).unwrap());
    for (scheme, is_light) in [("light", true), ("dark", false)] {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        browser.command("Emulation.setEmulatedMedia", &json!({ "features": features }));
        browser.picture(&format!("verify-{scheme}"));
        let light: Vec<f64> = serde_json::from_value(browser.value(LIGHT)).unwrap();
        for (back, text) in [(light[0], light[1]), (light[2], light[3])] {
            assert!(if is_light { back > text + 0.6 } else { text > back + 0.6 }, "{light:?}");
        }
    }
    // The causes are there without a click, as text that nothing cuts off.
    let cause = browser.text("document.querySelector('#cause-1').innerText");
    for said in ["Cause 1 all from and to pod3", "seen: ", "is down", "podwire explain pod/pod3"] {
        assert!(cause.contains(said), "{said}: {cause}");
    }
    let wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
    assert_eq!(browser.value(wide), json!(false));
    // By keyboard: the pairs open, and lead to their cause.
    let focused = "document.activeElement.innerText.split('\\n')[0]";
    let reach = |wanted: &str| {
        for _ in 0..20 {
            browser.press(TAB);
            if browser.text(focused).contains(wanted) {
                return;
            }
        }
        panic!("{wanted} is not reached: {}", browser.text(focused));
    };
    reach("pairs that did not pass");
    assert_eq!(browser.value("document.querySelector('details').open"), json!(false));
    browser.press(ENTER);
    browser.wait_for("document.querySelector('details').open");
    reach("cause 1");
    browser.picture("verify-pairs");
    browser.press(ENTER);
    browser.wait_for("location.hash === '#cause-1'");
    browser.wait_for(IS_SEEN);
    browser.picture("verify-cause");
    assert_eq!(browser.complaints(), [""; 0]);
    let elsewhere: Vec<String> =
        browser.requests().into_iter().filter(|url| !url.starts_with("file:///")).collect();
    assert_eq!(elsewhere, [""; 0]);
}
