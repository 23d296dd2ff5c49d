//! `/admin/v1/sandbox`: what the sandbox received, and its fault switch. Without a sandbox there is no
//! such path.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::route::Asked;
use crate::admin::context::AdminContext;
use crate::admin::render;
use crate::admin::sandbox::SandboxControl;
use crate::failure::{Code, Failure};

pub(super) fn show(context: &AdminContext) -> Result<Response<Bytes>, Failure> {
    let sandbox = control(context)?;
    Ok(render::json(&json!({ "fault": sandbox.fault(), "requests": sandbox.requests() })))
}

pub(super) fn set(context: &AdminContext, asked: &Asked<'_>) -> Result<Response<Bytes>, Failure> {
    let fault = asked.body.object("fault").cloned().map(Value::Object).unwrap_or_default();
    let set = control(context)?.set_fault(&fault);
    Ok(render::json(&set.map_err(|why| Failure::new(Code::InvalidBody, why))?))
}

pub(super) fn clear(context: &AdminContext) -> Result<Response<Bytes>, Failure> {
    Ok(render::json(&control(context)?.clear_fault()))
}

fn control(context: &AdminContext) -> Result<&dyn SandboxControl, Failure> {
    let none = || Failure::fixed(Code::NotFound, "this gateway runs without a sandbox");
    Ok(&*context.sandbox.as_ref().ok_or_else(none)?.control)
}
