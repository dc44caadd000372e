//! What a cluster consists of.
