//! The slots of a cluster: which one a key is in, and which server has it.

use redis::Value;

use super::Address;

/// How many slots there are.
const SLOTS: u16 = 16_384;

/// What `CLUSTER SLOTS` says: ranges with their master first. A host that is omitted is the one
/// that was asked.
pub(super) fn ranges(value: Value, asked: &Address) -> Option<Vec<(u16, Address)>> {
    let Value::Array(ranges) = value else { return None };
    let range = |range: Value| {
        let Value::Array(parts) = range else { return None };
        let (Value::Int(last), Value::Array(master)) = (parts.get(1)?, parts.get(2)?) else {
            return None;
        };
        let host: Option<String> = redis::from_redis_value(master.first()?.clone()).ok()?;
        let host = host.filter(|host| !host.is_empty() && host != "?");
        let Value::Int(port) = master.get(1)? else { return None };
        let address = Address {
            host: host.unwrap_or_else(|| asked.host.clone()),
            port: u16::try_from(*port).ok()?,
        };
        Some((u16::try_from(*last).ok()?, address))
    };
    let mut ranges = ranges.into_iter().map(range).collect::<Option<Vec<_>>>()?;
    ranges.sort();
    (!ranges.is_empty()).then_some(ranges)
}

/// The slot of a key: of what stands in its first braces, when something does.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let hashed = match tag {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    };
    // CRC-16 as in XMODEM: the polynomial 0x1021, from 0.
    let crc = hashed.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_that_of_the_tag() {
        // The check value of the specification, and what a server answers to CLUSTER KEYSLOT.
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("foo"), 12182);
        assert_eq!(slot("wbg:{foo}:caller:1"), 12182);
        assert_eq!(slot("{}foo"), slot("{}foo"));
        assert_ne!(slot("{}foo"), slot("{}bar"), "empty braces are no tag");
    }

    fn address(port: u16) -> Address {
        Address { host: "192.0.2.1".to_owned(), port }
    }

    #[test]
    fn the_answer_of_a_server_is_read() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let master = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range =
            |first, last, master| Value::Array(vec![Value::Int(first), Value::Int(last), master]);
        let value = Value::Array(vec![
            range(8192, 16383, master(text("192.0.2.1"), 2)),
            range(0, 8191, master(Value::Nil, 1)),
        ]);
        let read = ranges(value, &address(9)).unwrap();
        assert_eq!(read, [(8191, address(1)), (16383, address(2))]);
        assert_eq!(ranges(Value::Array(Vec::new()), &address(9)), None);
        assert_eq!(ranges(Value::Array(vec![Value::Nil]), &address(9)), None);
    }
}
