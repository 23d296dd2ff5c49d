//! What the admin listener has beside the sandbox, and nowhere else.

use std::sync::Arc;

use serde_json::Value;

use super::try_page::TryPage;

/// The sandbox, as operators see it and make it fail.
pub trait SandboxControl: Send + Sync {
    /// The last requests that it received, newest first.
    fn requests(&self) -> Value;

    /// The fault that is set.
    fn fault(&self) -> Value;

    /// Sets a fault in place of the one that is set.
    ///
    /// # Errors
    /// What is wrong with it.
    fn set_fault(&self, fault: &Value) -> Result<Value, String>;

    /// Sets none any more.
    fn clear_fault(&self) -> Value;
}

/// What there is beside the sandbox.
#[derive(Clone)]
pub struct BesideSandbox {
    /// The page to try the API on.
    pub try_page: Option<TryPage>,
    /// The sandbox itself.
    pub control: Arc<dyn SandboxControl>,
}
