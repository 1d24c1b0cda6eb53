//! Repetition and definition levels that say nothing: checked in runs, never unpacked.
//!
//! Levels are stored as runs (Parquet's RLE / bit-packing hybrid). Whatever is not exactly the
//! expected sequence, to the last byte, is refused here and left to the ordinary reader.

/// One run of levels: equal ones, or eight to a group, bit-packed from the lowest bit up.
enum Run<'a> {
    Equal(u64),
    Packed(&'a [u8]),
}

/// Whether the bytes hold exactly `n` levels, all equal to `level`, of `bits` bits each (at most 8).
pub(super) fn are_all(bytes: &[u8], bits: usize, level: u64, n: usize) -> bool {
    let group = (0..8).fold(0_u64, |group, i| group | level << (i * bits)).to_le_bytes();
    runs(bytes, bits, n, |run, _, n| match run {
        Run::Equal(value) => value == level,
        Run::Packed(packed) => {
            let (whole, rest) = (n / 8 * bits, n % 8 * bits);
            let groups = packed[..whole].chunks_exact(bits).all(|g| *g == group[..bits]);
            groups && (0..rest).all(|i| bit(&packed[whole..], i) == bit(&group, i))
        }
    })
}

/// Whether the bytes hold exactly `n` repetition levels of rows of `d` values: 0, then `d - 1` times
/// 1. The first of them belongs to value number `at` of its row.
pub(super) fn are_rows(bytes: &[u8], d: usize, at: usize, n: usize) -> bool {
    runs(bytes, 1, n, |run, first, n| {
        // Levels until the next row begins.
        let ahead = (d - (at + first) % d) % d;
        match run {
            Run::Equal(0) => ahead == 0 && (n == 1 || d == 1),
            Run::Equal(1) => ahead >= n,
            Run::Equal(_) => false,
            Run::Packed(packed) => packed_rows(packed, d, ahead, n),
        }
    })
}

fn packed_rows(packed: &[u8], d: usize, mut ahead: usize, n: usize) -> bool {
    packed.iter().zip((0..n).step_by(8)).all(|(byte, from)| {
        let mut expected = 0xff_u8;
        while ahead < 8 {
            expected &= !(1 << ahead);
            ahead += d;
        }
        ahead -= 8;
        // What fills up the last group means nothing.
        let meant = 0xff_u8 >> (8 - (n - from).min(8));
        (byte ^ expected) & meant == 0
    })
}

fn bit(bytes: &[u8], i: usize) -> bool {
    bytes[i / 8] >> (i % 8) & 1 == 1
}

/// Whether the bytes are runs of `n` levels in all and `fits(run, first level, levels)` for each.
fn runs(mut bytes: &[u8], bits: usize, n: usize, fits: impl Fn(Run<'_>, usize, usize) -> bool) -> bool {
    let mut done = 0;
    while done < n {
        let Some(header) = varint(&mut bytes) else { return false };
        let count = header >> 1;
        let (run, held) = if header & 1 == 1 {
            let Some(packed) = count.checked_mul(bits).and_then(|len| bytes.split_off(..len)) else {
                return false;
            };
            (Run::Packed(packed), count.saturating_mul(8).min(n - done))
        } else {
            let Some(value) = bytes.split_off_first() else { return false };
            (Run::Equal(u64::from(*value)), count)
        };
        if held == 0 || held > n - done || !fits(run, done, held) {
            return false;
        }
        done += held;
    }
    bytes.is_empty()
}

/// An unsigned LEB128 number of at most 32 bits.
fn varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok().map(|n| n as usize);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use atomflow_workers::random::hash;

    use super::*;

    /// Encodes levels in runs drawn from `seed`: an equal run where one is due, else packed groups.
    fn encode(levels: &[u64], bits: usize, seed: u64) -> Vec<u8> {
        let (mut out, mut at) = (vec![], 0);
        while at < levels.len() {
            let equal = levels[at..].iter().take_while(|l| **l == levels[at]).count();
            let left = levels.len() - at;
            let draw = hash(&[seed, at as u64]) as usize;
            // Only the last group may be filled up with levels that are not there.
            if draw.is_multiple_of(2) || (left > 8 && equal > 8 && draw.is_multiple_of(3)) {
                let n = 1 + draw / 6 % equal;
                push_varint(&mut out, n << 1);
                out.push(levels[at] as u8);
                at += n;
            } else {
                let groups = if left < 8 { 1 } else { 1 + draw / 6 % (left / 8) };
                push_varint(&mut out, groups << 1 | 1);
                let value = |i: usize| levels.get(at + i / bits).map_or(draw as u64, |l| *l);
                let packed = (0..groups * bits).map(|byte| {
                    (0..8).fold(0_u8, |b, i| {
                        b | ((value(byte * 8 + i) >> ((byte * 8 + i) % bits) & 1) as u8) << i
                    })
                });
                out.extend(packed);
                at += (groups * 8).min(left);
            }
        }
        out
    }

    fn push_varint(out: &mut Vec<u8>, mut n: usize) {
        while n > 0x7f {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }

    fn row_levels(d: usize, at: usize, n: usize) -> Vec<u64> {
        (at..at + n).map(|i| u64::from(!i.is_multiple_of(d))).collect()
    }

    #[test]
    fn what_is_expected_is_accepted_however_it_is_cut_into_runs() {
        for seed in 0..2000 {
            let draw = |i: u64, below: u64| (hash(&[seed, 99, i]) % below) as usize;
            let (d, n) = (1 + draw(0, 40), 1 + draw(1, 300));
            let at = draw(2, d as u64);
            let bytes = encode(&row_levels(d, at, n), 1, seed);
            assert!(are_rows(&bytes, d, at, n), "{seed}");
            let bits = 1 + draw(3, 3);
            let level = draw(4, 1 << bits) as u64;
            assert!(are_all(&encode(&vec![level; n], bits, seed), bits, level, n), "{seed}");
        }
    }

    #[test]
    fn one_other_level_anywhere_is_refused() {
        for seed in 0..2000 {
            let draw = |i: u64, below: u64| (hash(&[seed, 98, i]) % below) as usize;
            let (d, n) = (1 + draw(0, 40), 1 + draw(1, 300));
            let at = draw(2, d as u64);
            let mut levels = row_levels(d, at, n);
            levels[draw(3, n as u64)] ^= 1;
            assert!(!are_rows(&encode(&levels, 1, seed), d, at, n), "{seed}");
            let mut levels = vec![3; n];
            levels[draw(4, n as u64)] = draw(5, 3) as u64;
            assert!(!are_all(&encode(&levels, 2, seed), 2, 3, n), "{seed}");
        }
    }

    #[test]
    fn too_few_too_many_and_cut_levels_are_refused() {
        let bytes = encode(&row_levels(5, 0, 100), 1, 4);
        assert!(are_rows(&bytes, 5, 0, 100));
        assert!(!are_rows(&bytes, 5, 0, 109) && !are_rows(&bytes, 5, 0, 60) && !are_rows(&bytes, 5, 1, 100));
        assert!((0..bytes.len()).all(|end| !are_rows(&bytes[..end], 5, 0, 100)));
        assert!(!are_rows(&[&bytes[..], &[0]].concat(), 5, 0, 100));
        // A run of no levels, and a number without an end.
        assert!(!are_all(&[0, 1, 8, 1], 1, 1, 4) && !are_all(&[0x80; 12], 1, 1, 4));
    }
}
