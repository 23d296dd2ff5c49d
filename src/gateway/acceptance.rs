//! What an answer of the service says about the tokens of a project.

use crate::failure::{Code, Failure};
use crate::token::Project;
use crate::upstream::Answered;

/// Notes whether the service took a token of the project. The first time that it took none is worth
/// a warning: every caller of the project fails then, and the cause is ours.
pub(super) fn note(project: &Project, answered: &Result<Answered, Failure>, at_ms: u64) {
    match answered {
        Ok(_) => project.acceptance.taken(),
        Err(failure) if failure.code() == Code::UpstreamCredential => {
            if project.acceptance.refused(at_ms) {
                let detail = failure.detail().unwrap_or_else(|| failure.message());
                tracing::warn!(
                    project = project.name,
                    detail,
                    "the service takes no token of this project: compare its AK and SK with the \
                     console, and look at the clock"
                );
            }
        }
        // It says nothing about the token.
        Err(_) => {}
    }
}
