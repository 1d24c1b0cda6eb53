//! Page-locked memory: a card copies from it while it computes, and while the threads here go on.
//!
//! CubeCL 0.10 copies from ordinary memory whatever it is given, so this goes beneath it, in the same context of the
//! card but in a queue of its own. There are two pieces: one is filled while the other one is on its way.

use cubecl::cuda::CudaRuntime;
use cudarc::driver::{
    DriverError,
    result::{ctx, device, event, free_host, malloc_host, memcpy_htod_async, primary_ctx, stream},
    sys::{CUcontext, CUdevice, CUevent, CUevent_flags, CUstream},
};

use crate::{
    card::{Card, Ints, Lost},
    shield::shielded,
    wire::{PIECE_WORDS, Staging, Take},
};

/// Takes memory for the card of this number.
pub(super) fn take(index: i32) -> Take<CudaRuntime> {
    Box::new(move || {
        // A driver may lack a function, which the bindings panic at.
        let pinned = shielded(|| Pinned::new(index))?;
        pinned.map(|pinned| Box::new(pinned) as _).map_err(|error| format!("{error:?}"))
    })
}

/// Fields are given back in their order, the context last.
#[derive(Debug)]
struct Pinned {
    pieces: [Piece; 2],
    /// The piece that is filled next.
    next: usize,
    queue: Queue,
    /// Where on the card the copies go, and how many words there are.
    to: (u64, usize),
    context: Context,
}

// SAFETY: all that is pointed at belongs to this value alone, and the driver takes it from any thread that has entered
// the context, as every method does first.
unsafe impl Send for Pinned {}

impl Pinned {
    fn new(index: i32) -> Result<Self, DriverError> {
        let context = Context::of(index)?;
        context.enter()?;
        let queue = Queue(stream::create(stream::StreamKind::NonBlocking)?);
        Ok(Pinned { pieces: [Piece::new()?, Piece::new()?], next: 0, queue, to: (0, 0), context })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A context that cannot be entered any more has given everything back by itself.
        let _gone = self.context.enter();
    }
}

impl Staging<CudaRuntime> for Pinned {
    fn towards(&mut self, card: &Card<CudaRuntime>, there: &Ints) -> Result<(), Lost> {
        let place = shielded(|| card.client().get_resource(there.handle().clone())).map_err(Lost)?;
        let place = place.map_err(|error| Lost(error.to_string()))?;
        self.to = (place.resource().ptr, there.len());
        // Memory is given out in the order of the queue of `card`, and may be had in another one after that.
        card.sync()
    }

    fn copy(
        &mut self,
        at: usize,
        words: usize,
        fill: &mut dyn FnMut(&mut [u32]) -> bool,
    ) -> Result<bool, Lost> {
        let (to, room) = self.to;
        if words > PIECE_WORDS || at + words > room {
            return Err(Lost(format!("{words} words at {at} of {room} do not fit")));
        }
        self.context.enter().map_err(lost)?;
        let piece = &mut self.pieces[self.next];
        // SAFETY: the event is the piece's own; one that was never noted is over.
        unsafe { event::synchronize(piece.over) }.map_err(lost)?;
        // SAFETY: the piece has `PIECE_WORDS` words, which were written when it was made, and is not on its way.
        let here = unsafe { std::slice::from_raw_parts_mut(piece.words, words) };
        if !fill(here) {
            return Ok(false);
        }
        // SAFETY: `to` has `room` words, which nobody reads before `arrive`; the piece is left alone until `over`.
        let begun = unsafe { memcpy_htod_async(to + 4 * at as u64, here, self.queue.0) };
        // SAFETY: event and queue are this value's own.
        begun.and_then(|()| unsafe { event::record(piece.over, self.queue.0) }).map_err(lost)?;
        self.next = 1 - self.next;
        Ok(true)
    }

    fn arrive(&mut self) -> Result<(), Lost> {
        self.context.enter().map_err(lost)?;
        // SAFETY: the queue is this value's own.
        unsafe { stream::synchronize(self.queue.0) }.map_err(lost)
    }
}

fn lost(error: DriverError) -> Lost {
    Lost(format!("the copy of rows: {error:?}"))
}

/// The context of a card that CubeCL works in as well.
#[derive(Debug)]
struct Context {
    card: CUdevice,
    context: CUcontext,
}

impl Context {
    fn of(index: i32) -> Result<Self, DriverError> {
        let card = device::get(index)?;
        // SAFETY: `card` is what `get` returned; released once, below.
        let context = unsafe { primary_ctx::retain(card) }?;
        Ok(Context { card, context })
    }

    /// Makes it that of this thread.
    fn enter(&self) -> Result<(), DriverError> {
        // SAFETY: it is held until the end of this value.
        unsafe { ctx::set_current(self.context) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, above.
        let _gone = unsafe { primary_ctx::release(self.card) };
    }
}

#[derive(Debug)]
struct Queue(CUstream);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made once and not used again; what is on its way is waited for first.
        let _gone = unsafe { stream::synchronize(self.0).and_then(|()| stream::destroy(self.0)) };
    }
}

#[derive(Debug)]
struct Piece {
    words: *mut u32,
    /// When the last copy from it is over.
    over: CUevent,
}

impl Piece {
    fn new() -> Result<Self, DriverError> {
        let over = event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        // SAFETY: no flags; given back once, below.
        match unsafe { malloc_host(4 * PIECE_WORDS, 0) } {
            Ok(memory) => {
                let words: *mut u32 = memory.cast();
                // SAFETY: it has so many words, aligned to pages.
                unsafe { words.write_bytes(0, PIECE_WORDS) };
                Ok(Piece { words, over })
            }
            Err(error) => {
                // SAFETY: made above and not used.
                let _gone = unsafe { event::destroy(over) };
                Err(error)
            }
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: both were made once, in `new`; what is on its way from it is waited for first.
        let _gone = unsafe {
            event::synchronize(self.over)
                .and_then(|()| event::destroy(self.over))
                .and(free_host(self.words.cast()))
        };
    }
}
