//! Here a lock outlives a panic of its holder.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also where a thread has panicked with the lock: what it protects here is whole at all
/// times.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
