//! A Redis master, its replica and a sentinel that watches them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::process::{Process, free_port};
use crate::time::wait_until;

/// The servers; the first and the second take turns.
pub(crate) struct Store {
    folder: PathBuf,
    ports: [u16; 2],
    servers: [Option<Process>; 2],
    _sentinel: Process,
    pub(crate) sentinel: u16,
}

impl Store {
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder.join("store");
        fs::create_dir(&folder)?;
        let [first, second, sentinel] = [free_port()?, free_port()?, free_port()?];
        let kept = |port: u16, more: &str| {
            let path = folder.join(format!("{port}.conf"));
            let text = format!(
                "bind 127.0.0.1\nport {port}\ndir {}\nsave \"\"\nappendonly no\n\
                 dbfilename {port}.rdb\nrepl-diskless-sync-delay 0\n{more}\n",
                folder.display()
            );
            fs::write(path, text)
        };
        kept(first, "")?;
        kept(second, &format!("replicaof 127.0.0.1 {first}"))?;
        let text = format!(
            "bind 127.0.0.1\nport {sentinel}\ndir {}\nsentinel monitor gateways 127.0.0.1 {first} 1\n\
             sentinel down-after-milliseconds gateways 2000\n\
             sentinel failover-timeout gateways 3000\n",
            folder.display()
        );
        fs::write(folder.join(format!("{sentinel}.conf")), text)?;
        let servers = [first, second].map(|port| server("redis-server", &folder, port));
        let [one, two] = servers;
        let store = Self {
            servers: [Some(one?), Some(two?)],
            _sentinel: server("redis-sentinel", &folder, sentinel)?,
            ports: [first, second],
            sentinel,
            folder,
        };
        let stands = || {
            ask(first, &["INFO", "replication"]).is_ok_and(|text| text.contains("state=online"))
                && ask(sentinel, &["SENTINEL", "MASTER", "gateways"])
                    .is_ok_and(|text| text.contains("num-slaves\r\n$1\r\n1"))
        };
        wait_until("the store stands", Duration::from_secs(20), async || Ok(stands())).await?;
        Ok(store)
    }

    /// Which of them is the master.
    fn master(&self) -> anyhow::Result<usize> {
        let said = ask(self.sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "gateways"])?;
        let is = |port: &u16| said.contains(&format!("\r\n{port}\r\n"));
        self.ports.iter().position(is).context("no sentinel knows a master")
    }

    /// Kills the master.
    pub(crate) fn kill_master(&mut self) -> anyhow::Result<()> {
        let master = self.master()?;
        self.servers[master] = None;
        Ok(())
    }

    /// Starts what was killed: sentinels make it a replica.
    pub(crate) fn revive(&mut self) -> anyhow::Result<()> {
        for (port, process) in self.ports.into_iter().zip(&mut self.servers) {
            if process.is_none() {
                *process = Some(server("redis-server", &self.folder, port)?);
            }
        }
        Ok(())
    }

    /// Stops the master, unless it has been killed.
    pub(crate) fn stop_master(&self) -> anyhow::Result<()> {
        let master = &self.servers[self.master()?];
        master.as_ref().map_or(Ok(()), |master| master.signal("STOP"))
    }

    /// Lets those go on that were stopped.
    pub(crate) fn go_on(&self) -> anyhow::Result<()> {
        self.servers.iter().flatten().try_for_each(|server| server.signal("CONT"))
    }

    /// Whether there is a replica that a failover could choose.
    pub(crate) fn has_replica(&self) -> bool {
        let Ok(master) = self.master() else { return false };
        ask(self.ports[master], &["INFO", "replication"])
            .is_ok_and(|text| text.contains("role:master") && text.contains("state=online"))
    }
}

fn server(program: &str, folder: &Path, port: u16) -> anyhow::Result<Process> {
    let mut command = Command::new(program);
    command.arg(folder.join(format!("{port}.conf")));
    Process::start(command, folder.join(format!("{port}.log")))
}

/// What a server answers, as it comes over the wire.
fn ask(port: u16, words: &[&str]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    let words = format!("*{}\r\n{}", words.len(), words.iter().map(word).collect::<String>());
    stream.write_all(words.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
