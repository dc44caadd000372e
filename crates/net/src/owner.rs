//! The marks by which podwire knows what it made, and who of podwire made it.
//!
//! One mark has one writer. What cannot carry a mark (an FDB entry, a sysctl) belongs to the
//! link that it is on.

/// `rtm_protocol` of routes, rules and neighbours that the agent writes.
pub const PROTOCOL: u8 = 112;
/// The agent's own routing table.
pub const TABLE: u32 = 112;
/// The nftables table of the agent.
pub const AGENT_NFT_TABLE: &str = "podwire";
/// The nftables table of the plugins, one a family (`inet`, `bridge`).
pub const PLUGIN_NFT_TABLE: &str = "podwire_cni";
