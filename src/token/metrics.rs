//! What is measured of projects.

use std::sync::Arc;
use std::time::Duration;

use super::keyring::Project;
use crate::metric::Metric;

/// The projects.
pub const PROJECTS: &[Metric<[Arc<Project>]>] = &[Metric::gauge(
    "wbg_project_refused",
    "1 while the whiteboard service takes none of the tokens of a project",
    &["project"],
    |projects, out| {
        for project in projects {
            out.add(&[&project.name], project.acceptance.refused_since_ms().is_some());
        }
    },
)];

/// The projects that have a fixed SDK token which ends.
pub const SDK_TOKENS: &[Metric<[Arc<Project>]>] = &[Metric::gauge(
    "wbg_sdk_token_end_time_seconds",
    "When the fixed SDK token of a project ends, in Unix time",
    &["project"],
    |projects, out| {
        for project in projects {
            if let Some(end) = project.ends_at_ms() {
                out.add(&[&project.name], Duration::from_millis(end).as_secs_f64());
            }
        }
    },
)];
