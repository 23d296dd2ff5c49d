//! Threads behind queues: each does one kind of thing that may take long, such as writing to a disk, and
//! what it is to do comes through a queue, so that no worker waits for it.
//!
//! Where they run is decided when they are started: on a thread of their own, or, for what is started
//! on a thread that has an [`Executor`], wherever that runs them. A [simulation] decides so when a disk
//! takes something, as it decides what time it is.
//!
//! [simulation]: https://github.com/agora/whiteboard-gateway/blob/main/docs/simulation.md

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::thread::{Builder, JoinHandle};

/// What is done with what comes through a queue.
pub trait Background: Send + 'static {
    /// Does all of it, until no more can come.
    fn run(&mut self);

    /// Does what there is, and waits for nothing; `false` when no more can come.
    fn step(&mut self) -> bool;
}

/// Runs what is started on a thread, in place of threads of their own. It is given its name.
pub type Executor = Rc<dyn Fn(&str, Box<dyn Background>)>;

thread_local! {
    static EXECUTOR: RefCell<Option<Executor>> = const { RefCell::new(None) };
}

/// From now on this runs what is started on the thread of whoever calls; `None` for threads of their
/// own again.
pub fn run_by(executor: Option<Executor>) {
    EXECUTOR.set(executor);
}

/// Starts it, under this name. There is no thread to wait for where another runs it.
///
/// # Errors
/// When the process may have no more threads.
pub(crate) fn start(name: &str, mut work: impl Background) -> io::Result<Option<JoinHandle<()>>> {
    if let Some(executor) = EXECUTOR.with_borrow(Clone::clone) {
        executor(name, Box::new(work));
        return Ok(None);
    }
    Builder::new().name(name.to_owned()).spawn(move || work.run()).map(Some)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, TryRecvError, channel};
    use std::thread;

    use super::*;

    /// Counts what comes, and says by whom.
    struct Count(Receiver<()>, std::sync::mpsc::Sender<Option<String>>);

    impl Count {
        fn tell(&self) {
            _ = self.1.send(thread::current().name().map(ToOwned::to_owned));
        }
    }

    impl Background for Count {
        fn run(&mut self) {
            while self.0.recv().is_ok() {
                self.tell();
            }
        }

        fn step(&mut self) -> bool {
            loop {
                match self.0.try_recv() {
                    Ok(()) => self.tell(),
                    Err(why) => return why == TryRecvError::Empty,
                }
            }
        }
    }

    #[test]
    fn it_has_a_thread_of_its_own_unless_another_runs_it() {
        let ((queue, work), (told, by)) = (channel(), channel());
        start("counter", Count(work, told)).unwrap().unwrap();
        queue.send(()).unwrap();
        assert_eq!(by.recv().unwrap().as_deref(), Some("counter"));

        let started: Rc<RefCell<Vec<Box<dyn Background>>>> = Rc::default();
        let keeps = Rc::clone(&started);
        run_by(Some(Rc::new(move |_, work| keeps.borrow_mut().push(work))));
        let ((queue, work), (told, by)) = (channel(), channel());
        assert!(start("counter", Count(work, told)).unwrap().is_none());
        run_by(None);
        queue.send(()).unwrap();
        assert!(by.try_recv().is_err(), "nobody has run it");
        assert!(started.borrow_mut()[0].step());
        assert_eq!(by.try_recv().unwrap().as_deref(), thread::current().name());
        drop(queue);
        assert!(!started.borrow_mut()[0].step());
    }
}
