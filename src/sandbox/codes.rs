//! The error codes of conversions, with the texts that Agora's page on file conversion gives them.

/// A code, and what `errorMessage` or a webhook says with it.
pub(super) type ErrorCode = (u32, &'static str);

/// All of the page, in its order.
pub(super) const CODES: [ErrorCode; 36] = [
    (2_010_201, "unsupported file format"),
    (2_010_202, "dynamic conversion only support pptx"),
    (2_010_203, "the number of tasks exceeds limit"),
    (2_010_605, "task not found"),
    (2_011_201, "task timeout"),
    (2_010_606, "team not found"),
    (2_010_607, "modify priority for running task is not allowed"),
    (2_011_301, "task not found"),
    (2_030_100, "download from OSS file failed"),
    (2_030_101, "unzip file failed, unsupported file in PPT"),
    (2_030_102, "can't find media file from unzip PPT"),
    (2_030_200, "read xml file failed"),
    (2_030_201, "formula resolve failed, please check animation of PPT"),
    (2_030_202, "unsupported formula type, please check animation of PPT"),
    (2_040_005, "task timeout"),
    (2_050_099, "unknown error"),
    (2_050_100, "unsupported file type"),
    FILE_DOWNLOAD_FAILED,
    (2_050_102, "file is empty"),
    (2_050_107, "file url encode failed"),
    (2_050_201, "init presentation parser failed"),
    (2_050_299, "unknown parsing error"),
    (2_050_401, "generate preview failed"),
    (2_060_402, "fonts in the rules that are not provided"),
    (2_090_304, "upload file to custom storage failed"),
    (2_090_305, "not supported storage provider"),
    (2_110_099, "unknown error"),
    (2_110_100, "unsupported file type"),
    DOWNLOAD_FILE_FAILED,
    (2_110_102, "file is empty"),
    (2_110_107, "file url encode failed"),
    (2_110_108, "get file extension failed"),
    (2_110_201, "init presentation parser failed"),
    (2_110_202, "init word parser failed"),
    (2_120_201, "file is empty"),
    (2_120_301, "download file failed"),
];

/// How a dynamic conversion fails whose source cannot be had.
pub(super) const FILE_DOWNLOAD_FAILED: ErrorCode = (2_050_101, "file download failed");

/// How a static one does.
pub(super) const DOWNLOAD_FILE_FAILED: ErrorCode = (2_110_101, "download file failed");

/// A code in digits, with its text.
pub(super) fn find(digits: &str) -> Option<ErrorCode> {
    let code: u32 = digits.parse().ok()?;
    CODES.into_iter().find(|(known, _)| *known == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_there_once() {
        let codes: std::collections::BTreeSet<u32> = CODES.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes.len(), CODES.len());
        assert_eq!(find("2010203"), Some((2_010_203, "the number of tasks exceeds limit")));
        assert_eq!(find("2010204"), None);
    }
}
