//! The few smallest entries of a stream, sorted out in bulk: an entry costs one comparison and a copy.
//!
//! A heap moves entries about on every push and needs each to own its activations; here up to twice
//! as many entries wait, and a selection then keeps the smaller half.

/// An active context of a latent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) order: u64,
    pub(crate) seq: i64,
    pub(crate) start: i64,
    pub(crate) context: u64,
    /// Its activations among those of the list.
    from: u32,
    len: u32,
}

impl Entry {
    pub(crate) fn new(order: u64, seq: i64, start: i64, context: u64) -> Self {
        Entry { order, seq, start, context, from: 0, len: 0 }
    }

    fn key(&self) -> (u64, i64, i64, u64) {
        (self.order, self.seq, self.start, self.context)
    }
}

/// A bounded list: what is not among its smallest is forgotten, sooner or later.
#[derive(Debug, Default)]
pub(crate) struct Smallest {
    entries: Vec<Entry>,
    /// (token, activation) of all entries, one after the other.
    activations: Vec<(u16, f32)>,
}

impl Smallest {
    /// Adds an entry. Gives the largest order that the list may still take, where that has changed.
    pub(crate) fn push(
        &mut self,
        capacity: usize,
        entry: Entry,
        activations: impl Iterator<Item = (u16, f32)>,
    ) -> Option<u64> {
        let from = self.activations.len();
        self.activations.extend(activations);
        let len = (self.activations.len() - from) as u32;
        self.entries.push(Entry { from: from as u32, len, ..entry });
        (self.entries.len() >= 2 * capacity).then(|| self.cut(capacity))
    }

    /// Keeps the `capacity` smallest; gives the largest order among them.
    fn cut(&mut self, capacity: usize) -> u64 {
        if self.entries.len() > capacity && capacity > 0 {
            self.entries.select_nth_unstable_by_key(capacity - 1, Entry::key);
        }
        self.entries.truncate(capacity);
        let mut kept = Vec::with_capacity(self.activations.len());
        for entry in &mut self.entries {
            let from = kept.len() as u32;
            kept.extend_from_slice(&self.activations[entry.from as usize..][..entry.len as usize]);
            entry.from = from;
        }
        self.activations = kept;
        let full = self.entries.len() == capacity;
        self.entries.last().filter(|_| full).map_or(u64::MAX, |last| last.order)
    }

    /// Keeps the `capacity` smallest and sorts them.
    pub(crate) fn settle(&mut self, capacity: usize) {
        self.cut(capacity);
        self.entries.sort_unstable_by_key(Entry::key);
    }

    /// Entries held now.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The activations of one of its entries.
    pub(crate) fn activations(&self, entry: &Entry) -> &[(u16, f32)] {
        &self.activations[entry.from as usize..][..entry.len as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_smallest_of_a_sort_are_kept(orders in prop::collection::vec(0u64..60, 0..120), capacity in 0usize..20) {
            let (mut list, mut limit, mut all) = (Smallest::default(), u64::MAX, Vec::new());
            for (at, &order) in orders.iter().enumerate() {
                all.push((order, at as u64));
                if order <= limit {
                    let activations = (0..at % 4).map(|token| (token as u16, at as f32));
                    limit = list.push(capacity, Entry::new(order, 0, 0, at as u64), activations).unwrap_or(limit);
                }
                prop_assert!(list.entries().len() <= 2 * capacity);
            }
            list.settle(capacity);
            all.sort_unstable();
            all.truncate(capacity);
            let kept: Vec<_> = list.entries().iter().map(|entry| (entry.order, entry.context)).collect();
            prop_assert_eq!(kept, all);
            for entry in list.entries() {
                let of_entry: Vec<_> = (0..entry.context % 4).map(|token| (token as u16, entry.context as f32)).collect();
                prop_assert_eq!(list.activations(entry), &of_entry[..]);
            }
        }
    }
}
