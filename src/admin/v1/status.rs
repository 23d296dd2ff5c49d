//! `GET /admin/v1/status`: what runs, and whether it is well.

use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::admin::context::AdminContext;
use crate::admin::process_status::ProcessStatus;
use crate::admin::{budgets, render};
use crate::failure::Failure;

pub(super) async fn status(context: &AdminContext) -> Result<Response<Bytes>, Failure> {
    context.pages.status.get(async { render::json(&describe(&context.status).await) }).await
}

async fn describe(status: &ProcessStatus) -> Value {
    let mut detail = status.describe();
    let snapshot = status.snapshots.load_full();
    detail["budgets"] = match budgets::page(&snapshot).await {
        Ok(page) => page,
        Err(failure) => json!({ "error": failure.message() }),
    };
    detail["time"] = Timestamp::now().to_string().into();
    detail
}
