//! The bare pipeline's message for a change: the fields of a change record that it knows.

use serde::Serialize;
use zookeeper_client::Stat;

/// A change.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    path: &'a str,
    op: &'a str,
    zxid: String,
    after: Option<After<'a>>,
}

#[derive(Debug, Serialize)]
struct After<'a> {
    data: Data<'a>,
    stat: Numbers,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    encoding: &'static str,
    size: usize,
    value: std::borrow::Cow<'a, str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Numbers {
    czxid: String,
    mzxid: String,
    pzxid: String,
    ctime: i64,
    mtime: i64,
    version: i32,
    cversion: i32,
    aversion: i32,
    ephemeral_owner: String,
    data_length: i32,
    num_children: i32,
}

fn zxid(zxid: i64) -> String {
    format!("0x{zxid:016x}")
}

impl<'a> Record<'a> {
    /// The message for a znode that was read.
    pub(super) fn of_read(path: &'a str, op: &'a str, data: &'a [u8], stat: &Stat) -> Record<'a> {
        let after = After {
            data: Data {
                encoding: "utf8",
                size: data.len(),
                value: String::from_utf8_lossy(data),
            },
            stat: Numbers {
                czxid: zxid(stat.czxid),
                mzxid: zxid(stat.mzxid),
                pzxid: zxid(stat.pzxid),
                ctime: stat.ctime,
                mtime: stat.mtime,
                version: stat.version,
                cversion: stat.cversion,
                aversion: stat.aversion,
                ephemeral_owner: zxid(stat.ephemeral_owner),
                data_length: stat.data_length,
                num_children: stat.num_children,
            },
        };
        Record {
            path,
            op,
            zxid: zxid(stat.mzxid),
            after: Some(after),
        }
    }

    /// The message for a deleted znode.
    pub(super) fn of_delete(path: &'a str, at: i64) -> Record<'a> {
        Record {
            path,
            op: "delete",
            zxid: zxid(at),
            after: None,
        }
    }
}
