//! Dictionaries on top of each other: what codes of the top level decode to, and the way back.

use crate::kernels::{Path, Real, product::Panels};

/// One dictionary of the stack.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Level<R> {
    pub(super) n: usize,
    pub(super) width: usize,
    /// `[n, width]`, norm at most 1.
    pub(super) atoms: Vec<R>,
}

/// Levels, the one next to the data first. The codes of a level are the rows of the one below it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stack<R> {
    pub(super) levels: Vec<Level<R>>,
    /// `max(0, ·)` between levels, and codes that are not negative; otherwise nothing.
    pub(super) relu: bool,
}

impl<R: Real> Stack<R> {
    /// Codes of the top level.
    pub(super) fn n_latents(&self) -> usize {
        self.levels.last().map_or(0, |level| level.n)
    }

    /// Ready for products with the lowest `levels`.
    pub(super) fn packed(&self, path: Path, levels: usize) -> Packed<R> {
        let of = |level: &Level<R>| PackedLevel {
            n: level.n,
            width: level.width,
            down: Panels::of_columns(&level.atoms, level.width),
            up: Panels::of_rows(&level.atoms, level.width),
        };
        Packed { path, relu: self.relu, levels: self.levels[..levels].iter().map(of).collect() }
    }
}

/// A level as the right side of products with it and with its transpose.
#[derive(Debug)]
pub(super) struct PackedLevel<R> {
    pub(super) n: usize,
    pub(super) width: usize,
    down: Panels<R>,
    up: Panels<R>,
}

/// Some levels, ready for products.
#[derive(Debug)]
pub(super) struct Packed<R> {
    path: Path,
    relu: bool,
    pub(super) levels: Vec<PackedLevel<R>>,
}

/// What codes become on their way down.
#[derive(Debug)]
pub(super) struct Pass<R> {
    /// What enters each level, before the link, `[rows, n]`; the codes are the last.
    pub(super) entering: Vec<Vec<R>>,
    /// The reconstruction, `[rows, d_in]`.
    pub(super) x_hat: Vec<R>,
}

/// Rounds of the power iteration; what it is too low by, a row's first refused step makes up for.
const POWER_ROUNDS: usize = 24;

impl<R: Real> Packed<R> {
    /// Number of rows in `codes` of the top level.
    fn rows(&self, codes: &[R]) -> usize {
        codes.len() / self.levels.last().map_or(1, |level| level.n.max(1))
    }

    /// Whether the link is `max(0, ·)`.
    pub(super) fn is_relu(&self) -> bool {
        self.relu
    }

    /// What goes into a level: its codes after the link.
    pub(super) fn linked(&self, entering: &[R]) -> Vec<R> {
        let link = |&v: &R| if self.relu && v < R::ZERO { R::ZERO } else { v };
        entering.iter().map(link).collect()
    }

    /// Down through all levels; `codes` is `[rows, n_latents]`.
    pub(super) fn forward(&self, codes: Vec<R>) -> Pass<R> {
        let rows = self.rows(&codes);
        let (mut entering, mut last) = (Vec::new(), codes);
        for level in self.levels.iter().rev() {
            let mut below = vec![R::ZERO; rows * level.width];
            level.down.times(self.path, &self.linked(&last), &mut below);
            entering.push(std::mem::replace(&mut last, below));
        }
        entering.reverse();
        Pass { entering, x_hat: last }
    }

    /// Minus the gradient of `½‖x − x_hat‖²` with respect to what enters level `to`, `[rows, n]`, from
    /// `e = x − x_hat`. At 0 the derivative of the link is 1: codes that are zero can grow.
    pub(super) fn pull(&self, pass: &Pass<R>, e: &[R], to: usize) -> Vec<R> {
        let (mut g, top) = (e.to_vec(), self.levels.len() - 1);
        for (at, level) in self.levels.iter().enumerate().take(to + 1) {
            let mut above = vec![R::ZERO; g.len() / level.width.max(1) * level.n];
            level.up.times(self.path, &g, &mut above);
            if self.relu && at < top {
                let dead = |(g, &u): (&mut R, &R)| {
                    if u < R::ZERO {
                        *g = R::ZERO
                    }
                };
                above.iter_mut().zip(&pass.entering[at]).for_each(dead);
            }
            g = above;
        }
        g
    }

    /// The largest eigenvalue of `D·Dᵀ` of the composed levels without links: with it, the quadratic
    /// about any codes lies above the error as long as no unit changes sides. At least 1e-12.
    pub(super) fn curvature(&self) -> R {
        let n = self.levels.last().map_or(0, |level| level.n);
        let linear = |v: Vec<R>| {
            let down = self
                .levels
                .iter()
                .rev()
                .fold(v, |v, level| level.through(self.path, &level.down, level.width, &v));
            self.levels.iter().fold(down, |v, level| level.through(self.path, &level.up, level.n, &v))
        };
        // Not orthogonal to anything in particular.
        let mut v: Vec<R> = (0..n).map(|j| R::of(1.0 + 0.5 * (j as f64 * 0.7).sin())).collect();
        let mut value = 0f64;
        for _ in 0..POWER_ROUNDS {
            let norm = v.iter().map(|v| v.f64() * v.f64()).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            v = linear(v.iter().map(|&v| R::of(v.f64() / norm)).collect());
            value = v.iter().map(|v| v.f64() * v.f64()).sum::<f64>().sqrt();
        }
        R::of((1.02 * value).max(1e-12))
    }
}

impl<R: Real> PackedLevel<R> {
    fn through(&self, path: Path, panels: &Panels<R>, width: usize, v: &[R]) -> Vec<R> {
        let mut out = vec![R::ZERO; width];
        panels.times(path, v, &mut out);
        out
    }
}
