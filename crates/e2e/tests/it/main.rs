//! Pods as real runtimes make them, with the reference's plugins and with podwire's.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

mod pods;
