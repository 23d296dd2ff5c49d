//! One conversion: what was asked for, how far it is, and how each family of the API shows it.

use serde_json::{Map, Value, json};

use crate::sandbox::codes::{self, DOWNLOAD_FILE_FAILED, ErrorCode, FILE_DOWNLOAD_FAILED};

/// The pages of every result.
const PAGES: u64 = 3;

/// The size of a page, in pixels.
const PAGE: (u32, u32) = (1280, 720);

/// Which family of operations a task belongs to; each knows its own tasks alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sandbox) enum Family {
    /// `/v5/projector/tasks`.
    Projector,
    /// `/v5/services/conversion/tasks`, deprecated.
    Legacy,
}

/// What is made of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sandbox) enum ConversionKind {
    /// A web page.
    Dynamic,
    /// Images.
    Static,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct ConversionRequest<'a> {
    pub(in crate::sandbox) family: Family,
    pub(in crate::sandbox) region: &'a str,
    pub(in crate::sandbox) kind: ConversionKind,
    /// Where the results will be found.
    base: &'a str,
    preview: bool,
    pack: bool,
    format: &'a str,
    /// How it will fail.
    fails: Option<ErrorCode>,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConversionStep {
    Waiting,
    Converting { since_ms: u64 },
    Finished,
    Failed,
    Aborted,
}

/// A conversion.
pub(super) struct Task {
    pub(super) family: Family,
    pub(super) region: Box<str>,
    pub(super) kind: ConversionKind,
    pub(super) created_at_ms: u64,
    pub(super) step: ConversionStep,
    /// The address of the results, without the uuid.
    prefix: Box<str>,
    preview: bool,
    pack: bool,
    format: Box<str>,
    fails: Option<ErrorCode>,
}

impl ConversionKind {
    /// The kind of a checked `type`.
    pub(in crate::sandbox) fn of(word: Option<&str>) -> Self {
        if word == Some("dynamic") { Self::Dynamic } else { Self::Static }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Dynamic => "dynamic",
            Self::Static => "static",
        }
    }
}

impl<'a> ConversionRequest<'a> {
    #[cfg(test)]
    pub(super) fn new(family: Family, region: &'a str, kind: ConversionKind) -> Self {
        let (base, format) = ("http://h/files", "png");
        let (preview, pack, fails) = (false, false, None);
        Self { family, region, kind, base, preview, pack, format, fails }
    }

    /// Reads a body that has been checked.
    pub(in crate::sandbox) fn read(
        family: Family,
        region: &'a str,
        base: &'a str,
        body: &'a Map<String, Value>,
    ) -> Self {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let flag = |name: &str| body.get(name).and_then(Value::as_bool).unwrap_or_default();
        let kind = ConversionKind::of(text("type"));
        Self {
            family,
            region,
            kind,
            base,
            preview: flag("preview"),
            pack: flag("pack"),
            format: text("outputFormat").unwrap_or("png"),
            fails: failure(kind, text("resource").unwrap_or_default()),
        }
    }
}

/// How a resource fails to be converted: the path of its URL contains `fail`, for a source that
/// cannot be downloaded, or `fail-` and one of the documented codes. The host does not count, nor
/// does a signature in the query, which can hold any letters.
fn failure(kind: ConversionKind, resource: &str) -> Option<ErrorCode> {
    let path = resource.split(['?', '#']).next().unwrap_or_default();
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => path,
    };
    let (_, after) = path.split_once("fail")?;
    let digits = after.strip_prefix('-').and_then(|code| code.get(..7));
    Some(digits.and_then(codes::find).unwrap_or(match kind {
        ConversionKind::Dynamic => FILE_DOWNLOAD_FAILED,
        ConversionKind::Static => DOWNLOAD_FILE_FAILED,
    }))
}

impl Task {
    pub(super) fn new(order: &ConversionRequest<'_>, now_ms: u64) -> Self {
        let directory = match order.kind {
            ConversionKind::Dynamic => "dynamicConvert",
            ConversionKind::Static => "staticConvert",
        };
        Self {
            family: order.family,
            region: order.region.into(),
            kind: order.kind,
            created_at_ms: now_ms,
            step: ConversionStep::Waiting,
            prefix: format!("{}/{directory}", order.base).into(),
            preview: order.preview,
            pack: order.pack,
            format: order.format.into(),
            fails: order.fails,
        }
    }

    /// Begins, when it has waited for as long as a step takes and nothing else runs.
    pub(super) fn begin(&mut self, free_since_ms: u64, pace_ms: u64, now_ms: u64) -> bool {
        let since_ms = self.created_at_ms.saturating_add(pace_ms).max(free_since_ms);
        let begins = since_ms <= now_ms;
        if begins {
            self.step = ConversionStep::Converting { since_ms };
        }
        begins
    }

    /// Ends, when it has run for as long as a step takes: when that was. `None` while it runs.
    pub(super) fn end(&mut self, pace_ms: u64, now_ms: u64) -> Option<u64> {
        let ConversionStep::Converting { since_ms } = self.step else { return Some(now_ms) };
        let end_ms = since_ms.saturating_add(pace_ms);
        if end_ms > now_ms {
            return None;
        }
        self.step =
            if self.fails.is_some() { ConversionStep::Failed } else { ConversionStep::Finished };
        Some(end_ms)
    }

    /// Gives up; `false` when it has ended.
    pub(super) fn abort(&mut self) -> bool {
        let aborts =
            matches!(self.step, ConversionStep::Waiting | ConversionStep::Converting { .. });
        if aborts {
            self.step = ConversionStep::Aborted;
        }
        aborts
    }

    /// The answer to whoever started it.
    pub(super) fn started(&self, uuid: &str) -> Value {
        json!({ "uuid": uuid, "type": self.kind.as_str(), "status": self.status() })
    }

    /// The answer to whoever asks.
    pub(super) fn view(&self, uuid: &str, now_ms: u64, pace_ms: u64) -> Value {
        let mut view = self.started(uuid);
        let percentage = self.percentage(now_ms, pace_ms);
        if self.family == Family::Legacy {
            view["failedReason"] = self.error().map_or("", |(_, text)| text).into();
            view["progress"] = self.progress(uuid, percentage);
            return view;
        }
        match self.step {
            ConversionStep::Waiting | ConversionStep::Aborted => {}
            ConversionStep::Failed => {
                if let Some((code, text)) = self.error() {
                    view["errorCode"] = code.to_string().into();
                    view["errorMessage"] = text.into();
                }
            }
            ConversionStep::Converting { .. } => {
                view["convertedPercentage"] = percentage.into();
                view["prefix"] = (&*self.prefix).into();
                view["pageCount"] = PAGES.into();
            }
            ConversionStep::Finished => {
                view["convertedPercentage"] = percentage.into();
                view["prefix"] = (&*self.prefix).into();
                view["pageCount"] = PAGES.into();
                self.results(uuid, &mut view);
            }
        }
        view
    }

    /// What the webhook is told about the end.
    ///
    /// That of a static conversion names itself and holds none of the results, as customers of the
    /// service have seen it; whoever wants them asks for the task.
    pub(super) fn notice(&self, uuid: &str, now_ms: u64) -> Value {
        let (code, message) = self.error().unwrap_or((0, "success"));
        let mut data = json!({ "taskId": uuid, "taskType": "dynamic_conversion" });
        if self.kind == ConversionKind::Static {
            data["taskType"] = "static_conversion".into();
            data["prefixUrl"] = "".into();
            data["pageCount"] = 0.into();
            data["images"] = json!({});
        } else if self.step == ConversionStep::Finished {
            data["prefixUrl"] = (&*self.prefix).into();
            data["pageCount"] = PAGES.into();
            if self.preview {
                data["previews"] = pages(|page| self.thumbnail(uuid, page).into());
            }
        }
        data["noticeTimestamp"] = now_ms.into();
        json!({ "code": code, "message": message, "data": data })
    }

    const fn status(&self) -> &'static str {
        match self.step {
            ConversionStep::Waiting => "Waiting",
            ConversionStep::Converting { .. } => "Converting",
            ConversionStep::Finished => "Finished",
            ConversionStep::Failed => "Fail",
            ConversionStep::Aborted => "Abort",
        }
    }

    fn percentage(&self, now_ms: u64, pace_ms: u64) -> u64 {
        match self.step {
            ConversionStep::Converting { since_ms } => {
                // 100 is for those that have ended: clients take it for the end.
                let elapsed_ms = now_ms.saturating_sub(since_ms);
                (elapsed_ms.saturating_mul(100) / pace_ms.max(1)).min(99)
            }
            ConversionStep::Finished => 100,
            ConversionStep::Waiting | ConversionStep::Failed | ConversionStep::Aborted => 0,
        }
    }

    /// Why it has failed.
    fn error(&self) -> Option<ErrorCode> {
        self.fails.filter(|_| self.step == ConversionStep::Failed)
    }

    fn results(&self, uuid: &str, view: &mut Value) {
        if self.kind == ConversionKind::Static {
            let (width, height) = PAGE;
            view["images"] = pages(
                |page| json!({ "width": width, "height": height, "url": self.page(uuid, page) }),
            );
            view["resources"] = (1..=PAGES).map(|page| self.page(uuid, page)).collect();
        } else if self.preview {
            view["previews"] = pages(|page| self.thumbnail(uuid, page).into());
        }
        if self.pack {
            view["zip"] = format!("{}/{uuid}.zip", self.prefix).into();
        }
    }

    /// The `progress` of the deprecated family; it is there from the beginning, because clients
    /// read its fields unchecked.
    fn progress(&self, uuid: &str, percentage: u64) -> Value {
        let finished = self.step == ConversionStep::Finished;
        let total = if self.step == ConversionStep::Waiting { 0 } else { PAGES };
        let converted = PAGES * percentage / 100;
        let files: Vec<Value> =
            (1..=converted).filter(|_| finished).map(|page| self.file(uuid, page)).collect();
        let mut progress = json!({
            "totalPageSize": total,
            "convertedPageSize": converted,
            "convertedPercentage": percentage,
            "convertedFileList": files,
        });
        if self.kind == ConversionKind::Dynamic {
            progress["currentStep"] = match percentage {
                0..25 => "Extracting",
                25..50 => "Packaging",
                50..75 => "GeneratingPreview",
                _ => "MediaTranscode",
            }
            .into();
        }
        progress
    }

    fn file(&self, uuid: &str, page: u64) -> Value {
        let (width, height) = PAGE;
        let mut file = json!({ "width": width, "height": height });
        file["conversionFileUrl"] = match self.kind {
            ConversionKind::Static => self.page(uuid, page),
            // Clients know slides by this scheme.
            ConversionKind::Dynamic => {
                let place = self.prefix.split_once("://").map_or(&*self.prefix, |(_, rest)| rest);
                format!("pptx://{place}/{uuid}/{page}.slide")
            }
        }
        .into();
        if self.preview {
            file["preview"] = self.thumbnail(uuid, page).into();
        }
        file
    }

    fn page(&self, uuid: &str, page: u64) -> String {
        format!("{}/{uuid}/{page}.{}", self.prefix, self.format)
    }

    fn thumbnail(&self, uuid: &str, page: u64) -> String {
        format!("{}/{uuid}/preview/{page}.png", self.prefix)
    }
}

fn pages(of: impl Fn(u64) -> Value) -> Value {
    (1..=PAGES).map(|page| (page.to_string(), of(page))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(family: Family, body: Value) -> Task {
        let Value::Object(body) = body else { unreachable!() };
        Task::new(&ConversionRequest::read(family, "us-sv", "http://h/files", &body), 0)
    }

    fn ended(family: Family, body: Value) -> Task {
        let mut task = task(family, body);
        assert!(task.begin(0, 1000, 1000));
        assert_eq!(task.end(1000, 2000), Some(2000));
        task
    }

    #[test]
    fn the_percentage_is_100_at_the_end_alone() {
        let mut task = task(Family::Projector, json!({"type": "static"}));
        task.begin(0, 1000, 1000);
        assert_eq!(task.view("u", 1500, 1000)["convertedPercentage"], 50);
        assert_eq!(task.view("u", 2500, 1000)["convertedPercentage"], 99);
        task.end(1000, 2500);
        assert_eq!(task.view("u", 2500, 1000)["convertedPercentage"], 100);
    }

    #[test]
    fn a_static_conversion_gives_images() {
        let body = json!({"type": "static", "pack": true, "outputFormat": "jpg"});
        let view = ended(Family::Projector, body).view("u", 0, 1);
        assert_eq!((&view["status"], &view["pageCount"]), (&json!("Finished"), &json!(3)));
        assert_eq!(view["prefix"], "http://h/files/staticConvert");
        assert_eq!(
            view["images"]["3"],
            json!({"width": 1280, "height": 720, "url": "http://h/files/staticConvert/u/3.jpg"})
        );
        assert_eq!(view["zip"], "http://h/files/staticConvert/u.zip");
        assert!(view.get("previews").is_none() && view.get("errorCode").is_none());
    }

    #[test]
    fn a_dynamic_conversion_gives_previews_when_asked_to() {
        let view =
            ended(Family::Projector, json!({"type": "dynamic", "preview": true})).view("u", 0, 1);
        assert_eq!(view["previews"]["1"], "http://h/files/dynamicConvert/u/preview/1.png");
        let view = ended(Family::Projector, json!({"type": "dynamic"})).view("u", 0, 1);
        assert!(view.get("previews").is_none());
    }

    #[test]
    fn a_resource_whose_path_says_so_fails() {
        for (resource, code) in [
            ("https://h/fail.pptx", Some(2_050_101)),
            ("https://h/a/will-fail/b.pptx?x=1", Some(2_050_101)),
            ("fail.pptx", Some(2_050_101)),
            ("https://h/fail-2030200.pptx", Some(2_030_200)),
            ("https://h/fail-2030200/a.pptx", Some(2_030_200)),
            ("https://h/fail-1234567.pptx", Some(2_050_101)),
            ("https://h/fail-203", Some(2_050_101)),
            ("https://h/fail-\u{e9}\u{e9}\u{e9}\u{e9}", Some(2_050_101)),
            ("https://fail.example/a.pptx", None),
            ("https://h/a.pptx?signature=fail", None),
            ("https://h", None),
        ] {
            let found = failure(ConversionKind::Dynamic, resource).map(|(code, _)| code);
            assert_eq!(found, code, "{resource}");
        }
        let body = json!({"type": "dynamic", "resource": "https://h/fail.pptx"});
        let view = ended(Family::Projector, body).view("u", 0, 1);
        assert_eq!((&view["status"], &view["errorCode"]), (&json!("Fail"), &json!("2050101")));
        assert_eq!(view["errorMessage"], "file download failed");
        assert!(view.get("pageCount").is_none());
        let body = json!({"type": "static", "resource": "https://h/fail.pdf"});
        let view = ended(Family::Projector, body).view("u", 0, 1);
        assert_eq!(
            (&view["errorCode"], &view["errorMessage"]),
            (&json!("2110101"), &json!("download file failed"))
        );
    }

    #[test]
    fn the_deprecated_family_always_has_a_progress() {
        let mut waiting = task(Family::Legacy, json!({"type": "dynamic"}));
        let view = waiting.view("u", 0, 1000);
        assert_eq!(
            view["progress"],
            json!({
                "totalPageSize": 0, "convertedPageSize": 0, "convertedPercentage": 0,
                "convertedFileList": [], "currentStep": "Extracting",
            })
        );
        waiting.begin(0, 1000, 1000);
        assert_eq!(waiting.view("u", 1500, 1000)["progress"]["currentStep"], "GeneratingPreview");
        let view = ended(Family::Legacy, json!({"type": "dynamic"})).view("u", 0, 1);
        let file = &view["progress"]["convertedFileList"][0];
        assert_eq!(file["conversionFileUrl"], "pptx://h/files/dynamicConvert/u/1.slide");
        assert_eq!(view["failedReason"], "");
        let failed = json!({"type": "static", "resource": "/fail"});
        let view = ended(Family::Legacy, failed).view("u", 0, 1);
        assert_eq!(view["failedReason"], "download file failed");
        assert!(view["progress"].get("currentStep").is_none());
    }

    #[test]
    fn a_webhook_gets_numbers_and_urls() {
        let body = json!({"type": "dynamic", "preview": true});
        let notice = ended(Family::Projector, body).notice("u", 7);
        assert_eq!(
            notice,
            json!({"code": 0, "message": "success", "data": {
                "taskId": "u", "taskType": "dynamic_conversion",
                "prefixUrl": "http://h/files/dynamicConvert", "pageCount": 3,
                "previews": {
                    "1": "http://h/files/dynamicConvert/u/preview/1.png",
                    "2": "http://h/files/dynamicConvert/u/preview/2.png",
                    "3": "http://h/files/dynamicConvert/u/preview/3.png",
                },
                "noticeTimestamp": 7,
            }})
        );
        let body = json!({"type": "dynamic", "resource": "/fail"});
        let notice = ended(Family::Projector, body).notice("u", 7);
        assert_eq!(
            notice,
            json!({"code": 2_050_101, "message": "file download failed", "data": {
                "taskId": "u", "taskType": "dynamic_conversion", "noticeTimestamp": 7,
            }})
        );
    }

    #[test]
    fn the_webhook_of_a_static_conversion_names_it_and_holds_no_results() {
        for (resource, code, message) in [
            ("https://h/a.pdf", 0, "success"),
            ("https://h/fail.pdf", 2_110_101, "download file failed"),
        ] {
            let body = json!({"type": "static", "resource": resource});
            let notice = ended(Family::Projector, body).notice("u", 7);
            assert_eq!(
                notice,
                json!({"code": code, "message": message, "data": {
                    "taskId": "u", "taskType": "static_conversion",
                    "prefixUrl": "", "pageCount": 0, "images": {}, "noticeTimestamp": 7,
                }})
            );
        }
    }
}
