//! Pods as real runtimes make them, with the reference's plugins and with podwire's.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

/// Makes two tests of each scenario: with the reference's plugins, and with podwire's.
macro_rules! for_each_maker {
    ($($scenario:ident),+) => { $(mod $scenario {
        #[test]
        fn by_the_reference() {
            super::$scenario(&e2e::machine!(e2e::By::Reference));
        }

        #[test]
        fn by_podwire() {
            super::$scenario(&e2e::machine!(e2e::By::Podwire));
        }
    })+ };
}

mod ctr;
mod podman;
mod pods;
mod upgrade;
