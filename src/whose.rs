//! An output has threads of its own, and what they log is told as the output's.

use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// The name of the output that this thread works for, if it works for one.
    static OUTPUT: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// The work for an output, or for none: as long as this is there, the thread that has it does that.
#[must_use]
pub(crate) struct Work {
    /// The output that the thread worked for before.
    before: Option<Arc<str>>,
    /// It stays in its thread.
    _here: std::marker::PhantomData<*const ()>,
}

/// Returns the name of the output that this thread works for.
pub(crate) fn output() -> Option<Arc<str>> {
    // At the end of a thread there may be none any more.
    OUTPUT.try_with(|output| output.borrow().clone()).ok().flatten()
}

/// Begins work for the output of this name.
pub(crate) fn of_output(name: &str) -> Work {
    begin(Some(name.into()))
}

/// Has a new thread that will run this work for the same output as this one.
pub(crate) fn inherited<T>(run: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let output = output();
    move || {
        let _work = begin(output);
        run()
    }
}

fn begin(output: Option<Arc<str>>) -> Work {
    Work { before: OUTPUT.replace(output), _here: std::marker::PhantomData }
}

impl Drop for Work {
    fn drop(&mut self) {
        let before = self.before.take();
        let _ = OUTPUT.try_with(|output| output.replace(before));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn threads_work_for_whom_their_beginner_did() {
        assert_eq!(output(), None);
        let outer = of_output("a");
        {
            let _inner = of_output("b");
            assert_eq!(output().as_deref(), Some("b"));
            assert_eq!(thread::spawn(inherited(output)).join().unwrap().as_deref(), Some("b"));
        }
        assert_eq!(output().as_deref(), Some("a"));
        assert_eq!(thread::spawn(output).join().unwrap(), None);
        drop(outer);
        assert_eq!(output(), None);
    }
}
