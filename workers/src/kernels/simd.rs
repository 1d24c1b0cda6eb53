//! Which vector instructions run. All paths give the same bits; only their speed differs.

/// A set of vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// AVX-512F, 16 floats.
    Avx512,
    /// AVX2 and FMA, 8 floats.
    Avx2,
    /// Whatever the compilation target has; fused multiply-add may be a library call.
    Portable,
}

impl Path {
    /// The widest path this machine has.
    pub fn best() -> Path {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
                return Path::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Path::Avx2;
            }
        }
        Path::Portable
    }

    /// The word for it in records.
    pub const fn name(self) -> &'static str {
        match self {
            Path::Avx512 => "avx512",
            Path::Avx2 => "avx2",
            Path::Portable => "portable",
        }
    }

    /// Every path this machine can run, for tests.
    pub fn available() -> Vec<Path> {
        match Path::best() {
            Path::Avx512 => vec![Path::Avx512, Path::Avx2, Path::Portable],
            Path::Avx2 => vec![Path::Avx2, Path::Portable],
            Path::Portable => vec![Path::Portable],
        }
    }
}

/// Something to run under one of the paths. `run` must be `#[inline(always)]`: it takes the vector
/// width of whoever it is inlined into.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// Does it.
    fn run(self) -> Self::Output;
}

impl Path {
    /// Runs `kernel` with the instructions of this path.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            // SAFETY: `best` and `available` hand these paths out only where the machine has them,
            // and the guard turns any other use into the portable path.
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 if Path::has(Path::Avx512) => unsafe { avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 if Path::has(Path::Avx2) => unsafe { avx2(kernel) },
            _ => kernel.run(),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn has(path: Path) -> bool {
        // std caches the CPUID answer: one load and a mask.
        is_x86_feature_detected!("fma")
            && match path {
                Path::Avx512 => is_x86_feature_detected!("avx512f"),
                Path::Avx2 => is_x86_feature_detected!("avx2"),
                Path::Portable => true,
            }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}
