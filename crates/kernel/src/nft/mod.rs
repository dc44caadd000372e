//! Placeholder.
use net::Change;
use net::nft::{Object, Element, TableId};
use crate::{error::{Error, Result}, netlink::Socket};
pub(crate) fn apply(_socket: &mut Socket, _changes: &[&Change]) -> Result<(), (usize, Error)> { Ok(()) }
pub(crate) fn elements(_socket: &mut Socket, _table: &TableId, _set: &str) -> Result<Option<Vec<Element>>> { Ok(None) }
pub(crate) fn dump(_socket: &mut Socket) -> Result<Vec<Object>> { Ok(vec![]) }
pub(crate) fn element(_socket: &mut Socket, _table: &TableId, _set: &str, _key: &net::nft::Key) -> Result<Option<Element>> { Ok(None) }
