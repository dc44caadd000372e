//! The one hash of the index: for finding records, and for noticing that one has changed.

/// The fractional part of the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number that differs wherever one word of `bytes`, their length or the seed differs, but for
/// one chance in 2⁶⁴ where several do.
///
/// It is part of the file format, and so it must never change, which no hash of the standard
/// library promises. It withstands accidents, not enemies: those are kept out by the permissions
/// of the index's directory.
pub(super) fn mix(seed: u64, bytes: &[u8]) -> u64 {
    // Each step can be undone, so that nothing of what came before is lost on the way.
    let step = |state: u64, word: [u8; 8]| {
        let state = (state ^ u64::from_le_bytes(word)).wrapping_mul(GOLDEN);
        state ^ (state >> 32)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let start = step(bytes.len() as u64, seed.to_le_bytes());
    let state = words.iter().fold(start, |state, word| step(state, *word));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(step(state, last), GOLDEN.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bit_and_the_length_count() {
        let bytes = *b"0123456789abcdefg";
        let mut seen = BTreeSet::from([mix(0, &bytes), mix(1, &bytes), mix(0, &bytes[..16])]);
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            seen.insert(mix(0, &other));
        }
        assert_eq!(seen.len(), 3 + bytes.len() * 8);
        assert_ne!(mix(0, b"a"), mix(0, b"a\0"));
    }

    #[test]
    fn low_bits_spread_names_that_resemble_each_other() {
        let mut pages = [0_u32; 64];
        for number in 0..6400 {
            let page = mix(1, format!("{number:064x}\r\neth0").as_bytes()) % 64;
            pages[page as usize] += 1;
        }
        assert!(pages.iter().all(|count| (50..150).contains(count)), "{pages:?}");
    }

    /// Files of other builds must be found with the same numbers.
    #[test]
    fn it_is_always_the_same() {
        assert_eq!(mix(1, b"c1\r\neth0"), 0x39c8_31c1_991c_ca1b);
    }
}
