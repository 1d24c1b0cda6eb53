//! The `k` largest products of each row, one factor from the left and one from the right of a head.
//!
//! A head whose largest left times its largest right is not above the row's threshold is skipped whole.

use std::cmp::Ordering;

use super::Sink;
use crate::kernels::{
    Real,
    encode::heads::{HeadRows, Heads},
};

/// Candidates kept beyond `k` before pruning, at least.
const SLACK: usize = 96;

/// A product, its latent, and its factors.
type Entry<R> = (R, u32, R, R);

/// Top-k of every row of a block, and top-k of the dead latents.
pub(in crate::kernels::encode) struct HeadTop<'a, R> {
    heads: Heads,
    /// Pre-activations of the heads that a tile touches, per row.
    carry: Vec<R>,
    /// Of a row in `carry`.
    room: usize,
    main: Vec<Top<R>>,
    aux: Vec<Top<R>>,
    dead: &'a [bool],
}

impl<'a, R: Real> HeadTop<'a, R> {
    /// For a block of so many rows; see [`crate::kernels::encode::Encoder::select_heads`].
    pub(in crate::kernels::encode) fn new(
        rows: usize,
        heads: Heads,
        k: usize,
        dead: Option<(&'a [bool], usize)>,
        widest_panel: usize,
    ) -> Self {
        let room = heads.rows() + widest_panel;
        let (dead, k_dead) = dead.unwrap_or((&[], 0));
        let aux = if k_dead == 0 { Vec::new() } else { (0..rows).map(|_| Top::new(k_dead)).collect() };
        HeadTop {
            heads,
            carry: vec![R::ZERO; rows * room],
            room,
            main: (0..rows).map(|_| Top::new(k)).collect(),
            aux,
            dead,
        }
    }
}

impl<R: Real> Sink<R> for HeadTop<'_, R> {
    type Kept = [HeadRows<R>; 2];

    #[inline(always)]
    fn offer<const C: usize>(&mut self, row: usize, first: usize, z: &[R; C]) {
        let width = self.heads.rows();
        let carry = &mut self.carry[row * self.room..][..self.room];
        let (head, waiting) = (first / width, first % width);
        carry[waiting..waiting + C].copy_from_slice(z);
        let whole = (waiting + C) / width;
        for (i, pre_acts) in carry.chunks_exact(width).take(whole).enumerate() {
            let (left, right) = pre_acts.split_at(self.heads.m);
            let most = largest(left) * largest(right);
            let base = (head + i) * self.heads.latents();
            if most > self.main[row].threshold {
                self.main[row].offer(base, left, right, |_| true);
            }
            if let Some(aux) = self.aux.get_mut(row)
                && most > aux.threshold
            {
                aux.offer(base, left, right, |latent| self.dead[latent]);
            }
        }
        carry.copy_within(whole * width..waiting + C, 0);
    }

    fn finish(self) -> [HeadRows<R>; 2] {
        let rows = self.main.len();
        let mut aux: Vec<Top<R>> = self.aux;
        aux.resize_with(rows, || Top::new(0));
        [self.main, aux].map(|tops| {
            let mut kept = HeadRows { ends: Vec::with_capacity(rows), pairs: Vec::new() };
            for top in tops {
                kept.pairs.extend(top.finish());
                kept.ends.push(kept.pairs.len());
            }
            kept
        })
    }
}

/// The largest, not below 0. NaN is skipped: columns beyond the last are NaN.
#[inline(always)]
fn largest<R: Real>(z: &[R]) -> R {
    z.iter().fold(R::ZERO, |most, &z| if z > most { z } else { most })
}

/// The best of one row.
struct Top<R> {
    k: usize,
    /// Nothing at or below this can be among the best `k`.
    threshold: R,
    entries: Vec<Entry<R>>,
}

impl<R: Real> Top<R> {
    fn new(k: usize) -> Self {
        Top { k, threshold: R::ZERO, entries: Vec::new() }
    }

    #[inline(always)]
    fn offer(&mut self, base: usize, left: &[R], right: &[R], allowed: impl Fn(usize) -> bool) {
        for (i, &u) in left.iter().enumerate() {
            for (j, &v) in right.iter().enumerate() {
                let latent = base + i * right.len() + j;
                if u > R::ZERO && v > R::ZERO && u * v > self.threshold && allowed(latent) {
                    #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
                    self.entries.push((u * v, latent as u32, u, v));
                }
            }
        }
        if self.entries.len() >= self.k + self.k.max(SLACK) {
            self.prune();
        }
    }

    /// Keeps the best `k`; later latents lose ties, so they must exceed the last of them.
    #[inline(never)]
    fn prune(&mut self) {
        let descending =
            |a: &Entry<R>, b: &Entry<R>| b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1));
        if self.k > 0 && self.entries.len() > self.k {
            let (_, kth, _) = self.entries.select_nth_unstable_by(self.k - 1, descending);
            self.threshold = kth.0;
        }
        self.entries.truncate(self.k);
    }

    fn finish(mut self) -> impl Iterator<Item = (u32, R, R)> {
        self.prune();
        self.entries.sort_unstable_by_key(|entry| entry.1);
        self.entries.into_iter().map(|(_, latent, left, right)| (latent, left, right))
    }
}
