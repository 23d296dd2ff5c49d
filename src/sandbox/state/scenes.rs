//! The scenes of a room: absolute paths, directories as far as scenes are in them, and the one
//! that is shown.

use serde_json::{Map, Value};

use crate::sandbox::refusal::SandboxError;

/// The scene that every room begins with.
const INIT: &str = "/init";

/// The most scenes of a room. The service states no bound; this one keeps the sandbox bounded.
const MOST: usize = 1_000;

/// The scenes of a room, in the order in which they came.
#[derive(Clone, Debug)]
pub(super) struct Scenes {
    paths: Vec<Box<str>>,
    current: Box<str>,
}

impl Default for Scenes {
    fn default() -> Self {
        Self { paths: vec![INIT.into()], current: INIT.into() }
    }
}

impl Scenes {
    /// The paths of the scenes directly in a directory; without one, in that of the current scene.
    pub(super) fn list(&self, directory: Option<&str>) -> Vec<&str> {
        let directory = directory.map_or_else(|| parent(&self.current).to_owned(), normal);
        self.paths.iter().map(|path| &**path).filter(|path| parent(path) == directory).collect()
    }

    /// The path of a scene, in its normal form; the first scene when none is named.
    pub(super) fn scene(&self, path: Option<&str>) -> Result<String, SandboxError> {
        let path = normal(path.unwrap_or(INIT));
        if self.holds(&path) { Ok(path) } else { Err(SandboxError::NoScene(shown(&path))) }
    }

    /// Adds scenes to a directory; one whose name is there already is overwritten.
    pub(super) fn add(&mut self, directory: &str, scenes: &[Value]) -> Result<(), SandboxError> {
        let directory = normal(directory);
        if let Some(scene) = self.paths.iter().find(|path| is_within(&directory, path)) {
            return Err(SandboxError::Request(format!(
                "`path` must be a directory, and {} is a scene",
                shown(scene)
            )));
        }
        let mut added: Vec<Box<str>> = Vec::with_capacity(scenes.len());
        for (index, scene) in scenes.iter().enumerate() {
            let path = join(&directory, &name(index, scene.as_object())?);
            if self.is_directory(&path) {
                let path = shown(&path);
                return Err(SandboxError::Request(format!(
                    "`scenes[{index}]`: {path} is a directory"
                )));
            }
            if !self.holds(&path) && !added.iter().any(|other| **other == *path) {
                added.push(path.into());
            }
        }
        if self.paths.len() + added.len() > MOST {
            return Err(SandboxError::Request(format!("a room has at most {MOST} scenes here")));
        }
        self.paths.append(&mut added);
        Ok(())
    }

    /// Shows another scene; the segments of its path.
    pub(super) fn switch(&mut self, path: &str) -> Result<Vec<&str>, SandboxError> {
        let path = normal(path);
        if self.is_directory(&path) {
            let path = shown(&path);
            return Err(SandboxError::Request(format!("{path} is a directory, not a scene")));
        }
        self.current = self.scene(Some(&path))?.into();
        Ok(self.current.split('/').skip(1).collect())
    }

    fn holds(&self, path: &str) -> bool {
        self.paths.iter().any(|held| **held == *path)
    }

    fn is_directory(&self, path: &str) -> bool {
        path == "/" || self.paths.iter().any(|held| **held != *path && is_within(held, path))
    }
}

/// The name of a scene that is to be added. Clients may leave it out; the scene then gets one that
/// no client would choose.
fn name(index: usize, scene: Option<&Map<String, Value>>) -> Result<String, SandboxError> {
    match scene.and_then(|scene| scene.get("name")).and_then(Value::as_str) {
        None | Some("") => Ok(format!("{:016x}", fastrand::u64(..))),
        Some(name) if name.contains('/') => {
            Err(SandboxError::Request(format!("`scenes[{index}].name` must not hold a `/`")))
        }
        Some(name) => Ok(name.to_owned()),
    }
}

/// Without empty segments and the slash at the end: `/a//b/` is `/a/b`.
fn normal(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        normal.push('/');
        normal.push_str(segment);
    }
    if normal.is_empty() { "/".to_owned() } else { normal }
}

fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

/// The directory of a path in normal form.
fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(at) => &path[..at],
    }
}

/// Whether a path is that of `above`, or below it.
fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path for a message: a caller's text is not repeated raw.
fn shown(path: &str) -> String {
    let path: String = path.chars().take(80).collect();
    path.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn room() -> Scenes {
        let mut scenes = Scenes::default();
        scenes.add("/test/", &[json!({"name": "page1"}), json!({"name": "page2"})]).unwrap();
        scenes
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, SandboxError>) -> String {
        let refusal = result.unwrap_err();
        format!("{} {refusal}", refusal.status().as_u16())
    }

    #[test]
    fn a_new_room_shows_its_first_scene() {
        assert_eq!(Scenes::default().list(None), ["/init"]);
        assert_eq!(Scenes::default().list(Some("/")), ["/init"]);
    }

    #[test]
    fn scenes_are_added_to_a_directory_that_is_made() {
        assert_eq!(room().list(Some("/test")), ["/test/page1", "/test/page2"]);
        assert_eq!(room().list(None), ["/init"], "that of the current scene");
        assert!(room().list(Some("/none")).is_empty());
    }

    #[test]
    fn a_scene_of_a_name_that_is_there_is_overwritten() {
        let mut room = room();
        room.add("/test", &[json!({"name": "page2"}), json!({"name": "page3"})]).unwrap();
        assert_eq!(room.list(Some("/test")), ["/test/page1", "/test/page2", "/test/page3"]);
    }

    #[test]
    fn a_scene_without_a_name_gets_one() {
        let mut room = room();
        room.add("/test", &[json!({}), json!({"name": ""})]).unwrap();
        assert_eq!(room.list(Some("/test")).len(), 4);
    }

    #[test]
    fn a_scene_is_no_directory_and_a_directory_no_scene() {
        let mut room = room();
        assert_eq!(
            refused(room.add("/init", &[json!({"name": "a"})])),
            "400 `path` must be a directory, and /init is a scene"
        );
        assert!(refused(room.add("/init/deep", &[json!({})])).starts_with("400 "));
        assert!(refused(room.add("/", &[json!({"name": "test"})])).ends_with("is a directory"));
        assert!(refused(room.add("/", &[json!({"name": "a/b"})])).contains("scenes[0].name"));
    }

    #[test]
    fn only_a_scene_can_be_shown() {
        let mut room = room();
        assert_eq!(room.switch("/test/page1").unwrap(), ["test", "page1"]);
        assert_eq!(room.list(None), ["/test/page1", "/test/page2"], "the directory follows");
        assert!(refused(room.switch("/test")).starts_with("400 /test is a directory"));
        assert!(refused(room.switch("/")).starts_with("400 "));
        assert_eq!(refused(room.switch("/te")), "404 scene /te does not exist");
    }

    #[test]
    fn a_room_has_an_end() {
        let mut room = room();
        let many: Vec<Value> = (0..MOST).map(|index| json!({"name": index.to_string()})).collect();
        assert!(refused(room.add("/many", &many)).contains("at most 1000"));
        assert!(room.list(Some("/many")).is_empty(), "nothing is changed then");
    }
}
