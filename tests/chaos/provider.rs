//! An identity provider that gives out its keys over HTTP, and can hang.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use crate::time::scenario_delay;

/// It, for as long as the run lasts.
pub(crate) struct Provider {
    pub(crate) url: String,
    /// It takes requests and answers none.
    pub(crate) hangs: Rc<Cell<bool>>,
}

impl Provider {
    /// Gives out the keys that are in this folder.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/keys", listener.local_addr()?);
        let (hangs, keys) = (Rc::<Cell<bool>>::default(), folder.join("keys.json"));
        let hang = Rc::clone(&hangs);
        spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                spawn_local(answer(socket, keys.clone(), Rc::clone(&hang)));
            }
        });
        Ok(Self { url, hangs })
    }
}

async fn answer(mut socket: TcpStream, keys: PathBuf, hangs: Rc<Cell<bool>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read_buf(&mut head).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
    }
    while hangs.get() {
        scenario_delay(Duration::from_millis(50)).await;
    }
    let keys = std::fs::read_to_string(keys).unwrap_or_default();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{keys}", keys.len());
    _ = socket.write_all(answer.as_bytes()).await;
}
