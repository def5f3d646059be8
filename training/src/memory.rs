//! What becomes of memory that training gives back.
#![allow(unsafe_code)] // `mallopt`, which is of C

/// Keeps freed memory for the next request instead of giving it back to the system; call it before other threads start.
///
/// A step of training asks for the same feature maps as the one before, some of them tens of megabytes. glibc gives such
/// pieces back at once and asks for them anew, and the system clears every page on first touch: a tenth of the time
/// of an epoch on two cores. Other allocators are left as they are.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_MMAP_MAX, 0),
        (libc::M_TRIM_THRESHOLD, -1),
        (libc::M_ARENA_MAX, 1),
    ] {
        // SAFETY: sets a parameter of the allocator under its own lock; a value that it refuses changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}
