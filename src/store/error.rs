//! The error of a store that does not do what it is asked for.

/// The store did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It is known not to answer, so it was not asked.
    #[error("the store is known not to answer")]
    Down,
    /// It has not answered in time.
    #[error("the store has not answered in time")]
    Late,
    /// It answered with an error, or the connection broke.
    #[error("the store has failed")]
    Failed,
}
