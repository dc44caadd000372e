//! Numbers of the kernel's nftables interface, by the names that they have there without their
//! prefix: include/uapi/linux/netfilter/nf_tables.h unless a module says otherwise.

/// `NFNL_SUBSYS_NFTABLES` (include/uapi/linux/netfilter/nfnetlink.h).
pub(super) const SUBSYSTEM: u16 = 10;
/// `NFNLGRP_NFTABLES` (the same file): the multicast group of all changes.
pub(crate) const GROUP: u32 = 7;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`: around a transaction.
pub(super) const BATCH_BEGIN: u16 = 16;
pub(super) const BATCH_END: u16 = 17;

/// `NFT_MSG_*`: the types of messages.
pub(super) mod msg {
    pub(crate) const NEWTABLE: u16 = 0;
    pub(crate) const GETTABLE: u16 = 1;
    pub(crate) const DELTABLE: u16 = 2;
    pub(crate) const NEWCHAIN: u16 = 3;
    pub(crate) const GETCHAIN: u16 = 4;
    pub(crate) const DELCHAIN: u16 = 5;
    pub(crate) const NEWRULE: u16 = 6;
    pub(crate) const GETRULE: u16 = 7;
    pub(crate) const DELRULE: u16 = 8;
    pub(crate) const NEWSET: u16 = 9;
    pub(crate) const GETSET: u16 = 10;
    pub(crate) const DELSET: u16 = 11;
    pub(crate) const NEWSETELEM: u16 = 12;
    pub(crate) const GETSETELEM: u16 = 13;
    pub(crate) const DELSETELEM: u16 = 14;
    pub(crate) const NEWGEN: u16 = 15;
    pub(crate) const GETGEN: u16 = 16;
    pub(crate) const GETOBJ: u16 = 19;
    pub(crate) const GETFLOWTABLE: u16 = 23;
}

/// `NFTA_LIST_ELEM`: one of a list.
pub(super) const LIST_ELEM: u16 = 1;
/// `NFTA_GEN_ID`: which version of the ruleset it is.
pub(super) const GEN_ID: u16 = 1;

/// `NFTA_TABLE_*`.
pub(super) mod table {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const FLAGS: u16 = 2;
    pub(crate) const USERDATA: u16 = 6;

    /// `NFT_TABLE_F_DORMANT`
    pub(crate) const DORMANT: u32 = 0x1;
}

/// `NFTA_CHAIN_*` and `NFTA_HOOK_*`.
pub(super) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const TYPE: u16 = 7;

    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
    pub(crate) const HOOK_DEVICE: u16 = 3;
    pub(crate) const HOOK_DEVICES: u16 = 4;
    /// `NFTA_DEVICE_NAME`
    pub(crate) const DEVICE_NAME: u16 = 1;
}

/// `NFTA_RULE_*`.
pub(super) mod rule {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const HANDLE: u16 = 3;
    pub(crate) const EXPRESSIONS: u16 = 4;
    pub(crate) const USERDATA: u16 = 7;
}

/// `NFTA_SET_*` and `NFTA_SET_DESC_*`.
pub(super) mod set {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LENGTH: u16 = 5;
    pub(crate) const DATA_TYPE: u16 = 6;
    pub(crate) const DATA_LENGTH: u16 = 7;
    pub(crate) const DESCRIPTION: u16 = 9;
    pub(crate) const ID: u16 = 10;
    pub(crate) const USERDATA: u16 = 13;
    pub(crate) const OBJECT_TYPE: u16 = 15;

    pub(crate) const DESCRIPTION_CONCAT: u16 = 2;
    /// `NFTA_SET_FIELD_LEN`
    pub(crate) const FIELD_LENGTH: u16 = 1;
    /// `NFT_DATA_VERDICT`, as the type of a map's values.
    pub(crate) const VERDICT: u32 = 0xffff_ff00;
}

/// `NFT_SET_*`: flags of sets.
pub(super) mod set_flag {
    pub(crate) const ANONYMOUS: u32 = 0x1;
    pub(crate) const CONSTANT: u32 = 0x2;
    pub(crate) const INTERVAL: u32 = 0x4;
    pub(crate) const MAP: u32 = 0x8;
    pub(crate) const TIMEOUT: u32 = 0x10;
    pub(crate) const EVAL: u32 = 0x20;
    pub(crate) const OBJECT: u32 = 0x40;
    pub(crate) const CONCAT: u32 = 0x80;
}

/// `NFTA_SET_ELEM_LIST_*`, `NFTA_SET_ELEM_*` and `NFT_SET_ELEM_*`.
pub(super) mod element {
    pub(crate) const LIST_TABLE: u16 = 1;
    pub(crate) const LIST_SET: u16 = 2;
    pub(crate) const LIST_ELEMENTS: u16 = 3;

    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const USERDATA: u16 = 6;
    pub(crate) const OBJECT: u16 = 9;
    pub(crate) const KEY_END: u16 = 10;

    pub(crate) const FLAG_INTERVAL_END: u32 = 0x1;
    pub(crate) const FLAG_CATCHALL: u32 = 0x2;
}

/// `NFTA_DATA_*`, `NFTA_VERDICT_*` and verdicts (`NF_*`, `NFT_*`).
pub(super) mod data {
    pub(crate) const VALUE: u16 = 1;
    pub(crate) const VERDICT: u16 = 2;
    pub(crate) const VERDICT_CODE: u16 = 1;
    pub(crate) const VERDICT_CHAIN: u16 = 2;

    pub(crate) const DROP: i32 = 0;
    pub(crate) const ACCEPT: i32 = 1;
    pub(crate) const CONTINUE: i32 = -1;
    pub(crate) const JUMP: i32 = -3;
    pub(crate) const GOTO: i32 = -4;
    pub(crate) const RETURN: i32 = -5;
}

/// Attributes and values of expressions: `NFTA_EXPR_*`, then `NFTA_<expression>_*`.
pub(super) mod expr {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const DATA: u16 = 2;

    pub(crate) const PAYLOAD_DREG: u16 = 1;
    pub(crate) const PAYLOAD_BASE: u16 = 2;
    pub(crate) const PAYLOAD_OFFSET: u16 = 3;
    pub(crate) const PAYLOAD_LENGTH: u16 = 4;
    /// `NFT_PAYLOAD_*_HEADER`
    pub(crate) const LINK_HEADER: u32 = 0;
    pub(crate) const NETWORK_HEADER: u32 = 1;
    pub(crate) const TRANSPORT_HEADER: u32 = 2;

    pub(crate) const META_DREG: u16 = 1;
    pub(crate) const META_KEY: u16 = 2;
    pub(crate) const META_SREG: u16 = 3;
    /// `NFT_META_*`
    pub(crate) const META_PROTOCOL: u32 = 1;
    pub(crate) const META_MARK: u32 = 3;
    pub(crate) const META_IIFNAME: u32 = 6;
    pub(crate) const META_OIFNAME: u32 = 7;
    pub(crate) const META_IIFTYPE: u32 = 8;
    pub(crate) const META_NFPROTO: u32 = 15;
    pub(crate) const META_L4PROTO: u32 = 16;

    pub(crate) const CT_DREG: u16 = 1;
    pub(crate) const CT_KEY: u16 = 2;
    /// `NFT_CT_*`
    pub(crate) const CT_STATE: u32 = 0;
    pub(crate) const CT_DIRECTION: u32 = 1;
    pub(crate) const CT_STATUS: u32 = 2;

    pub(crate) const FIB_DREG: u16 = 1;
    pub(crate) const FIB_RESULT: u16 = 2;
    pub(crate) const FIB_FLAGS: u16 = 3;
    /// `NFT_FIB_RESULT_ADDRTYPE`
    pub(crate) const FIB_ADDRTYPE: u32 = 3;
    /// `NFTA_FIB_F_DADDR`
    pub(crate) const FIB_DADDR: u32 = 2;

    pub(crate) const CMP_SREG: u16 = 1;
    pub(crate) const CMP_OP: u16 = 2;
    pub(crate) const CMP_DATA: u16 = 3;
    /// `NFT_CMP_*`; `NFT_RANGE_*` has the same two first ones.
    pub(crate) const CMP_EQ: u32 = 0;
    pub(crate) const CMP_NEQ: u32 = 1;
    pub(crate) const CMP_LTE: u32 = 3;
    pub(crate) const CMP_GTE: u32 = 5;

    pub(crate) const RANGE_SREG: u16 = 1;
    pub(crate) const RANGE_OP: u16 = 2;
    pub(crate) const RANGE_FROM: u16 = 3;
    pub(crate) const RANGE_TO: u16 = 4;

    pub(crate) const BITWISE_SREG: u16 = 1;
    pub(crate) const BITWISE_DREG: u16 = 2;
    pub(crate) const BITWISE_LENGTH: u16 = 3;
    pub(crate) const BITWISE_MASK: u16 = 4;
    pub(crate) const BITWISE_XOR: u16 = 5;

    pub(crate) const LOOKUP_SET: u16 = 1;
    pub(crate) const LOOKUP_SREG: u16 = 2;
    pub(crate) const LOOKUP_DREG: u16 = 3;
    pub(crate) const LOOKUP_FLAGS: u16 = 5;
    /// `NFT_LOOKUP_F_INV`
    pub(crate) const LOOKUP_INVERTED: u32 = 1;

    pub(crate) const IMMEDIATE_DREG: u16 = 1;
    pub(crate) const IMMEDIATE_DATA: u16 = 2;

    pub(crate) const TARGET_NAME: u16 = 1;

    pub(crate) const NAT_TYPE: u16 = 1;
    pub(crate) const NAT_FAMILY: u16 = 2;
    pub(crate) const NAT_ADDRESS_MIN: u16 = 3;
    pub(crate) const NAT_PORT_MIN: u16 = 5;
    /// `NFT_NAT_*`
    pub(crate) const NAT_SNAT: u32 = 0;
    pub(crate) const NAT_DNAT: u32 = 1;

    pub(crate) const MASQ_FLAGS: u16 = 1;
    pub(crate) const REDIR_PORT_MIN: u16 = 1;
    /// `NF_NAT_RANGE_*` (include/uapi/linux/netfilter/nf_nat.h)
    pub(crate) const RANGE_MAP_IPS: u32 = 0x1;
    pub(crate) const RANGE_PROTO_SPECIFIED: u32 = 0x2;
    pub(crate) const RANGE_PROTO_RANDOM_FULLY: u32 = 0x10;
}

/// The types of user data that nft keeps with its objects: `NFTNL_UDATA_*` (include/libnftnl/udata.h
/// of libnftnl).
pub(super) mod userdata {
    pub(crate) const TABLE_COMMENT: u8 = 0;
    pub(crate) const RULE_COMMENT: u8 = 0;
    pub(crate) const ELEMENT_COMMENT: u8 = 0;
    pub(crate) const SET_KEY_BYTE_ORDER: u8 = 0;
    pub(crate) const SET_DATA_BYTE_ORDER: u8 = 1;
    pub(crate) const SET_DATA_INTERVAL: u8 = 6;
    pub(crate) const SET_COMMENT: u8 = 7;
}
