//! A script, and the two commands that run it: by its digest, and whole for a server that does not
//! know it yet.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use redis::{Cmd, ToRedisArgs, cmd};

/// A script in Lua.
pub struct Script {
    text: &'static str,
    /// Of SHA-1, in hex: the name that servers give it.
    digest: String,
}

impl Script {
    /// Takes a text.
    pub fn new(text: &'static str) -> Self {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text, digest }
    }

    pub(super) fn by_digest<A: ToRedisArgs>(&self, keys: &[&str], arguments: &[A]) -> Cmd {
        command("EVALSHA", &self.digest, keys, arguments)
    }

    pub(super) fn whole<A: ToRedisArgs>(&self, keys: &[&str], arguments: &[A]) -> Cmd {
        command("EVAL", self.text, keys, arguments)
    }
}

fn command<A: ToRedisArgs>(name: &str, script: &str, keys: &[&str], arguments: &[A]) -> Cmd {
    let mut command = cmd(name);
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(*key);
    }
    for argument in arguments {
        command.arg(argument);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_named_by_its_digest() {
        let script = Script::new("return 1");
        let packed = script.by_digest(&["k"], &[7]).get_packed_command();
        let packed = String::from_utf8(packed).unwrap();
        assert!(packed.contains("e0e1f9fabfc9d4800c877a703b823ac0578ff8db"), "{packed}");
        assert!(packed.ends_with("\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\n7\r\n"), "{packed}");
    }
}
