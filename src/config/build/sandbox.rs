//! What a variable cannot say beside `serve --sandbox`: it would be ignored, and whoever set it would
//! believe that it counts.

use super::Build;
use crate::config::place::KeyPath;
use crate::config::raw;

impl Build<'_> {
    /// Refuses what the command itself decides.
    pub(super) fn refuse_beside_the_sandbox(&mut self, raw: &raw::File) {
        if !self.sandbox {
            return;
        }
        let service = "the sandbox is the whiteboard service, and is spoken to in the clear";
        let callers = "the sandbox has two callers of its own, whose keys --keys FILE keeps";
        let upstream = KeyPath::of(&["upstream"]);
        let set = [
            (raw.upstream.url.is_some(), upstream.key("url"), service),
            (raw.upstream.ca.is_some(), upstream.key("ca"), service),
            (raw.upstream.http2.is_some(), upstream.key("http2"), service),
            (!raw.callers.is_empty(), KeyPath::of(&["callers"]), callers),
        ];
        for (_, path, why) in set.into_iter().filter(|(set, ..)| *set) {
            let message = format_args!(
                "means nothing with --sandbox: {why}. Leave it out, or serve a configuration of \
                 your own with --config"
            );
            self.report.wrong(&path, message);
        }
    }
}
