//! What is measured of projects.

use std::sync::Arc;

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
