//! Netlink attributes: type, length, value, padded to four bytes (`struct nlattr`).

/// Walks attributes; stops at the first one that does not fit. Flag bits of the type (nested,
/// network byte order) are masked out.
pub(crate) fn iterate(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Builds a run of attributes.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty run behind `header`, the fixed part of the message.
    pub(crate) fn after(header: &[u8]) -> Self {
        Self { bytes: header.to_vec() }
    }

    /// Adds one attribute with raw bytes.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = 4 + value.len();
        self.bytes.extend_from_slice(&(length as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a 32-bit number in network byte order, as nfnetlink wants them.
    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Adds a text with its closing zero.
    pub(crate) fn put_str(&mut self, kind: u16, value: &str) -> &mut Self {
        self.put(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// Adds an attribute that holds attributes (`NLA_F_NESTED`).
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        const NESTED: u16 = 0x8000;
        let start = self.bytes.len();
        self.put(kind | NESTED, &[]);
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Adds attributes that are bytes already.
    pub(crate) fn append(&mut self, attributes: &[u8]) {
        self.bytes.extend_from_slice(attributes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// What was written.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::after(b"");
        writer.put(1, b"x").put_str(2, "yz").nest(3, |w| {
            w.put_be32(1, 0x0102_0304);
        });
        let read: Vec<_> = iterate(writer.bytes()).collect();
        assert_eq!(read[0], (1, &b"x"[..]));
        assert_eq!(read[1], (2, &b"yz\0"[..]));
        assert_eq!(read[2].0, 3);
        assert_eq!(iterate(read[2].1).next().unwrap(), (1, &[1, 2, 3, 4][..]));
    }

    #[test]
    fn rubbish_ends_the_walk() {
        for bytes in [&[][..], &[1], &[0, 0, 0, 0], &[3, 0, 1, 0], &[255, 255, 1, 0, 0]] {
            assert_eq!(iterate(bytes).count(), 0);
        }
    }
}
