//! The rooms of the project, each in its region.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

use super::id::{APP_UUID, KEPT, TEAM_UUID, room_uuid, task_uuid};
use super::scenes::Scenes;
use crate::api::whole;
use crate::sandbox::refusal::SandboxError;
use crate::sandbox::time::iso;

/// How many rooms are listed when the request does not say.
const LISTED: usize = 100;

#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Room {
    region: Box<str>,
    /// The access key that created it.
    pub(in crate::sandbox) access_key: Box<str>,
    name: Option<String>,
    is_record: bool,
    is_ban: bool,
    limit: u64,
    created_at_ms: u64,
    scenes: Scenes,
}

/// Every room; ordered by uuid, as the list is.
#[derive(Default)]
pub(in crate::sandbox) struct RoomStore {
    rooms: BTreeMap<String, Room>,
    /// The oldest first, to be forgotten.
    by_age: VecDeque<String>,
}

impl RoomStore {
    /// Creates a room of a body that has been checked.
    pub(in crate::sandbox) fn create(
        &mut self,
        region: &str,
        access_key: &str,
        body: &Map<String, Value>,
        now_ms: u64,
    ) -> Value {
        let flag = |name: &str| body.get(name).and_then(Value::as_bool).unwrap_or_default();
        let room = Room {
            region: region.into(),
            access_key: access_key.into(),
            name: body.get("name").and_then(Value::as_str).map(str::to_owned),
            is_record: flag("isRecord"),
            is_ban: false,
            limit: body.get("limit").and_then(whole).unwrap_or_default(),
            created_at_ms: now_ms,
            scenes: Scenes::default(),
        };
        let uuid = room_uuid(now_ms);
        let created = room.view(&uuid);
        if self.by_age.len() >= KEPT
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.rooms.remove(&oldest);
        }
        self.by_age.push_back(uuid.clone());
        self.rooms.insert(uuid, room);
        created
    }

    /// The rooms of a region from one on, itself included.
    pub(in crate::sandbox) fn list(
        &self,
        region: &str,
        begin: Option<&str>,
        limit: Option<usize>,
    ) -> Value {
        let from = begin.unwrap_or_default().to_owned();
        let rooms = self.rooms.range(from..).filter(|(_, room)| *room.region == *region);
        rooms.take(limit.unwrap_or(LISTED)).map(|(uuid, room)| room.view(uuid)).collect()
    }

    /// A room of a region.
    pub(in crate::sandbox) fn find(
        &mut self,
        uuid: &str,
        region: &str,
    ) -> Result<&mut Room, SandboxError> {
        let room = self.rooms.get_mut(uuid).filter(|room| *room.region == *region);
        room.ok_or(SandboxError::NoRoom)
    }
}

impl Room {
    /// The room as the API shows it.
    pub(in crate::sandbox) fn view(&self, uuid: &str) -> Value {
        let mut view = json!({
            "uuid": uuid,
            "teamUUID": TEAM_UUID,
            "appUUID": APP_UUID,
            "isRecord": self.is_record,
            "isBan": self.is_ban,
            "createdAt": iso(self.created_at_ms),
            "limit": self.limit,
        });
        if let Some(name) = &self.name {
            view["name"] = name.as_str().into();
        }
        view
    }

    /// Bans, or lifts the ban.
    pub(in crate::sandbox) fn ban(&mut self, body: &Map<String, Value>) {
        self.is_ban = body.get("isBan").and_then(Value::as_bool).unwrap_or(self.is_ban);
    }

    pub(in crate::sandbox) fn list_scenes(&self, directory: Option<&str>) -> Value {
        json!(self.scenes.list(directory))
    }

    pub(in crate::sandbox) fn add_scenes(
        &mut self,
        body: &Map<String, Value>,
    ) -> Result<Value, SandboxError> {
        let directory = body.get("path").and_then(Value::as_str).unwrap_or("/");
        let scenes = body.get("scenes").and_then(Value::as_array);
        self.scenes.add(directory, scenes.map_or(&[][..], Vec::as_slice))?;
        Ok(json!({}))
    }

    pub(in crate::sandbox) fn switch_scene(
        &mut self,
        body: &Map<String, Value>,
    ) -> Result<Value, SandboxError> {
        let path = body.get("scenePath").and_then(Value::as_str).unwrap_or("/");
        Ok(json!({ "currentScenePath": self.scenes.switch(path)? }))
    }

    /// A picture of one scene, `/init` when none is named.
    pub(in crate::sandbox) fn screenshot(
        &self,
        uuid: &str,
        base: &str,
        path: Option<&str>,
    ) -> Result<Value, SandboxError> {
        self.scenes.scene(path)?;
        Ok(screenshot(uuid, base))
    }

    /// A picture of each scene directly in a directory, the current one when none is named.
    pub(in crate::sandbox) fn screenshots(
        &self,
        uuid: &str,
        base: &str,
        directory: Option<&str>,
    ) -> Value {
        self.scenes.list(directory).iter().map(|_| screenshot(uuid, base)).collect()
    }
}

/// The region is that of the storage, which is none of the API's.
fn screenshot(room: &str, base: &str) -> Value {
    let key = format!("screenshots/{room}/{}.png", task_uuid());
    let url = format!("{base}/{key}");
    json!({ "url": url, "key": key, "bucket": "sandbox", "region": "sandbox" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(rooms: &mut RoomStore, region: &str, body: Value) -> Value {
        let Value::Object(body) = body else { unreachable!() };
        rooms.create(region, "AK", &body, 1_700_000_000_123)
    }

    fn uuid(room: &Value) -> String {
        room["uuid"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_room_has_the_documented_fields_and_defaults() {
        let room = created(&mut RoomStore::default(), "us-sv", json!({}));
        assert_eq!(room["createdAt"], "2023-11-14T22:13:20.123Z");
        assert_eq!((&room["isRecord"], &room["isBan"]), (&json!(false), &json!(false)));
        assert_eq!((&room["limit"], room.get("name")), (&json!(0), None));
        assert_eq!((&room["teamUUID"], &room["appUUID"]), (&json!(TEAM_UUID), &json!(APP_UUID)));
        let uuid = uuid(&room);
        assert!(uuid.len() == 32 && uuid.bytes().all(|b| b.is_ascii_hexdigit()), "{uuid}");
        assert_eq!(&uuid[12..13], "1", "a version-1 UUID");
    }

    #[test]
    fn what_was_asked_for_is_kept() {
        let body = json!({"isRecord": true, "limit": 7, "name": "Algebra"});
        let room = created(&mut RoomStore::default(), "us-sv", body);
        assert_eq!((&room["isRecord"], &room["limit"]), (&json!(true), &json!(7)));
        assert_eq!(room["name"], "Algebra");
    }

    #[test]
    fn a_room_lives_in_its_region() {
        let mut rooms = RoomStore::default();
        let uuid = uuid(&created(&mut rooms, "us-sv", json!({})));
        assert!(rooms.find(&uuid, "us-sv").is_ok());
        assert_eq!(rooms.find(&uuid, "sg").unwrap_err(), SandboxError::NoRoom);
        assert_eq!(rooms.list("sg", None, None), json!([]));
    }

    #[test]
    fn the_list_is_ordered_and_begins_at_the_room_that_is_named() {
        let mut rooms = RoomStore::default();
        for _ in 0..150 {
            created(&mut rooms, "us-sv", json!({}));
        }
        let all = rooms.list("us-sv", None, Some(1000));
        let all: Vec<String> = all.as_array().unwrap().iter().map(uuid).collect();
        assert_eq!(all.len(), 150);
        assert!(all.is_sorted());
        assert_eq!(rooms.list("us-sv", None, None).as_array().unwrap().len(), 100);
        let page = rooms.list("us-sv", Some(&all[100]), Some(2));
        let page: Vec<String> = page.as_array().unwrap().iter().map(uuid).collect();
        assert_eq!(page, all[100..102]);
    }

    #[test]
    fn a_room_is_banned_and_pictured() {
        let object = |value| match value {
            Value::Object(object) => object,
            other => panic!("no object: {other}"),
        };
        let mut rooms = RoomStore::default();
        let uuid = uuid(&created(&mut rooms, "us-sv", json!({})));
        let room = rooms.find(&uuid, "us-sv").unwrap();
        room.ban(&object(json!({"isBan": true})));
        assert_eq!(room.view(&uuid)["isBan"], true);
        let scenes = json!({"path": "/a", "scenes": [{"name": "1"}, {"name": "2"}]});
        assert_eq!(room.add_scenes(&object(scenes)).unwrap(), json!({}));
        let switched = room.switch_scene(&object(json!({"scenePath": "/a/2"}))).unwrap();
        assert_eq!(switched, json!({"currentScenePath": ["a", "2"]}));
        assert_eq!(room.list_scenes(None), json!(["/a/1", "/a/2"]));
        let picture = room.screenshot(&uuid, "http://h/files", None).unwrap();
        let url = format!("http://h/files/{}", picture["key"].as_str().unwrap());
        assert_eq!(picture["url"], url);
        assert!(room.screenshot(&uuid, "", Some("/a")).is_err(), "a directory is no scene");
        assert_eq!(room.screenshots(&uuid, "", None).as_array().unwrap().len(), 2);
    }

    #[test]
    fn the_oldest_room_is_forgotten() {
        let mut rooms = RoomStore::default();
        let first = uuid(&created(&mut rooms, "us-sv", json!({})));
        for _ in 0..KEPT {
            created(&mut rooms, "us-sv", json!({}));
        }
        assert_eq!(rooms.rooms.len(), KEPT);
        assert!(rooms.find(&first, "us-sv").is_err());
    }
}
