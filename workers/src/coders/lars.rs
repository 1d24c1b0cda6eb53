//! The lasso by least angle regression (Efron et al. 2004): the whole path of solutions from `λ = ∞` down
//! to the `λ` that is asked for. Exact up to rounding; one atom enters or leaves per step.

use super::{
    Coder, Gram, Room,
    peak::{largest, size},
};
use crate::{
    kernels::{Real, vector},
    linear::cholesky::Cholesky,
};

/// `min ½‖x − αD‖² + λ‖α‖₁`.
#[derive(Debug, Clone, Copy)]
pub struct Lars<R> {
    /// Weight of `‖α‖₁`.
    pub lambda: R,
    /// Coefficients are not negative.
    pub positive: bool,
}

/// What ends a piece of the path.
#[derive(Clone, Copy, PartialEq)]
enum Event {
    /// This latent enters.
    Enter(usize),
    /// The latent at this place of the support leaves.
    Leave(usize),
    /// The `λ` that was asked for is reached.
    Done,
}

/// The path so far.
struct Walk<R> {
    factor: Cholesky<R>,
    /// The present `λ`.
    level: R,
    /// Latents that may not enter: those in the support and combinations of them.
    barred: Vec<bool>,
    /// The latent that left last: rounding would let it come back in the very next step.
    gone: Option<usize>,
}

impl<R: Real> Coder<R> for Lars<R> {
    #[inline(always)]
    fn code(&self, gram: Gram<R>, q: &mut [R], room: &mut Room<R>) {
        room.clear();
        let Some((first, level)) = largest(q, self.positive, self.lambda) else { return };
        let mut walk = Walk { factor: Cholesky::default(), level, barred: vec![false; q.len()], gone: None };
        walk.enter(gram, first, room);
        for _ in 0..8 * q.len() + 8 {
            let (direction, along) = walk.direction(gram, q, room);
            let (length, event) = self.next(&walk, q, room, &direction, &along);
            if length < R::ZERO || !length.is_finite() {
                break;
            }
            for (value, &w) in room.values.iter_mut().zip(&direction) {
                *value = length.fma(w, *value);
            }
            vector::axpy(-length, &along, q);
            walk.level = walk.level - length;
            match event {
                Event::Enter(j) => walk.enter(gram, j, room),
                Event::Leave(at) => walk.leave(gram, at, room),
                Event::Done => break,
            }
            room.scratch[0] = direction;
            room.scratch[1] = along;
        }
    }
}

impl<R: Real> Walk<R> {
    #[inline(always)]
    fn enter(&mut self, gram: Gram<R>, j: usize, room: &mut Room<R>) {
        let at = room.latents.len();
        room.admit(gram, j);
        let row = room.row(gram, at);
        if !self.factor.push(room.latents[..at].iter().map(|&l| row[l as usize]), row[j]) {
            room.dismiss(gram, at);
        }
        self.barred[j] = true;
        self.gone = None;
    }

    /// Takes a latent out.
    #[inline(always)]
    fn leave(&mut self, gram: Gram<R>, at: usize, room: &mut Room<R>) {
        self.gone = Some(room.latents[at] as usize);
        room.dismiss(gram, at);
        self.factor.clear();
        self.barred.fill(false);
        for at in 0..room.latents.len() {
            let row = room.row(gram, at);
            let cross = room.latents[..at].iter().map(|&l| row[l as usize]);
            self.factor.push(cross, row[room.latents[at] as usize]);
            self.barred[room.latents[at] as usize] = true;
        }
    }

    /// Along which all chosen products shrink alike, and how all products then change.
    #[inline(always)]
    fn direction(&self, gram: Gram<R>, q: &[R], room: &mut Room<R>) -> (Vec<R>, Vec<R>) {
        let (mut direction, mut along) =
            (std::mem::take(&mut room.scratch[0]), std::mem::take(&mut room.scratch[1]));
        direction.clear();
        for &latent in &room.latents {
            direction.push(if q[latent as usize] > R::ZERO { R::ONE } else { -R::ONE });
        }
        self.factor.solve(&mut direction);
        along.clear();
        along.resize(q.len(), R::ZERO);
        for (at, &w) in direction.iter().enumerate() {
            vector::axpy(w, room.row(gram, at), &mut along);
        }
        (direction, along)
    }
}

impl<R: Real> Lars<R> {
    /// How far the direction holds, and what happens there.
    #[inline(always)]
    fn next(&self, walk: &Walk<R>, q: &[R], room: &Room<R>, direction: &[R], along: &[R]) -> (R, Event) {
        let (mut length, mut event) = (walk.level - self.lambda, Event::Done);
        for (at, (&value, &w)) in room.values.iter().zip(direction).enumerate() {
            let until = -value / w;
            if until > R::ZERO && until < length {
                (length, event) = (until, Event::Leave(at));
            }
        }
        for (j, (&q, &a)) in q.iter().zip(along).enumerate() {
            if !walk.barred[j] && walk.gone != Some(j) {
                let until = self.until_level(walk.level, q, a);
                if until < length {
                    (length, event) = (until, Event::Enter(j));
                }
            }
        }
        (length, event)
    }

    /// When `|q − t·a|` meets `level − t`. Rounding can put `q` a little above: then at once.
    #[inline(always)]
    fn until_level(&self, level: R, q: R, a: R) -> R {
        let (up, down) = ((level - q) / (R::ONE - a), (level + q) / (R::ONE + a));
        let far = R::of(f64::INFINITY);
        let ahead = |t: R, closing: R| {
            if closing > R::ZERO && t.is_finite() { if t > R::ZERO { t } else { R::ZERO } } else { far }
        };
        let (up, down) = (ahead(up, R::ONE - a), ahead(down, R::ONE + a));
        if size(q, self.positive) >= level {
            R::ZERO
        } else if self.positive || up < down {
            up
        } else {
            down
        }
    }
}
