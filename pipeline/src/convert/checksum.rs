//! A checksum of values that does not depend on how rows are laid out in files.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};

/// The sum, modulo 2^128, over all rows, of the first 16 bytes (big-endian) of the SHA-256 of the
/// row's values as little-endian f32. The same rows in other files, in another order or in another
/// type that holds them exactly have the same checksum; in text it is 32 hex digits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum(u128);

impl Checksum {
    /// That of one row.
    pub fn of_row(row: &[f32]) -> Checksum {
        let mut digest = Sha256::new();
        let mut bytes = [0; 1024];
        for values in row.chunks(256) {
            bytes.as_chunks_mut().0.iter_mut().zip(values).for_each(|(b, v)| *b = v.to_le_bytes());
            digest.update(&bytes[..4 * values.len()]);
        }
        let first = digest.finalize().iter().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        Checksum(first)
    }

    /// That of each row of a block `[rows, d_in]`.
    pub fn of_rows(x: &[f32], d_in: usize) -> Vec<Checksum> {
        x.chunks_exact(d_in).map(Checksum::of_row).collect()
    }
}

impl std::iter::Sum for Checksum {
    fn sum<I: Iterator<Item = Checksum>>(rows: I) -> Checksum {
        rows.fold(Checksum::default(), |a, b| Checksum(a.0.wrapping_add(b.0)))
    }
}

impl std::ops::AddAssign for Checksum {
    fn add_assign(&mut self, other: Checksum) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Checksum, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map(Checksum).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hashlib.sha256(struct.pack("<3f", 1, 2, 3)).hexdigest()[:32]`
    #[test]
    fn a_row_is_hashed_as_little_endian_f32() {
        assert_eq!(Checksum::of_row(&[1.0, 2.0, 3.0]).to_string(), "8e628779e6a74ee0b36991c10158f63c");
    }

    #[test]
    fn order_and_cuts_do_not_matter_and_every_bit_does() {
        let x: Vec<f32> = (0..600).map(|i| i as f32).collect();
        let whole: Checksum = Checksum::of_rows(&x, 300).into_iter().sum();
        let mut turned = Checksum::of_row(&x[300..]);
        turned += Checksum::of_row(&x[..300]);
        assert_eq!(whole, turned);
        let mut other = x;
        other[0] = -0.0;
        assert_ne!(whole, Checksum::of_rows(&other, 300).into_iter().sum());
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Checksum>(&text).unwrap(), whole);
    }
}
