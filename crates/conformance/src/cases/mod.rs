//! The cases, by what they are about.

mod attachment;
mod bridge;
mod check;
mod gc_and_status;
mod host_local;
mod lifecycle;
mod loopback;
mod masquerade;
mod portmap;
mod protocol;
mod ptp;
mod static_addresses;

use crate::case::{Case, Instance};

/// All of them.
const GROUPS: &[&[Case]] = &[
    protocol::environment::CASES,
    protocol::configuration::CASES,
    protocol::version::CASES,
    attachment::CASES,
    lifecycle::CASES,
    masquerade::CASES,
    check::CASES,
    bridge::CASES,
    ptp::CASES,
    loopback::CASES,
    host_local::addresses::CASES,
    host_local::files::CASES,
    host_local::configuration::CASES,
    static_addresses::CASES,
    gc_and_status::CASES,
    portmap::packets::CASES,
    portmap::lifecycle::CASES,
    portmap::configuration::CASES,
];

/// The plugins that give pods an interface.
const MAIN: &[&str] = &["bridge", "ptp"];

/// Every case for each of its subjects.
pub fn all() -> impl Iterator<Item = Instance> {
    let each =
        |case: &'static Case| case.subjects.iter().map(move |subject| Instance { case, subject });
    GROUPS.iter().flat_map(|group| group.iter()).flat_map(each)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::directory::PLUGINS;

    #[test]
    fn every_case_has_a_name_of_its_own_a_sentence_and_a_source() {
        let mut names = BTreeSet::new();
        for instance in all() {
            let case = instance.case;
            assert!(names.insert(instance.name()), "{} is there twice", instance.name());
            assert!(!case.checks.is_empty() && !case.source.is_empty(), "{}", case.what);
            assert!(!case.checks.ends_with('.'), "{}", case.what);
            for plugin in instance.needs() {
                assert!(PLUGINS.contains(&plugin), "{} needs {plugin}", case.what);
            }
            for known in case.known {
                assert!(!known.shows.is_empty() && !known.because.is_empty(), "{}", case.what);
                // The page lists what is known, each time it is known.
                let page = include_str!("../../../../docs/conformance.md");
                assert!(page.contains(known.because), "docs/conformance.md: {}", known.because);
                assert!(known.of.is_none_or(|of| case.subjects.contains(&of)), "{}", case.what);
            }
        }
    }
}
