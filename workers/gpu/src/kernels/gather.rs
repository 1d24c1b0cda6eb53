//! What the gradients of a batch sum over rows: the rows of a list, weighted.
//!
//! Before a step: [`Gathered::of`] puts the pairs of all terms into lists, sums the segments of long lists, and
//! finds by how much each latent pulls on what is subtracted before encoding. That has to be read, and
//! multiplied with the encoder, before [`super::update::step`] changes the encoder.

use cubecl::prelude::*;

use super::{
    lists::{Lists, Term},
    residual::address,
    rows,
    scan::THREADS,
    spread::{add_x, add_y, column, is_column},
    tree,
};
use crate::{
    Runtime,
    card::{Card, Floats, cubes, units},
};

/// Columns of a segment's sum that one thread holds.
const COLUMNS: usize = 4;
const STRIP: usize = THREADS * COLUMNS;

/// The rows that gradients are made of.
#[derive(Debug, Clone)]
pub struct Batch {
    /// What is encoded, `[rows, d_in]`.
    pub x: Floats,
    /// What is subtracted before encoding, `[d_in]`.
    pub centre: Floats,
    /// Width of `y` and of atoms.
    pub d_out: usize,
    /// What atoms are pulled towards: parts of `part` rows each, `[parts · part, d_out]`.
    pub y: Floats,
    /// At least the rows of `x`.
    pub part: usize,
    /// The terms of the loss, each with one of the parts or none.
    pub terms: Vec<Term>,
}

/// A batch made ready for a step.
#[derive(Debug)]
pub struct Gathered {
    pub(super) batch: Batch,
    pub(super) lists: Lists,
    /// Rows of `y`.
    pub(super) y_rows: usize,
    /// Whether any pair is of another part than the first.
    pub(super) parts: bool,
    /// Sums of segments, `[most, d_in + d_out + 1]`: of the encoder's row, of the atom's, of `through`.
    pub(super) sums: Floats,
    /// `Σ encoder` of every latent, `[n]`: the gradient of `b_enc` but for a bias of its own, and what
    /// weights the rows of the encoder in the gradient of what is subtracted before encoding.
    pub through: Floats,
}

impl Gathered {
    /// For `n` latents.
    pub fn of<R: Runtime>(card: &Card<R>, batch: Batch, n: usize) -> Self {
        let y_parts = batch.y.len() / (batch.part * batch.d_out).max(1);
        let lists = Lists::of(card, &batch.terms, n, batch.part, y_parts);
        let gathered = Gathered {
            sums: card.room(lists.most * (batch.centre.len() + batch.d_out + 1)),
            lists,
            y_rows: y_parts * batch.part,
            parts: batch.terms.iter().any(|term| term.y.len() != 1 || term.y[0].1 > 0),
            through: card.room(n),
            batch,
        };
        gathered.sum_segments(card);
        gathered.sum_through(card, n);
        gathered
    }

    /// Multiplies what pairs weigh.
    pub fn scale<R: Runtime>(&self, card: &Card<R>, factor: f32) {
        let Lists { decoder, encoder, .. } = &self.lists;
        for numbers in [decoder, encoder, &self.sums, &self.through] {
            rows::scale(card, numbers, factor);
        }
    }

    fn sum_segments<R: Runtime>(&self, card: &Card<R>) {
        let (lists, d_in, d_out) = (&self.lists, self.batch.centre.len(), self.batch.d_out);
        let strips = d_in.div_ceil(STRIP) + d_out.div_ceil(STRIP);
        if lists.most == 0 {
            return;
        }
        segment_sums::launch::<R>(
            card.client(),
            cubes(lists.most * strips),
            units(THREADS as u32),
            address([&self.batch.x, &self.batch.y, &self.sums]),
            lists.starts.arg(),
            lists.segments.arg(),
            lists.owners.arg(),
            lists.rows.arg(),
            lists.decoder.arg(),
            lists.encoder.arg(),
            self.batch.x.arg(),
            self.batch.centre.arg(),
            self.batch.y.arg(),
            self.sums.arg(),
            lists.segments.len() - 1,
            lists.segment,
            self.batch.part,
            self.y_rows,
            d_in,
            d_out,
            self.parts,
        );
    }

    fn sum_through<R: Runtime>(&self, card: &Card<R>, n: usize) {
        through_sums::launch::<R>(
            card.client(),
            cubes(n.div_ceil(GROUPS)),
            units(THREADS as u32),
            address([&self.sums]),
            self.lists.starts.arg(),
            self.lists.segments.arg(),
            self.lists.encoder.arg(),
            self.sums.arg(),
            self.through.arg(),
            n,
            self.batch.centre.len() + self.batch.d_out + 1,
        );
    }
}

/// One cube per segment and strip of columns, first those of the encoder, then those of the atom.
#[cube(launch, address_type = "dynamic")]
fn segment_sums(
    starts: &Array<u32>,
    segments: &Array<u32>,
    owners: &Array<u32>,
    rows: &Array<u32>,
    decoder: &Array<f32>,
    encoder: &Array<f32>,
    x: &Array<f32>,
    centre: &Array<f32>,
    y: &Array<f32>,
    sums: &mut Array<f32>,
    n: usize,
    segment: usize,
    part: usize,
    y_rows: usize,
    d_in: usize,
    d_out: usize,
    #[comptime] parts: bool,
) {
    let of_encoder = (d_in + STRIP - 1) / STRIP;
    let strips = of_encoder + (d_out + STRIP - 1) / STRIP;
    let (number, strip) = (CUBE_POS / strips, CUBE_POS % strips);
    if number >= segments[n] as usize {
        terminate!();
    }
    let latent = owners[number] as usize;
    let from = starts[latent] as usize + (number - segments[latent] as usize) * segment;
    let end = starts[latent + 1] as usize;
    let to = select(from + segment < end, from + segment, end);
    let mut sum = Array::<f32>::new(COLUMNS);
    #[unroll]
    for j in 0..COLUMNS {
        sum[j] = 0.0f32;
    }
    let into = number * (d_in + d_out + 1);
    if strip == 0 {
        let mut weight = 0.0f32;
        let mut p = from + UNIT_POS as usize;
        while p < to {
            weight += encoder[p];
            p += THREADS;
        }
        let mut lanes = SharedMemory::<f32>::new(THREADS);
        let weight = tree::total(weight, &mut lanes, THREADS);
        if UNIT_POS == 0 {
            sums[into + d_in + d_out] = weight;
        }
    }
    if strip < of_encoder {
        let first = strip * STRIP;
        add_x(&mut sum, from, to, rows, encoder, x, centre, part, first, d_in, COLUMNS, THREADS, parts);
        #[unroll]
        for j in 0..COLUMNS {
            if is_column(first, d_in, j, THREADS) {
                sums[into + column(first, d_in, j, THREADS)] = sum[j];
            }
        }
    } else {
        let first = (strip - of_encoder) * STRIP;
        add_y(&mut sum, from, to, rows, decoder, y, y_rows, first, d_out, COLUMNS, THREADS);
        #[unroll]
        for j in 0..COLUMNS {
            if is_column(first, d_out, j, THREADS) {
                sums[into + d_in + column(first, d_out, j, THREADS)] = sum[j];
            }
        }
    }
}

/// Latents of a cube, of [`LANES`] threads each.
const GROUPS: usize = THREADS / LANES;
const LANES: usize = 32;

/// Each lane adds every 32nd weight of the list, or every 32nd segment's sum of them, and lanes are added in
/// order.
#[cube(launch, address_type = "dynamic")]
fn through_sums(
    starts: &Array<u32>,
    segments: &Array<u32>,
    encoder: &Array<f32>,
    sums: &Array<f32>,
    through: &mut Array<f32>,
    n: usize,
    width: usize,
) {
    let unit = UNIT_POS as usize;
    let lane = unit % LANES;
    let latent = CUBE_POS * GROUPS + unit / LANES;
    let mut part = SharedMemory::<f32>::new(THREADS);
    let mut sum = 0.0f32;
    if latent < n {
        let (first, last) = (segments[latent] as usize, segments[latent + 1] as usize);
        let mut segment = first + lane;
        while segment < last {
            sum += sums[(segment + 1) * width - 1];
            segment += LANES;
        }
        let mut p = starts[latent] as usize + lane;
        while first == last && p < starts[latent + 1] as usize {
            sum += encoder[p];
            p += LANES;
        }
    }
    part[unit] = sum;
    sync_cube();
    let mine = CUBE_POS * GROUPS + unit;
    if unit < GROUPS && mine < n {
        let mut all = 0.0f32;
        #[unroll]
        for lane in 0..LANES {
            all += part[unit * LANES + lane];
        }
        through[mine] = all;
    }
}
