//! Rights and owner of the file of a Unix socket.

use std::path::Path;

use super::build::Build;
use super::file::{KeyPath, Parse, ValueError};
use crate::server::SocketFile;
use crate::text;

/// The rights of the file.
pub(super) struct SocketMode(pub(super) u32);

impl Parse for SocketMode {
    const ALLOWED: &'static str = "rights in octal digits such as \"0660\"";
    const PATTERN: &'static str = "^0?[0-7]{3}$";
    const NO_INTEGER: &'static str =
        "found an integer, of which nobody knows whether it is octal: write it in quotes";

    fn text(text: &str) -> Result<Self, ValueError> {
        let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
        let octal = digits.len() == 3 && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let mode = u32::from_str_radix(digits, 8).ok().filter(|_| octal);
        mode.map(Self).ok_or_else(|| "found another string".into())
    }
}

/// Its user and its group, by name or number.
pub(super) struct SocketOwner {
    user: Option<String>,
    group: Option<String>,
}

impl Parse for SocketOwner {
    const ALLOWED: &'static str = "an owner such as \"proxy\", \"proxy:www-data\" or \":www-data\"";
    const PATTERN: &'static str = "^([^:]+(:[^:]+)?|:[^:]+)$";

    fn text(text: &str) -> Result<Self, ValueError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let empty = user.is_empty() && group.is_none();
        if empty || group.is_some_and(|group| group.is_empty() || group.contains(':')) {
            return Err("found another string".into());
        }
        let user = Some(user.to_owned()).filter(|user| !user.is_empty());
        Ok(Self { user, group: group.map(str::to_owned) })
    }
}

impl Build<'_> {
    /// The numbers of an owner on this machine.
    pub(super) fn socket_owner(
        &mut self,
        path: &KeyPath,
        owner: Option<&SocketOwner>,
    ) -> SocketFile {
        let mut find = |name: &Option<String>, file: &str, what: &str| {
            let name = name.as_ref()?;
            let table = text::read(Path::new(file)).unwrap_or_default();
            let found = number(name, &String::from_utf8_lossy(&table));
            let why = format_args!("names no {what} of this machine ({file}): write its number");
            self.wrong_if(found.is_none(), path, why);
            found
        };
        let Some(SocketOwner { user, group }) = owner else { return SocketFile::default() };
        let user = find(user, "/etc/passwd", "user");
        let group = find(group, "/etc/group", "group");
        SocketFile { user, group, ..SocketFile::default() }
    }
}

/// A number as it is, or that of a name in a table of the system: `name:x:number:...`.
fn number(name: &str, table: &str) -> Option<u32> {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return name.parse().ok();
    }
    let mut rows = table.lines().map(|line| line.split(':'));
    let mut row = rows.find_map(|mut row| (row.next() == Some(name)).then_some(row))?;
    row.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_octal_and_written_as_text() {
        for (text, mode) in [("0660", 0o660), ("600", 0o600), ("0777", 0o777), ("000", 0)] {
            assert_eq!(SocketMode::text(text).ok().map(|mode| mode.0), Some(mode), "{text}");
        }
        for text in ["", "660 ", "0o660", "880", "66", "00660", "+660", "rw"] {
            assert!(SocketMode::text(text).is_err(), "{text}");
        }
        assert!(SocketMode::integer(660).is_err());
    }

    #[test]
    fn an_owner_is_a_user_a_group_or_both() {
        for good in ["proxy", "proxy:www-data", ":www-data", "0:0"] {
            assert!(SocketOwner::text(good).is_ok(), "{good}");
        }
        for bad in ["", ":", "proxy:", "a:b:c"] {
            assert!(SocketOwner::text(bad).is_err(), "{bad}");
        }
        let table = "root:x:0:0:root:/root:/bin/sh\nproxy:x:13:14::/:/bin/false\n";
        assert_eq!(number("proxy", table), Some(13));
        assert_eq!((number("77", ""), number("nobody", table)), (Some(77), None));
    }
}
