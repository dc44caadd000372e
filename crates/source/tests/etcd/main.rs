//! The etcd source against a real etcd that is killed, stopped, compacted and wiped, and in which
//! others write.
#![cfg(feature = "etcd")]

mod access;
mod member;
mod node;
mod three;
mod together;
mod trouble;
