//! The arguments of `serve`.

use std::path::PathBuf;

use clap::Args;

/// The arguments of `serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// The configuration; gateway.toml here, then in /etc/whiteboard-gateway, when left out.
    #[arg(long, short, value_name = "FILE", conflicts_with = "sandbox")]
    pub config: Option<PathBuf>,
    /// Serve in front of the embedded sandbox, with keys made for this run: nothing else is needed.
    #[arg(long)]
    pub sandbox: bool,
    /// Keep the keys of the sandbox's two callers in this file, which is made when it is not there:
    /// the next run has the same.
    #[arg(long, value_name = "FILE", requires = "sandbox")]
    pub keys: Option<PathBuf>,
    /// The port of the sandbox on 127.0.0.1; a free one when left out.
    #[arg(long, value_name = "PORT", requires = "sandbox")]
    pub sandbox_port: Option<u16>,
}
