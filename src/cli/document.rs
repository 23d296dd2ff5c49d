//! Documents of JSON, which go to standard output or into a file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

/// Where a document goes.
#[derive(Args)]
pub struct DocumentFile {
    /// The file to write; standard output when left out.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl DocumentFile {
    /// Prints the document, or writes it to the file.
    pub(super) fn write(&self, document: &Value, output: &mut dyn Write) -> anyhow::Result<()> {
        let text = format!("{document:#}\n");
        let Some(path) = &self.output else { return Ok(output.write_all(text.as_bytes())?) };
        let failed = |path: &Path| format!("{} cannot be written", path.display());
        fs::write(path, text).with_context(|| failed(path))
    }
}
