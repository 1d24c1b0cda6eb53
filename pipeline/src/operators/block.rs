//! What travels between workers: a dense block of rows, each with the slot the plan gave it.

use std::io::Write;

use crate::{
    flow::{Accountable, ContainerBytes, Distributor, Message, Push, WireBytes},
    plan::Slot,
};

/// Rows on their way to the worker that owns their lanes. One container is one block.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Block {
    /// Worker that owns the lanes of these rows.
    pub worker: u32,
    /// Slot of each row.
    pub slots: Vec<Slot>,
    /// Vectors in the units of the data, `[rows, d_in]`.
    pub x: Vec<f32>,
}

/// Rows per message such that it stays well below timely's 1 MiB slabs (1.57 MB messages were 40 %
/// slower in a measurement, 100 to 400 KB the fastest).
pub fn rows_per_block(d_in: usize) -> usize {
    ((384 << 10) / (4 * d_in.max(1))).max(1)
}

impl Accountable for Block {
    fn record_count(&self) -> i64 {
        i64::try_from(self.slots.len()).unwrap_or(i64::MAX)
    }
}

/// Wire form, little-endian u32 words: worker, rows, d_in, 0, then (lane, index) per row, then the values.
impl ContainerBytes for Block {
    fn from_bytes(bytes: WireBytes) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let word = |i: usize| words.get(i).map_or(0, |w| u32::from_le_bytes(*w));
        let (rows, d_in) = (word(1) as usize, word(2) as usize);
        let slots = (0..rows).map(|r| Slot { lane: word(4 + 2 * r), index: word(5 + 2 * r) }).collect();
        // The message is padded to 8 bytes; what follows the values is not theirs.
        let values = words.iter().skip(4 + 2 * rows).take(rows * d_in);
        Block { worker: word(0), slots, x: values.map(|w| f32::from_le_bytes(*w)).collect() }
    }

    fn length_in_bytes(&self) -> usize {
        (16 + 8 * self.slots.len() + 4 * self.x.len()).next_multiple_of(8)
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let rows = self.slots.len();
        let d_in = self.x.len().checked_div(rows).unwrap_or(0);
        let head = [self.worker, count(rows), count(d_in), 0].into_iter();
        let slots = self.slots.iter().flat_map(|s| [s.lane, s.index]);
        let values = self.x.iter().map(|v| v.to_bits());
        let mut bytes: Vec<u8> = head.chain(slots).chain(values).flat_map(u32::to_le_bytes).collect();
        bytes.resize(self.length_in_bytes(), 0);
        // Timely hands a slice of the announced length; it cannot be too short.
        let _infallible = writer.write_all(&bytes);
    }
}

/// Sends each block to the worker it names.
#[derive(Debug)]
pub struct ToOwner;

impl Distributor<Block> for ToOwner {
    fn partition<T: Clone, P: Push<Message<T, Block>>>(&mut self, block: &mut Block, time: &T, to: &mut [P]) {
        let worker = block.worker as usize % to.len();
        Message::push_at(block, time.clone(), &mut to[worker]);
    }

    fn flush<T: Clone, P: Push<Message<T, Block>>>(&mut self, _time: &T, _to: &mut [P]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_keeps_every_bit() {
        for rows in [0usize, 1, 3] {
            let block = Block {
                worker: 2,
                slots: (0..rows).map(|r| Slot { lane: r as u32, index: 7 + r as u32 }).collect(),
                x: (0..rows * 5).map(|i| f32::from_bits(0x7f00_0000 + i as u32 * 77)).collect(),
            };
            let mut bytes = Vec::new();
            block.into_bytes(&mut bytes);
            assert_eq!(bytes.len(), block.length_in_bytes());
            let mut slab = timely::bytes::arc::BytesMut::from(bytes.clone());
            let back = Block::from_bytes(slab.extract_to(bytes.len()));
            assert_eq!(back, block);
        }
    }
}
