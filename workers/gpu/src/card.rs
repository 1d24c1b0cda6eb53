//! A card and the memory on it.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
};

use cubecl::{
    bytes::Bytes,
    client::ComputeClient,
    future::block_on,
    prelude::{ArrayArg, CubeCount, CubeDim},
    server::{Handle, ServerError},
    stream_id::StreamId,
};

use crate::{Runtime, shield::shielded};

/// What a request to a card ended with. The card cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the card did not answer: {0}")]
pub struct Lost(pub String);

/// A card, ready to work.
#[derive(Clone)]
pub struct Card<R: Runtime> {
    client: ComputeClient<R>,
}

impl<R: Runtime> std::fmt::Debug for Card<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Card").field(&R::name(&self.client)).finish()
    }
}

/// Numbers on a card, one after the other, without gaps.
#[derive(Debug, Clone)]
pub struct Buffer<T> {
    handle: Handle,
    len: usize,
    number: PhantomData<T>,
}

/// Some devices want addresses that are multiples of 32 bytes: eight lines of anything begin at such.
const ALIGNED: usize = 8;

/// Activations, weights, values.
pub type Floats = Buffer<f32>;
/// Latents, rows, positions, counts.
pub type Ints = Buffer<u32>;

/// Number types that lie on a card as they lie in memory.
pub trait Plain: Copy + Send + Sync + 'static {
    /// The numbers as bytes.
    fn bytes(numbers: &[Self]) -> &[u8];
    /// Bytes as numbers.
    fn numbers(bytes: &[u8]) -> Vec<Self>;

    /// Bytes of so many numbers: whole words, and never none.
    fn room(len: usize) -> usize {
        (len * size_of::<Self>()).next_multiple_of(4).max(4)
    }
}

impl<T: bytemuck::Pod + Send + Sync> Plain for T {
    fn bytes(numbers: &[T]) -> &[u8] {
        bytemuck::cast_slice(numbers)
    }

    fn numbers(bytes: &[u8]) -> Vec<T> {
        bytemuck::pod_collect_to_vec(bytes)
    }
}

impl<R: Runtime> Card<R> {
    /// The card that the runtime calls `device`.
    pub fn open(device: &R::Device) -> Self {
        Card { client: R::client(device) }
    }

    /// The same card with a queue of orders of its own: otherwise every thread has one, and memory that one
    /// thread gave back is not there for another.
    #[must_use]
    pub fn with_own_stream(&self) -> Self {
        // Far from the numbers that threads count up from, also among the 128 queues that the runtime has.
        static NEXT: AtomicU64 = AtomicU64::new((1 << 32) + 64);
        let mut client = self.client.clone();
        let value = NEXT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the number is used here alone, and orders of one owner come one after the other.
        unsafe { client.set_stream(StreamId { value }) };
        Card { client }
    }

    /// Sends the orders so far on their way, and hears what has gone wrong.
    ///
    /// # Errors
    /// The card is lost.
    pub fn flush(&self) -> Result<(), Lost> {
        answer(|| self.client.flush())
    }

    /// Waits until all is done that was asked for.
    ///
    /// # Errors
    /// The card is lost.
    pub fn sync(&self) -> Result<(), Lost> {
        self.flush()?;
        answer(|| block_on(self.client.sync()))
    }

    /// Who takes orders for the card.
    pub fn client(&self) -> &ComputeClient<R> {
        &self.client
    }

    /// Copies `numbers` to the card.
    pub fn upload<T: Plain>(&self, numbers: &[T]) -> Buffer<T> {
        let mut bytes = T::bytes(numbers).to_vec();
        bytes.resize(T::room(numbers.len()), 0);
        let handle = self.client.create(Bytes::from_bytes_vec(bytes));
        Buffer { handle, len: numbers.len(), number: PhantomData }
    }

    /// Room for `len` numbers, with anything in it.
    pub fn room<T: Plain>(&self, len: usize) -> Buffer<T> {
        let handle = self.client.empty(T::room(len));
        Buffer { handle, len, number: PhantomData }
    }

    /// Copies numbers back, after everything that was asked for before.
    ///
    /// # Errors
    /// The card is lost.
    pub fn download<T: Plain>(&self, buffer: &Buffer<T>) -> Result<Vec<T>, Lost> {
        // A kernel that could not be started is only told of here.
        self.flush()?;
        let bytes = answer(|| self.client.read_one(buffer.handle.clone()))?;
        let mut numbers = T::numbers(&bytes);
        numbers.truncate(buffer.len);
        Ok(numbers)
    }
}

/// What the runtime says; it panics where the thread of the device is gone.
fn answer<T>(ask: impl FnOnce() -> Result<T, ServerError>) -> Result<T, Lost> {
    shielded(ask).map_err(Lost)?.map_err(|error| Lost(first(&error.to_string())))
}

/// What the runtime says first of all that went wrong since it was asked last, on one line.
fn first(text: &str) -> String {
    let text = text.split("Caused by:").last().unwrap_or(text);
    let text = text.split("Backtrace").next().unwrap_or(text);
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .trim_end_matches(['[', ' ', '\n'])
        .chars()
        .take(200)
        .collect()
}

impl<T> Buffer<T> {
    /// How many numbers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where they lie.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// As an argument of a kernel that takes words of 32 bits, whatever lies in them.
    pub fn words<R: Runtime>(&self) -> ArrayArg<R> {
        let words = (self.len * size_of::<T>()).div_ceil(4);
        // SAFETY: buffers have room for whole words, see `Plain::room`.
        unsafe { ArrayArg::from_raw_parts(self.handle.clone(), words) }
    }

    /// As an argument of a kernel.
    pub fn arg<R: Runtime>(&self) -> ArrayArg<R> {
        // SAFETY: the handle was made for `len` numbers of this size, see `upload` and `room`.
        unsafe { ArrayArg::from_raw_parts(self.handle.clone(), self.len) }
    }

    /// As an argument of a kernel that reads `size` numbers at once; what is left over at the end is cut off.
    pub fn vectors<R: Runtime>(&self, size: usize) -> ArrayArg<R> {
        // SAFETY: as in `arg`; the length of such an argument counts numbers.
        unsafe { ArrayArg::from_raw_parts(self.handle.clone(), self.len / size * size) }
    }
}

impl Ints {
    /// The same words as numbers of another kind.
    #[must_use]
    pub fn as_floats(&self) -> Floats {
        Buffer { handle: self.handle.clone(), len: self.len, number: PhantomData }
    }
}

impl<T: Plain> Buffer<T> {
    /// At least `lines` lines of `d` numbers from the line `first` on, and how many lines before that one the part
    /// begins: fewer than eight, so that it can be given to a kernel.
    pub fn lines(&self, first: usize, lines: usize, d: usize) -> (Buffer<T>, usize) {
        let skip = first % ALIGNED;
        (self.part((first - skip) * d, (skip + lines) * d), skip)
    }

    /// `len` numbers from `from` on, or as many of them as there are: the same memory. To be given to a kernel,
    /// `from` has to be a multiple of 32 bytes, which is what some devices want of an address.
    #[must_use]
    pub fn part(&self, from: usize, len: usize) -> Buffer<T> {
        let from = from.min(self.len);
        let len = len.min(self.len - from);
        let bytes = |numbers: usize| (numbers * size_of::<T>()) as u64;
        let handle = self.handle.clone().offset_start(bytes(from)).offset_end(bytes(self.len - from - len));
        Buffer { handle, len, number: PhantomData }
    }
}

/// So many cubes in two dimensions, since one alone ends at 65,535 on some devices. A kernel takes
/// `CUBE_POS` and leaves when that is not below the number it was started for.
pub fn cubes(count: usize) -> CubeCount {
    const MOST: usize = 32_768;
    let (count, most) = (count.max(1), MOST);
    let x = count.min(most);
    #[allow(clippy::cast_possible_truncation, reason = "both are far below 2^32")]
    CubeCount::Static(x as u32, count.div_ceil(x) as u32, 1)
}

/// So many threads in a cube.
pub fn units(count: u32) -> CubeDim {
    CubeDim::new_1d(count)
}
