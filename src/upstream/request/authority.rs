//! Whether a request may still be sent, which is for whoever let it in to say.
//!
//! It is asked right before each sending, after whatever was waited for: a body, a retry, a
//! connection. Nothing here knows what allows a request.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::failure::Failure;

/// What allows a request, as long as it does.
pub trait Authority {
    /// Whether it still does: cheap where nothing changed.
    ///
    /// # Errors
    /// [`Failure::superseded`].
    fn check(&self) -> Result<(), Failure>;

    /// Whether the caller has ended its side. It may be there still, to read its answer, but nothing is
    /// known of that: so it is answered, and nothing is retried for it.
    fn is_half_closed(&self) -> bool;

    /// The same, for a request that has to wait for a connection.
    fn keep(&self) -> Rc<dyn Authority>;
}

/// What allows a request whose body passes through: it cannot begin again.
pub trait FinalCheck {
    /// `None` where nothing changed; else whether what counts now allows the request as well.
    fn look(self: Rc<Self>) -> Option<PendingCheck>;
}

/// A look that takes its time.
pub type PendingCheck = Pin<Box<dyn Future<Output = bool>>>;
