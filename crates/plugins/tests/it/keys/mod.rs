//! What each key of the bridge's configuration does, and of the keys that ptp has too, seen from
//! outside. What the reference's version knows, its plugins show first.

mod bridge;
mod gateway;
mod masquerade;
mod plain;
mod pod;
mod spoof_check;

use crate::harness::By;

pub(crate) const BOTH: [By; 2] = [By::Reference, By::Podwire];
const V4: &str = "10.1.2.0/24";
const V6: &str = "2001:db8:1::/64";
