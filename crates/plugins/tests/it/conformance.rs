//! The suite that any plugin directory can be held against, held against ours.

use conformance::{Directory, Outcome, Report};

use crate::harness::install;

/// What this program has to be called with to come here again, in a namespace of a case.
const AGAIN: &[&str] =
    &["--exact", "conformance::podwire_conforms", "--nocapture", "--test-threads", "1"];

#[test]
fn podwire_conforms() {
    conformance::become_case();
    conformance::check_machine(AGAIN).expect("cases can run here");
    let home = testbed::directory();
    install(home.path());
    let directory = Directory::open(home.path()).expect("the plugins say what they are");
    let finished = conformance::run(&directory, "", AGAIN);
    let report = Report { directory, finished };
    assert!(report.is_good(), "{report}");
    // No case is left out but for want of a plugin that we do not have.
    for finished in &report.finished {
        if let Outcome::NotApplicable(why) = &finished.outcome {
            let missing = why.strip_suffix(" is not in the directory");
            assert!(missing.is_some_and(|name| !plugins::NAMES.contains(&name)), "{why}");
        }
    }
    println!("{}", report.sum());
}
