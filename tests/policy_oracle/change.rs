//! What happens to a configuration while a request waits for its body: a part of it goes, or gets
//! less, or nothing that counts.

use fastrand::Rng;

use crate::ask::{Request, Source};
use crate::oracle::{Role, read};
use crate::world::{Denied, NONCES, World, often, secret};

impl World {
    /// Another configuration, for a request that this one grants: what has let it in, or something
    /// beside it, is gone.
    pub(crate) fn changed(&self, rng: &mut Rng, request: &Request) -> Self {
        let mut world = self.clone();
        let person = request.credential.person.as_ref().expect("somebody who is granted it");
        let profile = person.profile.expect("and has a profile");
        match rng.u32(..6) {
            0 => {}
            1 | 2 => world.withdraw(rng, &request.credential.source),
            3 if request.operation.added => world.drop_operation(request.operation.name),
            _ => world.narrow(rng, profile),
        }
        if often(rng, 10) {
            // Who was not asked about.
            let other = rng.usize(..world.callers.len());
            world.callers[other].is_gone = true;
        }
        world
    }

    /// Takes a credential away.
    fn withdraw(&mut self, rng: &mut Rng, source: &Source) {
        match source {
            Source::Bad(_) => {}
            Source::Key(caller) => self.callers[*caller].is_gone = true,
            Source::Certificate(authority, of) => {
                if let Some(caller) = self.of_certificate(*authority, *of) {
                    self.callers[caller].certificate = None;
                    // One without any credential is no caller.
                    self.callers[caller].is_gone = !self.callers[caller].has_key;
                }
            }
            Source::Jwt { issuer, .. } => self.issuers[*issuer].is_gone = true,
            Source::Token(text) => self.withdraw_token(rng, text),
        }
    }

    /// By itself, or with all of its kind.
    fn withdraw_token(&mut self, rng: &mut Rng, text: &str) {
        let Some(says) = read(text, |access_key| Some(secret(access_key))) else { return };
        let owns = |key: &crate::world::AccessKey| key.name == says.access_key;
        let nonce = NONCES.into_iter().find(|nonce| *nonce == says.nonce);
        match (rng.u32(..3), nonce) {
            (0, _) => {
                let all = self.projects.iter_mut();
                all.filter(|project| project.keys.iter().any(owns))
                    .for_each(|project| project.token_profile = None);
            }
            (1, Some(nonce)) => {
                self.denied.push(Denied::Nonce { access_key: says.access_key, nonce });
            }
            _ => self.denied.push(Denied::Token { token: text.to_owned(), says }),
        }
    }

    fn drop_operation(&mut self, name: &str) {
        self.operations.retain(|row| row.name != name);
        let operations = &self.operations;
        // What names nothing is an error.
        let names = |entry: &String| {
            let family = entry.strip_suffix('*');
            operations.iter().any(|row| match family {
                Some(family) => row.name.starts_with(family),
                None => row.name == entry,
            })
        };
        self.profiles.iter_mut().for_each(|profile| profile.allow.retain(names));
    }

    /// Leaves a profile less than it had.
    fn narrow(&mut self, rng: &mut Rng, index: usize) {
        let profile = &mut self.profiles[index];
        match rng.u32(..3) {
            0 => profile.role = Role::Reader,
            1 => profile.life = profile.life.min(90_000),
            _ => profile.allow.retain(|_| !often(rng, 50)),
        }
    }
}
