//! The marks by which podwire knows what it made, and who of podwire made it.
//!
//! One mark has one writer. What cannot carry a mark (an FDB entry, a sysctl) belongs to the
//! link that it is on.

/// `rtm_protocol` of routes, rules and neighbours that the agent writes.
pub const PROTOCOL: u8 = 112;
/// The agent's own routing table.
pub const TABLE: u32 = 112;
/// The bits of a packet's mark by which the agent has it leave by the main table. All three of
/// them: others who use one of them (Calico takes all above bit 16) do not mean this.
pub const DIRECT_MARK: u32 = 0x0070_0000;
/// The nftables table of the agent.
pub const AGENT_NFT_TABLE: &str = "podwire";
/// The nftables table of the plugins, one a family (`inet`, `bridge`).
pub const PLUGIN_NFT_TABLE: &str = "podwire_cni";
