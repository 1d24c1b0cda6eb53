//! Asking for memory before it is needed.

/// Asks the processor to bring `row` into its second-level cache. Changes no value.
#[inline(always)]
pub fn soon<R>(row: &[R]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(64 / size_of::<R>().max(1)) {
        // SAFETY: a prefetch reads nothing and faults on nothing; SSE is part of x86-64.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(line.as_ptr().cast())
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}
