//! Who holds an address: what the file of a reservation says.

use std::net::IpAddr;

/// What the file of a reserved address says about who has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// One interface of a container.
    Attachment(Owner),
    /// A container, whichever the interface: what very old versions of the reference wrote. A
    /// file that was cut off reads like this too.
    Container(String),
    /// Nobody: the file is empty, left over from a crash before its text was written, or came
    /// back so from a power loss. Only under the lock is this certain, because a writer that has
    /// just created its file holds the lock.
    Nobody,
    /// Not a plain file (a symbolic link, a directory), or one that cannot be read: it blocks its
    /// address and is left alone.
    Unknown,
}

/// One interface of one container: what an attachment is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The container's id.
    pub id: String,
    /// The interface's name in the container.
    pub ifname: String,
}

/// An address and who holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reservation {
    /// The address.
    pub address: IpAddr,
    /// Who holds it.
    pub holder: Holder,
}

/// What separates the id from the interface.
const BREAK: &str = "\r\n";

impl Holder {
    /// Reads a reservation's text. White space around it is ignored, and so are the zeros that
    /// some file systems leave in place of text after a power loss.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let text = text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0');
        match text.split_once(BREAK) {
            Some((id, ifname)) => {
                Self::Attachment(Owner { id: id.to_owned(), ifname: ifname.to_owned() })
            }
            None if text.is_empty() => Self::Nobody,
            None => Self::Container(text.to_owned()),
        }
    }

    /// Whether the address belongs to this attachment, in the old format too.
    pub(crate) fn is(&self, owner: &Owner) -> bool {
        match self {
            Self::Attachment(holder) => holder == owner,
            Self::Container(id) => *id == owner.id,
            Self::Nobody | Self::Unknown => false,
        }
    }
}

impl Owner {
    /// The text of a reservation.
    pub(crate) fn text(&self) -> String {
        format!("{}{BREAK}{}", self.id, self.ifname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(id: &str, ifname: &str) -> Owner {
        Owner { id: id.to_owned(), ifname: ifname.to_owned() }
    }

    #[test]
    fn a_reservation_s_text_reads_back() {
        let owner = owner("c1", "eth0");
        assert_eq!(owner.text(), "c1\r\neth0");
        assert_eq!(Holder::parse(owner.text().as_bytes()), Holder::Attachment(owner));
    }

    #[test]
    fn white_space_the_old_format_and_left_overs_are_understood() {
        let eth0 = owner("c1", "eth0");
        assert_eq!(Holder::parse(b" \n c1\r\neth0\t\n"), Holder::Attachment(eth0.clone()));
        for old in ["c1", "c1\r\n", "\tc1 "] {
            let holder = Holder::parse(old.as_bytes());
            assert_eq!(holder, Holder::Container("c1".to_owned()));
            assert!(holder.is(&eth0) && !holder.is(&owner("c2", "eth0")));
        }
        for empty in [&b""[..], b"\r\n", b"\0\0\0\0"] {
            assert_eq!(Holder::parse(empty), Holder::Nobody);
        }
        assert_eq!(Holder::parse(b"c1\neth0"), Holder::Container("c1\neth0".to_owned()));
        assert_eq!(Holder::parse(b"\xff"), Holder::Container("\u{fffd}".to_owned()));
    }
}
